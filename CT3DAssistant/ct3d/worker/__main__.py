"""python -m ct3d.worker: claim the wire, then serve the host until it is gone.

Standard input and output are the wire. Libraries print to standard output as they like, so the wire gets
descriptors of its own; what is printed then goes to standard error, the worker's log, and children can't
touch the wire.
"""

import argparse
import faulthandler
import logging
import os
import signal
import sys
from importlib import import_module

from ct3d.worker.server import Server


def main() -> None:
    """Serve until the host is gone or asks to shut down."""
    parser = argparse.ArgumentParser(prog="python -m ct3d.worker", description="Worker of CT3DAssistant.")
    parser.add_argument(
        "--tasks", default="ct3d.protocol.tasks:TASKS", help="package.module:TABLE, for tests"
    )
    arguments = parser.parse_args()
    incoming, outgoing = claim_wire()
    faulthandler.enable()  # a crash in C leaves its stack in the log
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the host's to handle
    module, _, name = arguments.tasks.partition(":")
    Server(incoming, outgoing, getattr(import_module(module), name)).serve()


def claim_wire() -> tuple[int, int]:
    """Descriptors of the wire, (incoming, outgoing); 0 becomes the null device, 1 standard error."""
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(incoming, os.O_BINARY)
        msvcrt.setmode(outgoing, os.O_BINARY)
    return incoming, outgoing


if __name__ == "__main__":
    main()
