"""What takes long and needs neither worker nor scene, as a process of its own: read, fetch, check, install.

Run as `python -m CT3DAssistantLib.chores NAME …` with PACKAGE_FOLDER as its working directory; the host's own
Python will do. Each line of its standard output is a JSON object: {"note": text} on the way, at the end
{"result": …} or {"error": {"code": …, "message": …}}. When its standard input is closed, it ends with all
that it has started: so nothing outlives a host that crashed.
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("CT3DAssistantLib.chores", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="CHORE")
    _add(commands, read, path=Path, exchange=Path)
    _add(commands, fetch_sample, name=str).add_argument("--find-links", type=Path)
    return parser


def _add(commands: Any, run: Callable[..., Any], **positional: type) -> argparse.ArgumentParser:
    command = commands.add_parser(run.__name__.replace("_", "-"), help=run.__doc__)
    command.set_defaults(run=run)
    for name, kind in positional.items():
        command.add_argument(name, type=kind)
    return command


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
