"""Bring one segment of a segmentation forward, and give back exactly what the person had.

The earlier look is kept in an attribute of the node, so that a scene that was saved meanwhile can still be
restored. What a person changes meanwhile stays as they changed it.
"""

import json
from typing import Any

import slicer

from CT3DAssistantLib.ownership import MODULE

ISOLATED = f"{MODULE}.isolated"  # attribute of a segmentation node: {"segment", "before", "during"}
FILL = 0.5  # of the brought-forward segment, times the node's own
DIM_FILL, DIM_OUTLINE, DIM_3D = 0.15, 0.35, 0.15  # what is left of the others' opacity
THICKNESS_PX = 3  # of the outlines

SegmentationNode = slicer.vtkMRMLSegmentationNode
Look = dict[str, list[float]]  # "" → visibility and outline thickness of all; segment id → what `_look` lists


def isolate(node: SegmentationNode, segment_id: str, *, fill: float = FILL) -> bool:
    """Show one segment strongly and dim the others; False where the node has no such segment.

    Args:
        fill: opacity of its inside in the slices, 0 to 1; its outline is always whole.
    """
    display = node.GetDisplayNode()
    if display is None or node.GetSegmentation().GetSegment(segment_id) is None:
        return False
    was_modifying = display.StartModify()
    restore(node)
    before = _look_of(node)
    _apply(display, {name: _changed(name, look, segment_id, fill) for name, look in before.items()})
    memory = {"segment": segment_id, "before": before, "during": _look_of(node)}
    node.SetAttribute(ISOLATED, json.dumps(memory))
    display.EndModify(was_modifying)
    return True


def restore(node: SegmentationNode) -> None:
    """Show a segmentation as it was before `isolate`; nothing happens where it isn't isolated."""
    text, display = node.GetAttribute(ISOLATED), node.GetDisplayNode()
    if text is None:
        return
    node.RemoveAttribute(ISOLATED)
    if display is None:
        return
    memory = json.loads(text)
    before, during, now = memory["before"], memory["during"], _look_of(node)
    kept = {
        name: [
            old if value == seen else value
            for old, seen, value in zip(before[name], during[name], look, strict=True)
        ]
        for name, look in now.items()
        if name in before and name in during
    }
    was_modifying = display.StartModify()
    _apply(display, kept)
    display.EndModify(was_modifying)


def isolated_segment(node: SegmentationNode) -> str:
    """Id of the segment that is brought forward; "" for none."""
    text = node.GetAttribute(ISOLATED)
    return json.loads(text)["segment"] if text else ""


def _look_of(node: SegmentationNode) -> Look:
    display, segmentation = node.GetDisplayNode(), node.GetSegmentation()
    names = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    whole = [int(display.GetVisibility()), int(display.GetSliceIntersectionThickness())]
    return {"": whole} | {name: _look(display, name) for name in names}


def _look(display: Any, name: str) -> list[float]:
    return [
        int(display.GetSegmentVisibility(name)),
        round(display.GetSegmentOpacity2DFill(name), 4),
        round(display.GetSegmentOpacity2DOutline(name), 4),
        round(display.GetSegmentOpacity3D(name), 4),
    ]


def _changed(name: str, look: list[float], segment_id: str, fill: float) -> list[float]:
    if name == "":
        return [1, max(THICKNESS_PX, look[1])]
    if name == segment_id:
        return [1, fill, 1.0, 1.0]
    visible, inside, outline, surface = look
    return [visible, inside * DIM_FILL, outline * DIM_OUTLINE, surface * DIM_3D]


def _apply(display: Any, looks: Look) -> None:
    for name, look in looks.items():
        if name == "":
            display.SetVisibility(bool(look[0]))
            display.SetSliceIntersectionThickness(int(look[1]))
            continue
        visible, inside, outline, surface = look
        display.SetSegmentVisibility(name, bool(visible))
        display.SetSegmentOpacity2DFill(name, inside)
        display.SetSegmentOpacity2DOutline(name, outline)
        display.SetSegmentOpacity3D(name, surface)
