"""All that a person sees of a scene in the module's window, as JSON; run with a saved scene in a new process.

python seen.py WORKER_PYTHON SCENE.mrb
"""

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MARKS = str.maketrans("▶◆", "  ")  # before the sentence that was clicked last, which the window remembers


def everything(screen: Any) -> dict[str, Any]:
    """What the panels say, what the views show, and what the scene holds behind it."""
    return {"scene": _scene(screen.workspace), "panels": _panels(screen)}


def _scene(workspace: Any) -> dict[str, Any]:
    from CT3DAssistantLib.scene import analysed_volumes, case_of

    scene, state, chosen = workspace.scene, workspace.state, workspace.volume_node
    volumes = analysed_volumes(scene)
    return {
        "chosen": (chosen.GetID(), chosen.GetName()),
        "profile": state.profile,
        "selected": workspace.selected,
        "nodes": {
            role: node and (node.GetID(), node.GetName())
            for role in ("inputVolume", "segmentation", "landmarks", "caseNode")
            for node in [getattr(state, role)]
        },
        "cases": {node.GetName(): case_of(scene, node).to_json() for node in volumes},
        "masks": {node.GetName(): _masks(scene, node) for node in volumes},
        "slices": [_plane(node) for node in _nodes(scene, "vtkMRMLSliceNode")],
    }


def _masks(scene: Any, volume_node: Any) -> Any:
    """Fingerprint of the masks, and how each is shown."""
    from CT3DAssistantLib.ownership import fingerprint, node_of

    node = node_of(scene, volume_node, "segmentation")
    if node is None:
        return None
    display, segments = node.GetDisplayNode(), node.GetSegmentation()
    names = [segments.GetNthSegmentID(n) for n in range(segments.GetNumberOfSegments())]
    looks = {
        name: (bool(display.GetSegmentVisibility(name)), round(display.GetSegmentOpacity2DFill(name), 3))
        for name in sorted(names)
    }
    return fingerprint(node), looks


def _plane(node: Any) -> list[float]:
    matrix = node.GetSliceToRAS()
    return [round(matrix.GetElement(row, 3), 2) for row in range(3)]


def _nodes(scene: Any, kind: str) -> list[Any]:
    from CT3DAssistantLib.ownership import nodes_of_class

    return nodes_of_class(scene, kind)


def _panels(screen: Any) -> dict[str, Any]:
    """Each section opened in turn."""
    seen = {}
    for panel, look in LOOKS.items():
        screen.unfold(panel)
        screen.turn()
        seen[panel] = look(screen.window.panels[panel].ui)
    return seen


def _shown(widget: Any) -> str:
    return widget.text if widget.isVisible() else ""


def _table(table: Any) -> list[list[str]]:
    items = [[table.item(row, n) for n in range(table.columnCount)] for row in range(table.rowCount)]
    return [[item.text() if item else "" for item in row] for row in items]


LOOKS = {
    "case": lambda ui: [
        ui.summaryLabel.text,
        ui.continueButton.isVisible(),
        ui.volumeSelector.currentNode().GetName(),
    ],
    "report": lambda ui: [
        *map(_shown, (ui.stateLabel, ui.stateTextLabel, ui.tallyLabel, ui.mentionLabel)),
        ui.reportBrowser.plainText.translate(MARKS),
    ],
    "ask": lambda ui: ui.conversationBrowser.plainText,
    "region": lambda ui: [_table(ui.regionTable), ui.isolateButton.text, _table(ui.attributeTable)],
    "landmark": lambda ui: [
        ui.progressLabel.text,
        _table(ui.queueTable),
        ui.secondCheck.checked,
        ui.undoButton.enabled,
    ],
    "finding": lambda ui: [_table(ui.findingTable), ui.checksBrowser.plainText],
}


def main(worker_python: str, path: str) -> None:
    sys.path[:0] = [str(HERE), str(HERE.parents[1] / "CT3DAssistant")]
    import pythonqt_double
    from module_window import open_window

    with open_window(pythonqt_double.install(), Path(worker_python), Path(path).parent) as screen:
        from CT3DAssistantLib.selftest.walks import open_scene

        open_scene(screen, Path(path))
        sys.stdout.write("SEEN" + json.dumps(everything(screen)))


if __name__ == "__main__":
    main(*sys.argv[1:])
