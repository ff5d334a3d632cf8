"""Programs of the engine that need torch, run by the worker's Python in a process of its own."""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ct3d.errors import AssistantError, InvalidRequest, TaskFailed, error_of
from CT3DAssistantLib.environment import LAST_LINES, PACKAGE_FOLDER, Note, environment_of

TEXTS = "ct3d.training.evaluate_texts"
MODULES = {"landmarks": "ct3d.training.evaluate_landmarks", "report": TEXTS, "vqa": TEXTS, "retrieval": TEXTS}
OF_TRAINING = ("sacrebleu", "nltk", "matplotlib")  # packages that score and draw
CONVERTER = "ct3d.pipeline.hsenet_convert"
WATCH = "ct3d.training.watch"
LACKS = re.compile(r"ModuleNotFoundError: No module named '(?!ct3d)(\w+)")


def evaluate(what: str, options: list[str], *, python: Path, note: Note) -> dict[str, Any]:
    """The JSON object of one evaluation.

    Args:
        what: a key of MODULES.
        options: of that module's command line.
        python: the worker's interpreter, with torch.
        note: called with each line of progress.

    Raises:
        InvalidRequest: the training code is not in this installation, or that Python lacks a package.
        AssistantError: what the evaluation raised; TaskFailed with its last lines where it broke.
    """
    return _of_training(MODULES[what], options, python, note)


def watch(options: list[str], *, python: Path, note: Note) -> dict[str, Any]:
    """The JSON object of ct3d.training.watch: scores of the shared encoder on one scan, and three figures.

    Args and errors as of `evaluate`.
    """
    return _of_training(WATCH, options, python, note)


def _of_training(module: str, options: list[str], python: Path, note: Note) -> dict[str, Any]:
    if not PACKAGE_FOLDER.joinpath(*module.split(".")).with_suffix(".py").is_file():
        raise InvalidRequest(
            "The code that evaluates models is not part of this installation. Run this from a source tree."
        )
    return _result_of(module, options, python, note)


def convert_weights(options: list[str], *, python: Path, note: Note) -> dict[str, Any]:
    """The JSON object of one conversion of released weights, see ct3d.pipeline.hsenet_convert.

    Args:
        options: of that module's command line.
        python: the worker's interpreter, with torch.
        note: called with each line of progress.

    Raises:
        AssistantError: what the conversion raised; TaskFailed with its last lines where it broke.
    """
    return _result_of(CONVERTER, options, python, note)


def _result_of(module: str, options: list[str], python: Path, note: Note) -> dict[str, Any]:
    code, told, said = _run([str(python), "-X", "utf8", "-m", module, *options], python, note)
    if code:
        raise _error(told, said, python)
    return json.loads(told)


def _run(command: list[str], python: Path, note: Note) -> tuple[int, str, list[str]]:
    """Exit code, standard output, and the lines of standard error, which are noted as they come."""
    said: list[str] = []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        try:
            process = subprocess.Popen(
                command,
                cwd=PACKAGE_FOLDER,
                env=environment_of(python),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise InvalidRequest(f"{python} can't be run ({error}). Give another Python.") from error
        try:
            for line in process.stderr:
                said.append(line.rstrip())
                note(line.rstrip())
            process.wait()
        finally:  # nothing outlives the command, however it ends
            process.kill()
            process.wait()
            process.stderr.close()
        out.seek(0)
        return process.returncode, out.read(), said


def _error(told: str, said: list[str], python: Path) -> AssistantError:
    lacking = LACKS.search(said[-1]) if said else None
    if lacking:
        wanted = "requirements-train.txt" if lacking[1] in OF_TRAINING else "requirements-torch.txt"
        return InvalidRequest(
            f"{python} has no package {lacking[1]!r}, which this needs. Install "
            f"Resources/{wanted} there, or choose another Python with --worker-python."
        )
    if told.startswith('{"error"'):
        error = json.loads(told)["error"]
        return error_of(error["code"], error["message"])
    tail = "\n".join(said[-LAST_LINES:])
    return TaskFailed(f"This broke. Report it with these lines.\n{tail}")
