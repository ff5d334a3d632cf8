"""Everything of one case into one folder: case, report, masks, landmarks, measurements, scene, pictures."""

import io
from dataclasses import dataclass
from pathlib import Path

import slicer
from PIL import Image

from ct3d.errors import InvalidRequest
from CT3DAssistantLib.exports.attributes import write_attributes
from CT3DAssistantLib.exports.figures import make_figures
from CT3DAssistantLib.exports.files import make_folder, write_file
from CT3DAssistantLib.exports.html import write_html
from CT3DAssistantLib.exports.landmarks import write_landmarks
from CT3DAssistantLib.exports.regions import write_segmentation
from CT3DAssistantLib.ownership import node_of
from CT3DAssistantLib.pictures import key_pictures
from CT3DAssistantLib.pictures3d import picture_3d
from CT3DAssistantLib.scene import case_of, layers_from_segmentation, on_grid_of, save_mrb, volume_from_node


@dataclass(frozen=True)
class Exported:
    """What was written, and what a person should know about it (e.g. why there is no 3D picture)."""

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def export_case(
    scene: slicer.vtkMRMLScene,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    folder: Path,
    *,
    with_3d: bool = True,
) -> Exported:
    """Write every format of a volume's case into a folder, made where it isn't there; earlier files are
    replaced.

    The case comes first, so that it is safe whatever happens to the rest.

    Raises:
        InvalidRequest: if the volume has no case.
        DiskFull: if the folder can't take it.
    """
    case = case_of(scene, volume_node)
    if case is None:
        raise InvalidRequest("There is no analysis of this volume yet. Analyse it first.")
    folder = make_folder(folder)
    files = [
        write_file(folder / "case.json", case.to_json()),
        write_attributes(folder / "attributes.csv", case),
        write_landmarks(folder / "landmarks.mrk.json", case),
    ]
    segmentation = node_of(scene, volume_node, "segmentation")
    if segmentation is not None:
        files.append(write_segmentation(folder / "regions.seg.nrrd", segmentation))
    shown, notes = _write_pictures(case, volume_from_node(volume_node), segmentation, folder, with_3d=with_3d)
    save_mrb(scene, folder / "case.mrb")
    return Exported((*files, *shown, folder / "case.mrb"), notes)


def _write_pictures(case, volume, segmentation, folder, *, with_3d) -> tuple[list[Path], tuple[str, ...]]:
    case = on_grid_of(case, volume)
    drawn = tuple(region for region in case.regions if region.layer != "body")
    layers = layers_from_segmentation(segmentation, volume, drawn) if segmentation is not None else {}
    keys = key_pictures(case, volume, layers)
    files = [write_file(folder / f"{plane}.png", _png(image)) for plane, image in keys.items()]
    picture = folder / "3d.png"
    note = picture_3d(case, layers, picture) if with_3d else None
    if with_3d and note is None:
        files.append(picture)
    figures = make_figures(case, volume, layers, keys=keys, picture_3d=picture if picture in files else None)
    notes = (note,) if note else ()
    return [*files, write_html(folder / "report.html", case, figures, notes=notes)], notes


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
