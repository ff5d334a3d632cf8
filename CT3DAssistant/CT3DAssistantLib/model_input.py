"""What a model sees of a volume, as a volume node of its own: filed with the case, and used again.

The voxels come from the worker's task "prepare", which calls the same function as the model does.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from ct3d.cards import ModelCard, load_card
from ct3d.case import InputReport
from ct3d.client.client import Client
from ct3d.errors import InvalidRequest
from ct3d.imaging.exchange import open_volume, storing_array
from ct3d.imaging.volume import Volume
from ct3d.protocol.codec import decode, encode
from ct3d.protocol.tasks import PrepareParams, VolumeRef
from CT3DAssistantLib.errand import Steps
from CT3DAssistantLib.ownership import MODULE, file_away, make_parameter_node, parameter_node, remove_node
from CT3DAssistantLib.scene import adding_volume, volume_from_node

SEEN = "seen"  # node reference role of what a model saw of a volume
OF = f"{MODULE}.seen"  # attribute of such a node: {"card", "card_sha256", "source", "saw"}

VolumeNode = slicer.vtkMRMLScalarVolumeNode


def seeing(client: Client, folder: Path, volume_node: VolumeNode, card_id: str) -> Steps:
    """The node of what a card's model sees, as the steps of an errand; an up-to-date one is used again."""
    scene, card = volume_node.GetScene(), load_card(card_id)
    refuse_input(volume_node)
    volume = volume_from_node(volume_node)
    array = yield from storing_array(volume.array, folder)
    source = VolumeRef(array, volume.geometry.ijk_to_ras)
    made_of = {"card": card.id, "card_sha256": card.sha256, "source": encode(source)}
    known = input_node(scene, volume_node, card_id)
    if known is not None and _memory(known).items() >= made_of.items():
        return known
    job = client.submit("prepare", PrepareParams(source, card_id))
    yield job
    result = job.result()
    seen = open_volume(result.volume, folder)
    name = f"{volume_node.GetName()} as {card.title} saw it"
    node = yield from adding_volume(scene, Volume(np.asarray(seen.array), seen.ijk_to_ras), name=name)
    if volume_node.GetScene() is None:
        remove_node(scene, node)
        raise InvalidRequest("The volume was removed from the scene. Load it again to go on.")
    if known is not None and known.GetScene() is not None:
        remove_node(scene, known)
    node.SetAttribute(OF, json.dumps(made_of | {"saw": encode(result.saw)}))
    make_parameter_node(scene, volume_node).AddNodeReferenceID(SEEN, node.GetID())
    file_away(scene, volume_node, node)
    return node


def input_node(scene: slicer.vtkMRMLScene, volume_node: VolumeNode, card_id: str) -> VolumeNode | None:
    """The node that shows what this card's model saw of a volume, if there is one."""
    nodes = (node for node in input_nodes(scene, volume_node) if _memory(node).get("card") == card_id)
    return next(nodes, None)


def input_nodes(scene: slicer.vtkMRMLScene, volume_node: VolumeNode) -> list[VolumeNode]:
    """All nodes that show what models saw of a volume."""
    parameters = parameter_node(scene, volume_node)
    count = parameters.GetNumberOfNodeReferences(SEEN) if parameters else 0
    return [node for node in (parameters.GetNthNodeReference(SEEN, n) for n in range(count)) if node]


def saw_of(node: VolumeNode) -> InputReport:
    """What was changed on the way to a node of `seeing`."""
    return decode(InputReport, _memory(node)["saw"], "saw")


def is_input(node: VolumeNode) -> bool:
    """Whether a volume is only what a model saw of another one."""
    return node.GetAttribute(OF) is not None


def refuse_input(node: VolumeNode) -> None:
    """Turn down a volume that is only what a model saw.

    Raises:
        InvalidRequest: if it is.
    """
    if is_input(node):
        raise InvalidRequest(
            f"{node.GetName()!r} is a model's resampled input, no scan. Choose the scan it was made from."
        )


def cards_with_input(cards: tuple[ModelCard, ...]) -> tuple[ModelCard, ...]:
    """Those cards whose model sees voxels."""
    return tuple(card for card in cards if card.input is not None)


def _memory(node: VolumeNode) -> dict[str, Any]:
    return json.loads(node.GetAttribute(OF) or "{}")
