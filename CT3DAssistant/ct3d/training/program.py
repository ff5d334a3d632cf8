"""How the programs of this folder end: one JSON object for whoever started them, and an exit code."""

import json
import sys
from collections.abc import Callable
from typing import Any

from ct3d.errors import AssistantError


def ended(work: Callable[[], Any]) -> int:
    """The exit code of a program's work, once its result or its error is written.

    A result goes to standard output, its keys in order; one that JSON can't hold, NaN above all, raises
    ValueError and nothing is written. An error is one line, {"error": {"code", "message"}}, by which the
    command line knows it (CT3DAssistantLib/evaluation.py).

    Args:
        work: gives what is to be written; None: nothing.
    """
    try:
        found = work()
    except AssistantError as error:
        told = {"error": {"code": error.code, "message": str(error)}}
        sys.stdout.write(json.dumps(told) + "\n")
        return error.exit_code
    if found is not None:
        sys.stdout.write(json.dumps(found, indent=1, sort_keys=True, allow_nan=False) + "\n")
    return 0
