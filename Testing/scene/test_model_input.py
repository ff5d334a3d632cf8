"""What a model sees, as a volume node: by a real worker, on an oblique and flipped grid."""

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel")

from numpy.testing import assert_allclose  # noqa: E402
from phantoms import show_all  # noqa: E402

from ct3d.cards import load_card  # noqa: E402
from ct3d.errors import InvalidRequest, TaskCancelled  # noqa: E402
from ct3d.imaging.prepare import prepare  # noqa: E402
from ct3d.imaging.volume import ijk_from_ras, ras_from_kji  # noqa: E402
from CT3DAssistantLib.model_input import input_node, input_nodes, is_input, saw_of  # noqa: E402
from CT3DAssistantLib.ownership import remove_case  # noqa: E402
from CT3DAssistantLib.scene import (  # noqa: E402
    add_volume,
    analysed_volumes,
    load_mrb,
    save_mrb,
    volume_from_node,
)

CARD = "anatomy_rules"


@pytest.fixture(scope="module")
def a_sitting(worker_python):
    from CT3DAssistantLib.session import Sitting

    with Sitting(worker_python) as sitting:
        yield sitting


@pytest.fixture
def a_node(a_sitting, a_phantom):
    a_sitting.scene.Clear(0)
    return show_all(a_sitting.scene, a_phantom)


def test_the_node_holds_what_inference_would_see_at_the_same_place(a_sitting, a_node, a_phantom):
    node = a_sitting.finish(a_sitting.logic.show_input(a_node, CARD))
    seen, way_back = prepare(volume_from_node(a_node), load_card(CARD).input)
    shown = volume_from_node(node)
    assert np.array_equal(shown.array, seen.array)
    assert_allclose(shown.ijk_to_ras, seen.ijk_to_ras, atol=1e-9)
    assert node.GetName() == "CT as Anatomy by rules saw it"
    saw = saw_of(node)
    assert (saw.orientation_to, saw.spacing_to_kji_mm) == ("RAS", (2.0, 2.0, 2.0))
    assert saw == way_back.saw(CARD)
    i, j, k = np.round(ijk_from_ras(a_phantom.centers_ras["right_lung"][None], shown.ijk_to_ras)[0]).astype(
        int
    )
    assert shown.array[k, j, i] < -700  # the ball of air is where it was
    lung = ras_from_kji(np.argwhere(abs(shown.array + 850) < 20), shown.ijk_to_ras)
    away = np.linalg.norm(lung[:, None] - list(a_phantom.centers_ras.values())[:2], axis=2).min(axis=1)
    assert np.percentile(away, 90) < 8.5


def test_asked_again_it_is_the_same_node_until_the_volume_changes(a_sitting, a_node):
    first = a_sitting.finish(a_sitting.logic.show_input(a_node, CARD))
    assert a_sitting.finish(a_sitting.logic.show_input(a_node, CARD)) is first
    slicer.util.updateVolumeFromArray(a_node, volume_from_node(a_node).array // 2)
    second = a_sitting.finish(a_sitting.logic.show_input(a_node, CARD))
    assert second is not first
    assert first.GetScene() is None
    assert input_nodes(a_sitting.scene, a_node) == [second]


def test_it_is_no_volume_of_its_own(a_sitting, a_node):
    node = a_sitting.finish(a_sitting.logic.show_input(a_node, CARD))
    assert is_input(node) and not is_input(a_node)
    assert analysed_volumes(a_sitting.scene) == (a_node,)
    with pytest.raises(InvalidRequest, match="Choose the scan"):
        a_sitting.logic.analyze(node)
    with pytest.raises(InvalidRequest, match="Choose the scan"):
        a_sitting.finish(a_sitting.logic.show_input(node, CARD))
    remove_case(a_sitting.scene, a_node)
    assert node.GetScene() is None  # it goes with the case


def test_a_volume_that_was_never_analysed_has_an_input_and_still_no_case(a_sitting, a_phantom):
    a_sitting.scene.Clear(0)
    bare = add_volume(a_sitting.scene, a_phantom.volume)
    node = a_sitting.finish(a_sitting.logic.show_input(bare, CARD))
    assert input_node(a_sitting.scene, bare, CARD) is node
    assert analysed_volumes(a_sitting.scene) == ()
    assert a_sitting.logic.case_of(bare) is None


def test_it_is_known_again_after_the_scene_was_saved(a_sitting, a_node, another_session, tmp_path):
    a_sitting.finish(a_sitting.logic.show_input(a_node, CARD))
    save_mrb(a_sitting.scene, tmp_path / "case.mrb")
    (loaded,) = load_mrb(another_session.scene, tmp_path / "case.mrb")
    again = input_node(another_session.scene, loaded, CARD)
    assert is_input(again)
    assert saw_of(again).orientation_to == "RAS"


@pytest.mark.parametrize("card", ["findings_rules", "no_such_card"])
def test_a_card_that_sees_no_voxels_is_refused_with_what_to_do(card, a_sitting, a_node):
    with pytest.raises(InvalidRequest, match="Choose"):
        a_sitting.finish(a_sitting.logic.show_input(a_node, card))


def test_stopped_on_the_way_it_leaves_nothing(a_sitting, a_node):
    job = a_sitting.logic.show_input(a_node, CARD)
    job.cancel()
    with pytest.raises(TaskCancelled):
        a_sitting.finish(job)
    assert input_nodes(a_sitting.scene, a_node) == []


def test_a_volume_that_is_removed_meanwhile_is_said(a_sitting, a_node):
    job = a_sitting.logic.show_input(a_node, CARD)
    while not a_sitting.client.is_busy or job._job is None:
        a_sitting.client.poll(0.01)
    a_sitting.scene.RemoveNode(a_node)
    with pytest.raises(InvalidRequest, match="removed"):
        a_sitting.finish(job)
