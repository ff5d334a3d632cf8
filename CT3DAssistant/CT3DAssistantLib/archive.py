"""Earlier cases with a person's work, kept in the scene when a new analysis replaces them."""

from dataclasses import replace

import slicer

from ct3d.case import Case, Flag
from CT3DAssistantLib.ownership import file_away
from CT3DAssistantLib.review import holds_work, utc_now

ARCHIVE = "earlierCaseOf"  # node reference role of a text node: the volume whose case it holds


def put_away(
    scene: slicer.vtkMRMLScene, volume_node: slicer.vtkMRMLVolumeNode, earlier: Case | None, case: Case
) -> Case:
    """The new case; where the earlier one holds a person's work, it is kept and the new one says so."""
    if earlier is None or not holds_work(earlier):
        return case
    name = keep_case(scene, volume_node, earlier).GetName()
    told = (
        f"A new analysis replaced a case that held your work. The earlier case is kept as text node {name!r}."
    )
    return replace(case, flags=(*case.flags, Flag("earlier_case", "info", told)))


def keep_case(
    scene: slicer.vtkMRMLScene, volume_node: slicer.vtkMRMLVolumeNode, case: Case
) -> slicer.vtkMRMLTextNode:
    """A text node with the case's JSON, in the folder of the volume's case."""
    node = scene.AddNewNodeByClass("vtkMRMLTextNode", f"{volume_node.GetName()} case {utc_now()}")
    node.SetForceCreateStorageNode(node.CreateStorageNodeAlways)  # else it has no file of its own
    node.SetText(case.to_json())
    node.SetNodeReferenceID(ARCHIVE, volume_node.GetID())
    file_away(scene, volume_node, node)
    return node
