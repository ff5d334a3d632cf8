"""A pretraining run to look at: at every evaluation figures and events, and the figures show the numbers."""

import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_pretraining import SMALL

from ct3d.imaging.volume import Volume
from ct3d.pipeline.whereabouts import Whereabouts
from ct3d.training import watch
from ct3d.training.corpus import Corpus, Study, as_bytes
from ct3d.training.loop import CURVE, Schedule
from ct3d.training.observe import EVENTS, FIGURES, observe, volume_of
from ct3d.training.train_threedme import Recipe, train
from ct3d.training.views import Layout

pytestmark = pytest.mark.usefixtures("one_thread")

SOURCES = Path(__file__).parents[2] / "CT3DAssistant"
NAMES = ("gap", "arrows", "parts")


def a_corpus():
    """A synthetic body, long enough for parts that can be told apart."""
    k, j, i = np.indices((96, 40, 44))
    return Corpus(
        [Study("synthetic/0", as_bytes(-300 + 3 * k + j + i, i > 1), np.array([4.0, 4.5, 5.0]), True)]
    )


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    """Folder and net of a run of four steps with two evaluations."""
    out = tmp_path_factory.mktemp("run")
    recipe = Recipe(
        seed=3,
        schedule=Schedule(4, warm_up=2, is_bf16=False, average=0.5, average_from=0.2),
        config=SMALL,
        layouts=(Layout((16, 16, 16), views=2, studies=1),),
        evaluate_every=2,
    )
    return out, train(recipe, a_corpus(), a_corpus(), out, watch=True)


def curve_of(out):
    return [json.loads(line) for line in (out / CURVE).read_text("utf-8").splitlines()]


def events_of(out):
    found = EventAccumulator(str(out / EVENTS), size_guidance={"images": 0})
    found.Reload()
    return found


def scalars_of(out):
    """(step, name) → value, of all but the figures."""
    events = events_of(out)
    names = [name for name in events.Tags()["scalars"] if not name.startswith(FIGURES)]
    return {(each.step, name): each.value for name in names for each in events.Scalars(name)}


def in_curve(out):
    return {(line["step"], name): line[name] for line in curve_of(out) for name in line if name != "step"}


def test_every_evaluation_leaves_three_figures_and_events_that_equal_the_curve(a_run):
    out, _ = a_run
    files = sorted(path.relative_to(out / FIGURES) for path in (out / FIGURES).rglob("*.png"))
    assert files == sorted(Path(step) / f"{name}.png" for step in ("2", "4") for name in NAMES)
    assert scalars_of(out) == pytest.approx(in_curve(out), rel=1e-6)
    assert {step for step, _ in in_curve(out)} == {2, 4}
    events = events_of(out)
    assert set(events.Tags()["images"]) == {f"{FIGURES}/{name}" for name in NAMES}
    for name in (*(f"{FIGURES}/{each}" for each in NAMES), f"{FIGURES}/gap_error_mm"):
        given = events.Images(name) if name in events.Tags()["images"] else events.Scalars(name)
        assert [each.step for each in given] == [2, 4]


def test_a_run_that_goes_on_voids_the_events_of_steps_that_it_does_again(a_run, tmp_path):
    _, net = a_run
    first, again = (
        ('{"step": 25, "loss": 2.0}\n', '{"step": 50, "loss": 1.0}\n'),
        '{"step": 50, "loss": 9.0}\n',
    )
    (tmp_path / CURVE).write_text("".join(first), "utf-8")
    observe(net, a_corpus(), tmp_path, since=0, step=50)
    (tmp_path / CURVE).write_text(first[0] + again, "utf-8")
    observe(net, a_corpus(), tmp_path, since=25, step=50)
    assert scalars_of(tmp_path) == {(25, "loss"): 2.0, (50, "loss"): 9.0}


def test_a_look_leaves_the_net_in_training(a_run, tmp_path):
    _, net = a_run
    (tmp_path / CURVE).write_text("", "utf-8")
    net.train()
    observe(net, a_corpus(), tmp_path, since=0, step=1)
    assert all(each.training for each in net.modules())


def test_a_study_of_a_corpus_is_a_volume_in_hu_on_its_own_grid():
    volume = volume_of(a_corpus(), 0)
    assert volume.orientation == "RAS"
    assert volume.spacing_kji_mm == (4.0, 4.5, 5.0)
    assert volume.array[60, 10, 20] == pytest.approx(-300 + 180 + 10 + 20, abs=4)
    assert (volume.array[:, :, :2] == -1000).all()  # no body there


def test_training_needs_neither_simpleitk_nor_matplotlib_nor_tensorboard():
    code = "import sys, ct3d.training.train_threedme; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=SOURCES, text=True).split()
    assert not {"SimpleITK", "matplotlib", "tensorboard"} & set(loaded)


# what the figures are handed

CENTERS = np.array([[0.0, 0, 0], [0, 30, 40], [120, 0, 0]])
OFF = np.array([10.0, 0, -5])


@pytest.fixture
def found():
    """Three views, of which every edge is off by OFF; the second of two pairs is taken for the wrong one."""
    near = np.array([[0.0, 0, 10], [0, 0, 20], [0, 0, -50], [0, 0, 80]])
    return Whereabouts(
        seen=Volume(np.zeros((20, 20, 30), np.int16), np.diag([4.0, 4.0, 4.0, 1.0])),
        centers_ras=CENTERS,
        points_mm=CENTERS,
        edges_mm=(CENTERS[None] - CENTERS[:, None]) + OFF,
        pairs=np.array([[0, 1], [0, 2]]),
        chunks_ras=np.stack([near, 2 * near[:, [2, 1, 0]]]),
        alike=np.array([[0.9, 0.1], [0.2, 0.4]]),
        slopes=np.ones(3),
    )


@pytest.fixture(autouse=True)
def no_screen():
    matplotlib.use("Agg")
    yield
    plt.close("all")


def test_the_first_figure_shows_true_against_found_distances_and_the_line_where_both_are_one(found):
    true, guessed = watch.gap_points(found)
    np.testing.assert_allclose(true, [50, 120, np.hypot(120, 50)])
    np.testing.assert_allclose(
        guessed, [np.hypot(np.hypot(10, 30), 35), np.hypot(130, 5), np.hypot(np.hypot(130, 30), 45)]
    )
    (ax,) = watch.gap_figure(found).axes
    np.testing.assert_allclose(ax.collections[0].get_offsets(), np.column_stack([true, guessed]))
    across, up = ax.lines[0].get_data()
    assert list(across) == list(up)
    assert f"{found.scores()['gap_error_mm']:.0f} mm" in ax.get_title()


def test_the_second_figure_shows_arrows_from_each_view_to_where_the_next_one_should_be(found):
    start, end = watch.arrow_ends(found)
    np.testing.assert_array_equal(start, CENTERS[:2])
    np.testing.assert_array_equal(end, [[10, 30, 35], [130, 0, -5]])
    (ax,) = watch.arrow_figure(found).axes
    arrows = [each for each in ax.texts if hasattr(each, "arrow_patch")]
    assert [(tuple(each.xyann), tuple(each.xy)) for each in arrows] == [
        ((0, 0), (10, 35)),
        ((0, 40), (130, -5)),
    ]
    numbers = {each.get_text(): each.get_position() for each in ax.texts if each not in arrows}
    assert numbers == {"1": (0, 0), "2": (0, 40), "3": (120, 0)}


def test_the_third_figure_shows_parts_in_the_colours_of_what_the_encoder_says(found):
    (ax,) = watch.part_figure(found).axes
    middles = [tuple(np.array(each.get_xy()) + watch.CHUNK_MM / 2) for each in ax.patches]
    colours = [to_hex(each.get_edgecolor()) for each in ax.patches]
    wrong, right = (
        found.chunks_ras[1][:, [0, 2]],
        found.chunks_ras[0][:, [0, 2]],
    )  # the farthest pair is first
    np.testing.assert_allclose(middles, [*wrong, *right])
    assert colours == [watch.FAR] * 2 + [watch.NEAR] * 4 + [watch.FAR] * 2
    assert "50% of 2 pairs right" in ax.get_title()
