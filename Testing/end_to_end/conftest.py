"""The command line as a person runs it: a process of its own, with a real worker."""

import json
import os
import subprocess
import sys

import pytest

from ct3d.case import Case

PACKAGE_FOLDER = "CT3DAssistant"


@pytest.fixture(scope="session")
def the_command(worker_python, request):
    """Runs `ct3d-assistant` and gives the finished process; anything VTK calls an error fails the test."""
    folder = request.config.rootpath / PACKAGE_FOLDER
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    start = [
        sys.executable,
        "-X",
        "utf8",
        "-m",
        "CT3DAssistantLib.cli",
        "--worker-python",
        str(worker_python),
    ]

    def run(*arguments, **options):
        words = [*start, *(str(each) for each in arguments)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=400, **options)
        assert "ERR|" not in done.stderr, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done

    run.start, run.environment = start, environment
    return run


@pytest.fixture(scope="session")
def an_analysed_demo(the_command, a_sample, tmp_path_factory):
    """Folder of the demo CT's whole analysis, what the command printed, and the case."""
    path = a_sample("lidc_idri_0001")
    out = tmp_path_factory.mktemp("demo") / "out put ü"  # spaces and letters beyond ASCII
    done = the_command("--json", "analyze", path, "--out", out, "--ask", "How large is the largest nodule?")
    assert done.returncode == 0, done.stdout + done.stderr
    return out, json.loads(done.stdout), Case.from_json((out / "case.json").read_text(encoding="utf-8"))
