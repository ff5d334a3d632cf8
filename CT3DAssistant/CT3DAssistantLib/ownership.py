"""Which nodes of a scene belong to which case, and what a person has changed in them.

One parameter node per analysed volume holds the case as JSON and refers to the volume and to every node made
from the case. A node made here carries a fingerprint of its content. When a task runs again, an untouched
node is written anew in place (its ID, display and links stay); a node that a person edited is never
overwritten: it is renamed "… (edited)", released from the case and kept in the case's folder, and a new node
    takes its role.
"""

import hashlib
import zlib

import numpy as np
import slicer
import vtk

from ct3d.imaging.exchange import Bites, last

MODULE = "CT3DAssistant"
VOLUME = "volume"  # node reference role of the analysed volume
ROLES = ("segmentation", "landmarks", "attributes", "report")
RELEASED = "edited"  # nodes that a person changed and the case let go
CASE = "case"  # parameter that holds the JSON
FINGERPRINT = f"{MODULE}.fingerprint"
MEASURED = f"{MODULE}.measured"  # attribute of a segmentation node: its fingerprint when it was measured
FOLDER = f"{MODULE}.case"
EDITED = " (edited)"
EARLIER = " (earlier)"  # of a card whose landmarks the case no longer holds
CARD = f"{MODULE}.card"  # attribute of a landmarks node: id of the card that placed them

Node = slicer.vtkMRMLNode


def parameter_node(scene: slicer.vtkMRMLScene, volume_node: Node) -> slicer.vtkMRMLScriptedModuleNode | None:
    """The node that holds the case of this volume, or None."""
    for node in parameter_nodes(scene):
        if node.GetNodeReference(VOLUME) is volume_node:
            return node
    return None


def parameter_nodes(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLScriptedModuleNode]:
    """All nodes of a scene that hold a case."""
    every = nodes_of_class(scene, "vtkMRMLScriptedModuleNode")
    return [node for node in every if node.GetModuleName() == MODULE and node.HasParameter(CASE)]


def nodes_of_class(scene: slicer.vtkMRMLScene, kind: str) -> list[Node]:
    """All nodes of a MRML class.

    The scene gives its collection away for good: it is let go here, else its nodes, voxels and all, would
    never be freed once they have left the scene.
    """
    found = scene.GetNodesByClass(kind)
    found.UnRegister(None)
    return [found.GetItemAsObject(n) for n in range(found.GetNumberOfItems())]


def make_parameter_node(scene: slicer.vtkMRMLScene, volume_node: Node) -> slicer.vtkMRMLScriptedModuleNode:
    """The node that holds the case of this volume, made where there is none yet."""
    node = parameter_node(scene, volume_node)
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", f"{volume_node.GetName()} case")
        node.SetModuleName(MODULE)
        node.SetAttribute("ModuleName", MODULE)
        node.SetHideFromEditors(True)
        node.SetParameter(CASE, "")
        node.SetNodeReferenceID(VOLUME, volume_node.GetID())
    return node


def node_of(scene: slicer.vtkMRMLScene, volume_node: Node, role: str) -> Node | None:
    """The node that shows one part of a volume's case; `role` is one of ROLES."""
    parameters = parameter_node(scene, volume_node)
    return parameters and parameters.GetNodeReference(role)


def nodes_of(scene: slicer.vtkMRMLScene, volume_node: Node, role: str) -> list[Node]:
    """All nodes that show one part of a volume's case: of landmarks, one per card that placed some."""
    parameters = parameter_node(scene, volume_node)
    count = parameters.GetNumberOfNodeReferences(role) if parameters else 0
    return [node for node in (parameters.GetNthNodeReference(role, n) for n in range(count)) if node]


def claim(
    scene: slicer.vtkMRMLScene, volume_node: Node, *, role: str, kind: str, name: str, card: str = ""
) -> Node:
    """The node to write this role into: the case's own if nobody touched it, else a new one.

    Args:
        role: node reference role in the parameter node.
        kind: MRML class of the node.
        name: its name, where it is new.
        card: whose node it is, where a role has one per card. A node that doesn't say is of the one card
            that there was before.
    """
    return last(claiming(scene, volume_node, role=role, kind=kind, name=name, card=card))


def claiming(
    scene: slicer.vtkMRMLScene, volume_node: Node, *, role: str, kind: str, name: str, card: str = ""
) -> Bites[Node]:
    """`claim` in bites, for a thread that must not block."""
    parameters = make_parameter_node(scene, volume_node)
    mine = (each for each in nodes_of(scene, volume_node, role) if (each.GetAttribute(CARD) or card) == card)
    node = next(mine, None)
    if node is not None and (yield from fingerprinting(node)) != node.GetAttribute(FINGERPRINT):
        release(parameters, node, role, EDITED)
        node = None
    if node is None:
        node = scene.AddNewNodeByClass(kind, f"{volume_node.GetName()} {name}")
        parameters.AddNodeReferenceID(role, node.GetID())
        file_away(scene, volume_node, node)
    if card:
        node.SetAttribute(CARD, card)
    return node


def release(parameters: Node, node: Node, role: str, why: str) -> None:
    """Let a node go from a case: it keeps its place in the case's folder, and `why` is added to its name."""
    node.SetName(node.GetName() + why)
    node.RemoveAttribute(FINGERPRINT)
    for n in reversed(range(parameters.GetNumberOfNodeReferences(role))):
        if parameters.GetNthNodeReference(role, n) is node:
            parameters.RemoveNthNodeReferenceID(role, n)
    parameters.AddNodeReferenceID(RELEASED, node.GetID())


def remove_case(scene: slicer.vtkMRMLScene, volume_node: Node) -> None:
    """Remove a volume's case with its folder: all nodes made from it, those a person changed, earlier cases.

    The volume itself stays.
    """
    parameters = parameter_node(scene, volume_node)
    if parameters is None:
        return
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = _folder(scene, hierarchy, volume_node)
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(folder, items, True)
    filed = [hierarchy.GetItemDataNode(items.GetId(n)) for n in range(items.GetNumberOfIds())]
    shown = [node for role in ROLES for node in nodes_of(scene, volume_node, role)]
    for node in {*filter(None, filed), *shown}:
        if node is not volume_node:
            remove_node(scene, node)
    scene.RemoveNode(parameters)
    hierarchy.RemoveItem(folder)


def remove_node(scene: slicer.vtkMRMLScene, node: Node) -> None:
    """Remove a node with its display and storage nodes."""
    if node.IsA("vtkMRMLDisplayableNode"):
        helpers = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
        for helper in (*helpers, node.GetStorageNode()):
            if helper is not None:
                scene.RemoveNode(helper)
    scene.RemoveNode(node)


def stamp(node: Node) -> None:
    """Remember a node's content as ours."""
    last(stamping(node))


def stamping(node: Node) -> Bites[None]:
    """`stamp` in bites, for a thread that must not block."""
    content = yield from fingerprinting(node)
    node.SetAttribute(FINGERPRINT, content)


def is_edited(node: Node) -> bool:
    """Whether a node no longer is as it was written here."""
    return node.GetAttribute(FINGERPRINT) != fingerprint(node)


def note_measured(node: Node, measured: str = "") -> None:
    """Remember which state of a segmentation the measurements are of.

    Args:
        measured: its fingerprint at that time; "": as it was written here.
    """
    node.SetAttribute(MEASURED, measured or node.GetAttribute(FINGERPRINT) or "")


def is_measured(node: Node) -> bool:
    """Whether a segmentation is as it was when it was measured last."""
    return measured_state(node) == fingerprint(node)


def measured_state(node: Node) -> str:
    """Fingerprint of the state of a segmentation that the measurements are of."""
    return node.GetAttribute(MEASURED) or node.GetAttribute(FINGERPRINT) or ""


def content_time(node: Node) -> int:
    """Rises whenever the masks of a segmentation may have changed; to be compared within one process."""
    segmentation = node.GetSegmentation()
    layers = [segmentation.GetLayerDataObject(n) for n in range(segmentation.GetNumberOfLayers())]
    return max(segmentation.GetMTime(), *(layer.GetMTime() for layer in layers), 0)


def fingerprint(node: Node) -> str:
    """Hash of what a person can change in a node; the same before saving and after loading."""
    return last(fingerprinting(node))


def fingerprinting(node: Node) -> Bites[str]:
    """`fingerprint` in bites, for a thread that must not block."""
    kinds = {
        "vtkMRMLSegmentationNode": _segmentation_content,
        "vtkMRMLMarkupsFiducialNode": _markups_content,
        "vtkMRMLTableNode": _table_content,
        "vtkMRMLTextNode": _text_content,
    }
    content = yield from kinds[node.GetClassName()](node)
    return hashlib.sha256(repr(content).encode()).hexdigest()


def file_away(scene: slicer.vtkMRMLScene, volume_node: Node, node: Node) -> None:
    """Put a node into the folder of the volume's case in the subject hierarchy."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    hierarchy.SetItemParent(_item(hierarchy, node), _folder(scene, hierarchy, volume_node))


def _folder(scene, hierarchy, volume_node) -> int:
    parameters = make_parameter_node(scene, volume_node)
    for node in filter(None, (parameters.GetNodeReference(role) for role in (*ROLES, RELEASED))):
        parent = hierarchy.GetItemParent(_item(hierarchy, node))
        if parent and hierarchy.GetItemAttribute(parent, FOLDER):
            return parent
    beside = hierarchy.GetItemParent(_item(hierarchy, volume_node)) or hierarchy.GetSceneItemID()
    folder = hierarchy.CreateFolderItem(beside, f"{volume_node.GetName()} analysis")
    hierarchy.SetItemAttribute(folder, FOLDER, volume_node.GetName())
    return folder


def _item(hierarchy, node) -> int:
    return hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


def _segmentation_content(node) -> Bites[list]:
    """Per segment: id, name, where its voxels lie, and their checksum. Saving packs the segments into other
    label maps under other labels, so neither counts.
    """
    segmentation = node.GetSegmentation()
    names = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    content = []
    for name in sorted(names):
        segment = segmentation.GetSegment(name)
        if segment is not None:  # else it was removed since the last bite
            content.append((name, *_segment_content(segment)))
            yield
    return content


def _segment_content(segment) -> tuple:
    kind = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    image = segment.GetRepresentation(kind)
    if image is None or image.GetPointData().GetScalars() is None:
        return (segment.GetName(),)
    mask = array_of(image) == segment.GetLabelValue()
    box = bounding_box(mask)
    if box is None:
        return (segment.GetName(),)
    k, j, i = (each.start for each in box)
    extent = image.GetExtent()
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    corner = matrix.MultiplyPoint((extent[0] + i, extent[2] + j, extent[4] + k, 1))[:3]
    checksum = zlib.crc32(np.packbits(mask[box]).data)
    return segment.GetName(), tuple(round(x, 2) + 0.0 for x in corner), mask[box].shape, checksum


def _markups_content(node) -> Bites[list]:
    yield from ()
    count = node.GetNumberOfControlPoints()
    return [
        (
            node.GetNthControlPointLabel(n),
            node.GetNthControlPointDescription(n),
            node.GetNthControlPointPositionStatus(n),
            tuple(round(x, 2) + 0.0 for x in node.GetNthControlPointPositionWorld(n)),
        )
        for n in range(count)
    ]


def _table_content(node) -> Bites[list]:
    yield from ()
    return [
        [node.GetCellText(row, column) for column in range(node.GetNumberOfColumns())]
        for row in range(node.GetNumberOfRows())
    ]


def _text_content(node) -> Bites[str]:
    yield from ()
    return node.GetText() or ""


def array_of(image) -> np.ndarray:
    """Voxels of a vtkImageData as (K, J, I), without a copy."""
    i, j, k = image.GetDimensions()
    return vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k, j, i)


def bounding_box(mask: np.ndarray) -> tuple[slice, slice, slice] | None:
    """The smallest box (K, J, I) that holds every voxel which is not 0; None where all are 0."""
    shadow = np.logical_or.reduce(mask, axis=0)
    slices = [part.any() for part in mask]
    sides = [np.flatnonzero(side) for side in (slices, shadow.any(axis=1), shadow.any(axis=0))]
    if not len(sides[0]):
        return None
    return tuple(slice(int(side[0]), int(side[-1]) + 1) for side in sides)
