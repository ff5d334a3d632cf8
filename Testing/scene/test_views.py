"""Moving views, bringing segments forward and giving back what was there; on oblique and flipped grids."""

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel")

import vtk  # noqa: E402
from numpy.testing import assert_allclose  # noqa: E402
from phantoms import show_all  # noqa: E402
from slice_views import add_views, middle_of, views_of  # noqa: E402

from ct3d.errors import InvalidRequest  # noqa: E402
from ct3d.imaging.volume import ijk_from_ras  # noqa: E402
from CT3DAssistantLib.isolation import ISOLATED, isolated_segment  # noqa: E402
from CT3DAssistantLib.logic import AssistantLogic  # noqa: E402
from CT3DAssistantLib.ownership import is_edited, node_of  # noqa: E402
from CT3DAssistantLib.place import place  # noqa: E402
from CT3DAssistantLib.scene import in_segments, layers_of, load_mrb, reading_layers_of, save_mrb  # noqa: E402
from CT3DAssistantLib.surfaces import adding_surfaces, has_surfaces, remove_surfaces  # noqa: E402
from CT3DAssistantLib.views import Views  # noqa: E402
from CT3DAssistantLib.windows import BONE, LUNG, SOFT  # noqa: E402

SEGMENTS = ("body", "right_lung", "left_lung", "lungs", "nodule_1")


@pytest.fixture
def a_scene(a_session):
    return add_views(a_session.scene)


@pytest.fixture
def a_node(a_scene, a_phantom):
    return show_all(a_scene, a_phantom)


@pytest.fixture
def some_views(a_scene):
    return Views(a_scene)


def look(node):
    """What a person sees of a segmentation."""
    display = node.GetDisplayNode()
    whole = (display.GetVisibility(), display.GetOpacity2DFill(), display.GetSliceIntersectionThickness())
    each = {
        name: (
            display.GetSegmentVisibility(name),
            round(display.GetSegmentOpacity2DFill(name), 6),
            round(display.GetSegmentOpacity2DOutline(name), 6),
            round(display.GetSegmentOpacity3D(name), 6),
        )
        for name in SEGMENTS
    }
    return whole, each


def personal(node):
    """A look that no program would choose."""
    display = node.GetDisplayNode()
    display.SetOpacity2DFill(0.37)
    display.SetSegmentVisibility("left_lung", False)
    display.SetSegmentOpacity2DFill("right_lung", 0.23)
    display.SetSegmentOpacity2DOutline("nodule_1", 0.61)
    display.SetSegmentOpacity3D("nodule_1", 0.41)
    return look(node)


def test_a_jump_puts_the_point_into_the_middle_of_every_slice_view(a_scene, some_views):
    some_views.jump((12.5, -30.0, 41.0))
    for view in views_of(a_scene):
        assert_allclose(middle_of(view), (12.5, -30.0, 41.0), atol=0.01)


def test_a_zoom_shows_so_many_millimetres_and_keeps_the_pixels_square(a_scene, some_views):
    some_views.zoom((5.0, 6.0, 7.0), 60.0)
    for view in views_of(a_scene):
        width, height, _ = view.GetFieldOfView()
        assert (width, height) == pytest.approx((80.0, 60.0))
        assert_allclose(middle_of(view), (5.0, 6.0, 7.0), atol=0.01)


def test_a_fit_holds_all_corners_of_an_oblique_volume_and_fills_the_view(
    a_scene, a_node, some_views, a_phantom
):
    some_views.zoom((900.0, 900.0, 900.0), 10.0)
    some_views.fit(a_node)
    k, j, i = a_phantom.volume.array.shape
    for view in views_of(a_scene):
        to_view = np.linalg.inv(slicer.util.arrayFromVTKMatrix(view.GetXYToRAS()))
        corners = [(a, b, c, 1) for a in (0, i - 1) for b in (0, j - 1) for c in (0, k - 1)]
        pixels = (to_view @ a_phantom.volume.ijk_to_ras @ np.array(corners).T)[:2]
        assert (pixels >= -1).all()
        assert (pixels[0] <= 401).all() and (pixels[1] <= 301).all()
        assert max(np.ptp(pixels[0]) / 400, np.ptp(pixels[1]) / 300) > 0.7


def test_the_3d_view_turns_about_the_place_and_looks_the_same_way(a_scene, some_views):
    some_views.center_3d((10.0, 20.0, 30.0))
    camera = a_scene.GetFirstNodeByClass("vtkMRMLCameraNode")
    assert_allclose(camera.GetFocalPoint(), (10, 20, 30))
    assert_allclose(camera.GetPosition(), (10, 520, 30))


def test_a_volume_is_shown_in_every_slice_view_and_known_to_be(a_scene, a_node, some_views):
    assert not some_views.is_shown(a_node)
    some_views.show_volume(a_node)
    assert some_views.is_shown(a_node)
    for n in range(3):
        composite = a_scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
        assert composite.GetBackgroundVolumeID() == a_node.GetID()


@pytest.mark.parametrize("segment", SEGMENTS)
def test_isolation_shows_one_dims_the_others_and_restores_to_the_last_number(
    segment, a_scene, a_node, some_views
):
    node = node_of(a_scene, a_node, "segmentation")
    before = personal(node)
    assert some_views.isolate(node, segment)
    (visible, *_), shown = look(node)
    assert visible
    assert isolated_segment(node) == segment
    assert shown[segment][0] and shown[segment][2] == shown[segment][3] == 1.0
    for other in set(SEGMENTS) - {segment}:
        assert shown[other][0] == before[1][other][0]  # what was hidden stays hidden
        assert shown[other][1] < 0.3 and shown[other][3] < before[1][other][3]
    some_views.restore(node)
    assert look(node) == before
    assert isolated_segment(node) == ""


def test_isolating_one_after_the_other_remembers_only_what_the_person_had(a_scene, a_node, some_views):
    node = node_of(a_scene, a_node, "segmentation")
    before = personal(node)
    for segment in SEGMENTS:
        some_views.isolate(node, segment)
    some_views.restore()
    assert look(node) == before


def test_what_the_person_changes_meanwhile_stays_theirs(a_scene, a_node, some_views):
    node = node_of(a_scene, a_node, "segmentation")
    personal(node)
    some_views.isolate(node, "nodule_1")
    node.GetDisplayNode().SetSegmentVisibility("lungs", True)
    node.GetDisplayNode().SetSegmentOpacity2DFill("right_lung", 0.9)
    some_views.restore(node)
    _, now = look(node)
    assert now["lungs"][0]
    assert now["right_lung"][1] == 0.9
    assert now["nodule_1"][3] == 0.41


def test_a_scene_saved_while_isolated_restores_in_another_session(
    a_scene, a_node, some_views, another_session, tmp_path
):
    node = node_of(a_scene, a_node, "segmentation")
    before = personal(node)
    some_views.isolate(node, "left_lung")
    save_mrb(a_scene, tmp_path / "isolated.mrb")
    (loaded,) = load_mrb(another_session.scene, tmp_path / "isolated.mrb")
    again = node_of(another_session.scene, loaded, "segmentation")
    assert isolated_segment(again) == "left_lung"
    Views(another_session.scene).restore(again)
    assert look(again)[0] == pytest.approx(before[0])
    for segment, seen in look(again)[1].items():
        assert seen == pytest.approx(before[1][segment], abs=1e-3), segment


def test_a_segment_that_is_gone_is_not_isolated_and_nothing_changes(a_scene, a_node, some_views):
    node = node_of(a_scene, a_node, "segmentation")
    before = personal(node)
    assert not some_views.isolate(node, "airways")
    assert look(node) == before
    some_views.isolate(node, "nodule_1")
    node.GetSegmentation().RemoveSegment("left_lung")
    some_views.restore(node)
    assert node.GetDisplayNode().GetSegmentOpacity2DFill("right_lung") == pytest.approx(0.23)


def test_showing_a_place_never_touches_another_volumes_segmentation(
    a_scene, a_node, some_views, another_phantom
):
    other = show_all(a_scene, another_phantom, name="Other")
    theirs = node_of(a_scene, other, "segmentation")
    before = personal(theirs)
    logic = AssistantLogic(a_scene, None, ".")
    some_views.show(a_node, logic.place(a_node, "region/nodule_1"))
    assert look(theirs) == before
    assert theirs.GetAttribute(ISOLATED) is None
    some_views.show(a_node, None)
    assert look(theirs) == before


def test_a_lesion_of_the_lung_is_shown_in_a_lung_window_and_the_persons_window_comes_back(
    a_scene, a_node, some_views
):
    display = a_node.GetDisplayNode()
    display.SetWindowLevel(350.0, 50.0)
    where = AssistantLogic(a_scene, None, ".").place(a_node, "region/nodule_1")
    some_views.show(a_node, where)
    assert (display.GetWindow(), display.GetLevel()) == (LUNG.width_hu, LUNG.level_hu)
    assert_allclose(middle_of(views_of(a_scene)[0]), where.ras, atol=0.01)
    some_views.show(a_node, None)
    assert (display.GetWindow(), display.GetLevel()) == (350.0, 50.0)


def test_a_window_that_the_person_chose_meanwhile_stays(a_scene, a_node, some_views):
    display = a_node.GetDisplayNode()
    some_views.show(a_node, AssistantLogic(a_scene, None, ".").place(a_node, "region/nodule_1"))
    display.SetWindowLevel(1600.0, -550.0)
    some_views.show(a_node, None)
    assert (display.GetWindow(), display.GetLevel()) == (1600.0, -550.0)


@pytest.mark.parametrize(
    ("wanted", "width", "level", "serves"),
    [
        (LUNG, 1500, -600, True),
        (LUNG, 1400, -500, True),
        (LUNG, 400, 40, False),
        (SOFT, 350, 50, True),
        (SOFT, 1500, -600, False),
        (BONE, 400, 40, False),
    ],
)
def test_a_window_serves_where_most_of_what_is_needed_shows_with_contrast(wanted, width, level, serves):
    assert wanted.serves(width, level) is serves


def test_a_landmark_is_centred_and_not_painted_over(a_scene, a_node, some_views, a_phantom):
    where = AssistantLogic(a_scene, None, ".").place(a_node, "landmark/nodule_1_center")
    assert where.is_point
    some_views.show(a_node, where)
    assert_allclose(middle_of(views_of(a_scene)[0]), a_phantom.centers_ras["nodule_1"], atol=0.01)
    assert not isolated_segment(node_of(a_scene, a_node, "segmentation"))


@pytest.mark.parametrize("region", SEGMENTS)
def test_a_place_read_from_one_segment_is_the_one_found_in_the_whole_masks(
    region, a_scene, a_node, a_phantom
):
    where = AssistantLogic(a_scene, None, ".").place(a_node, f"region/{region}")
    assert_allclose(where.ras, place(a_phantom.case, a_phantom.layers, f"region/{region}").ras, atol=1e-3)
    i, j, k = np.round(ijk_from_ras(np.array([where.ras]), a_phantom.volume.ijk_to_ras)[0]).astype(int)
    assert a_phantom.mask(region)[k, j, i]


def test_a_place_follows_the_mask_that_a_person_painted(a_scene, a_node, a_phantom):
    node = node_of(a_scene, a_node, "segmentation")
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation("right_lung", image)
    paint = slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment
    assert paint(image, node, "nodule_1")
    region = next(each for each in a_phantom.case.regions if each.id == "nodule_1")
    away = np.array(in_segments(node)(region)) - a_phantom.centers_ras["right_lung"]
    assert np.linalg.norm(away) < 2.5


def test_an_emptied_segment_has_no_place(a_scene, a_node):
    node = node_of(a_scene, a_node, "segmentation")
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation("nodule_1", image)
    image.GetPointData().GetScalars().Fill(0)
    assert slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(image, node, "nodule_1")
    assert AssistantLogic(a_scene, None, ".").place(a_node, "region/nodule_1") is None


def test_masks_are_read_in_many_bites(a_scene, a_node):
    bites = sum(1 for _ in reading_layers_of(a_scene, a_node))
    assert bites >= len(SEGMENTS)
    assert set(layers_of(a_scene, a_node)) == {"body", "organs", "report_regions", "lesions"}


def test_a_surface_encloses_its_ball_where_the_ball_lies(a_scene, a_node, a_phantom):
    node = node_of(a_scene, a_node, "segmentation")
    shares = list(adding_surfaces(node))
    assert shares == sorted(shares)
    assert has_surfaces(node)
    for region, radius in (("right_lung", 8.0), ("left_lung", 7.0)):
        surface = vtk.vtkPolyData()
        node.GetClosedSurfaceRepresentation(region, surface)
        measured = vtk.vtkMassProperties()
        measured.SetInputData(surface)
        assert measured.GetVolume() == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.12)
        assert_allclose(surface.GetCenter(), a_phantom.centers_ras[region], atol=1.3)
        assert outward_share(surface, a_phantom.centers_ras[region]) > 0.95
    remove_surfaces(node)
    assert not has_surfaces(node)


def test_surfaces_end_with_a_word_when_their_node_goes(a_scene, a_node):
    node = node_of(a_scene, a_node, "segmentation")
    bites = adding_surfaces(node)
    next(bites)
    a_scene.RemoveNode(node)
    with pytest.raises(InvalidRequest, match="removed"):
        list(bites)


def test_surfaces_are_no_edit(a_scene, a_node):
    node = node_of(a_scene, a_node, "segmentation")
    assert list(adding_surfaces(node))
    assert not is_edited(node)


def outward_share(surface, center) -> float:
    """Share of a surface's normals that point away from a centre."""
    from vtk.util.numpy_support import vtk_to_numpy

    points = vtk_to_numpy(surface.GetPoints().GetData()) - center
    normals = vtk_to_numpy(surface.GetPointData().GetNormals())
    return float((np.einsum("ij,ij->i", points, normals) > 0).mean())
