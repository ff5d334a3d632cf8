"""The worker's own Python: find it, check it, install it. It may be another interpreter than the host's."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ct3d.cards import weights_folder
from ct3d.errors import InvalidRequest, TaskFailed
from CT3DAssistantLib.resources import resource_path

PACKAGE_FOLDER = Path(__file__).resolve().parents[1]  # holds ct3d and CT3DAssistantLib
NEEDED = ("numpy", "scipy", "SimpleITK", "xllamacpp")
OPTIONAL = ("torch", "transformers")
CHECK = """
import json, sys
from importlib import metadata
versions = {}
for name in sys.argv[1:]:
    found = list(metadata.distributions(name=name))
    versions[name] = found[0].version if found else ""
print(json.dumps({"python": ".".join(map(str, sys.version_info[:3])), "packages": versions}))
"""


@dataclass(frozen=True)
class WorkerCheck:
    """What a worker interpreter has; usable when nothing needed is missing."""

    python: Path
    python_version: str
    packages: dict[str, str]  # name → version, "" where absent

    @property
    def missing(self) -> tuple[str, ...]:
        """Needed packages that are not installed."""
        return tuple(name for name in NEEDED if not self.packages.get(name))


def worker_folder() -> Path:
    """Where this user's own worker environment lies: a short path, outside any application."""
    return weights_folder().parent / "worker"


def interpreter_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def find_worker_python(chosen: Path | None = None) -> Path:
    """The interpreter to run the worker with: the chosen one, the installed one, else the host's own.

    Raises:
        InvalidRequest: if the chosen interpreter does not exist.
    """
    if chosen is not None:
        if not chosen.is_file():
            raise InvalidRequest(f"There is no Python at {chosen}. Give the path of an interpreter.")
        return chosen.absolute()
    installed = interpreter_of(worker_folder())
    return installed if installed.is_file() else Path(sys.executable)


def worker_command(python: Path) -> list[str]:
    """The command that starts the worker; run it with PACKAGE_FOLDER as its working directory."""
    return [str(python), "-X", "utf8", "-m", "ct3d.worker"]


def check_worker(python: Path) -> WorkerCheck:
    """What this interpreter has installed.

    Raises:
        InvalidRequest: if it can't be run.
    """
    try:
        done = subprocess.run(
            [str(python), "-c", CHECK, *NEEDED, *OPTIONAL],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InvalidRequest(
            f"{python} can't be run ({error}). Give the path of a Python 3.11 or later."
        ) from error
    found = json.loads(done.stdout)
    return WorkerCheck(python, found["python"], found["packages"])


def install_worker(python: Path, *, find_links: Path | None = None) -> WorkerCheck:
    """Install what the worker needs, pinned and hash-checked, and return the new state.

    An interpreter that is not there yet is made as a virtual environment of the running Python.

    Args:
        python: interpreter to install for.
        find_links: a folder that holds all the packages; the registry is then not asked.

    Raises:
        TaskFailed: if pip fails; the message ends with pip's last lines.
    """
    if not python.is_file():
        run([sys.executable, "-m", "venv", str(python.parents[1])])
    offline = ["--no-index", "--find-links", str(find_links)] if find_links else []
    pip = [str(python), "-m", "pip", "install", "--require-hashes", "--disable-pip-version-check", *offline]
    run([*pip, "-r", str(resource_path("requirements-worker.txt"))])
    return check_worker(python)


def run(command: list[str]) -> None:
    """Run a command to its end; its last lines are in the error if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise TaskFailed(f"Installing failed. Check the network or proxy and try again.\n{tail}")
