"""The worker's own Python: find it, check it, install it, remove it. It may be another than the host's.

What is installed lies in the user's own folder, at a short path, outside any application: a virtual
environment, or, for the application's own Python, which can't have one, a folder of packages that its
PYTHONPATH names. A Python that belongs to someone else is never written into.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ct3d.cards import weights_folder
from ct3d.errors import InvalidRequest, TaskFailed
from CT3DAssistantLib.resources import resource_path

PACKAGE_FOLDER = Path(__file__).resolve().parents[1]  # holds ct3d and CT3DAssistantLib
NEEDED = ("numpy", "scipy", "SimpleITK", "xllamacpp")
OPTIONAL = ("torch", "transformers", "monai")
DOWNLOAD_MB, DISK_MB = 150, 600  # of what is needed, about
TORCH_MB, TORCH_DISK_MB = (
    300,
    1500,
)  # of torch and what goes with it on top; several times that for an NVIDIA GPU
REQUIREMENTS = "requirements-worker.txt"
TORCH_CPU, TORCH = "requirements-torch-cpu.txt", "requirements-torch.txt"
LAST_LINES = 12
CHECK = """
import json, sys
from importlib import metadata
versions = {}
for name in sys.argv[1:]:
    found = list(metadata.distributions(name=name))
    versions[name] = found[0].version if found else ""
print(json.dumps({"python": ".".join(map(str, sys.version_info[:3])), "packages": versions}))
"""

Environment = Mapping[str, str] | None  # of a process; None: as this one's
Note = Callable[[str], None]


@dataclass(frozen=True)
class WorkerCheck:
    """What a worker interpreter has; usable when nothing needed is missing."""

    python: Path
    python_version: str
    packages: dict[str, str]  # name → version, "" where absent

    @property
    def missing(self) -> tuple[str, ...]:
        """Needed packages that are not installed."""
        return self.lacks()

    def lacks(self, more: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Needed packages that are not installed, and those of `more` that aren't."""
        return tuple(name for name in (*NEEDED, *more) if not self.packages.get(name))


def worker_folder() -> Path:
    """Where this user's own worker environment lies: a short path, outside any application."""
    return weights_folder().parent / "worker"


def packages_folder() -> Path:
    """Where packages for the host's own Python lie, if that can't have a virtual environment."""
    return weights_folder().parent / f"packages-{sys.version_info.major}.{sys.version_info.minor}"


def interpreter_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def is_own_interpreter(python: Path) -> bool:
    """Whether an interpreter is the one that this program runs on, or the launcher beside it."""
    return Path(python).parent.resolve() == Path(sys.executable).parent.resolve()


def is_virtual(python: Path) -> bool:
    """Whether an interpreter belongs to a virtual environment."""
    return (Path(python).parents[1] / "pyvenv.cfg").is_file()


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


def environment_of(python: Path, foreign: Environment = None) -> dict[str, str] | None:
    """What a process of this interpreter must find in its environment; None: as this process's.

    Args:
        foreign: for an interpreter that isn't this program's own.
    """
    if not is_own_interpreter(python):
        return None if foreign is None else dict(foreign)
    if not packages_folder().is_dir() or is_virtual(python):
        return None
    own = dict(os.environ)
    own["PYTHONPATH"] = os.pathsep.join(filter(None, (str(packages_folder()), own.get("PYTHONPATH"))))
    return own


def check_worker(python: Path, foreign: Environment = None) -> WorkerCheck:
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
            env=environment_of(python, foreign),
        )
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise InvalidRequest(
            f"{python} can't be run ({error}). Give the path of a Python 3.11 or later."
        ) from error
    return WorkerCheck(python, found["python"], found["packages"])


def install_worker(
    python: Path,
    *,
    find_links: Path | None = None,
    note: Note = lambda _text: None,
    foreign: Environment = None,
    needs: tuple[str, ...] = (),
) -> WorkerCheck:
    """Install what the worker needs, pinned and hash-checked, and return the new state.

    Args:
        python: of a virtual environment: the packages go there. Of none, or not there yet: a virtual
            environment is made in this user's own folder, from this Python or the running one.
        find_links: a folder that holds all the packages; the registry is then not asked.
        note: called with each line that pip says.
        needs: what a profile asks for on top; any of it brings torch and all that goes with it.

    Raises:
        TaskFailed: if pip fails; the message ends with pip's last lines.
    """
    if not python.is_file():
        python = _make_environment(Path(sys.executable), python.parents[1], note, foreign)
    elif not is_virtual(python):
        python = _make_environment(python, worker_folder(), note, foreign)
    pip = [str(python), "-m", "pip", "install", "--require-hashes", "--disable-pip-version-check"]
    pip += ["--no-input", "--progress-bar", "off"]
    if find_links:
        pip += ["--no-index", "--find-links", str(find_links)]
    if not is_virtual(python):
        packages_folder().mkdir(parents=True, exist_ok=True)
        pip += ["--target", str(packages_folder()), "--upgrade"]
    environment = environment_of(python, foreign)
    run([*pip, "-r", str(resource_path(REQUIREMENTS))], note=note, environment=environment)
    if needs:
        _install_torch(pip, note, environment)
    return check_worker(python, foreign)


def _install_torch(pip: list[str], note: Note, environment: Environment) -> None:
    """The build for a GPU where there is an NVIDIA one; else a CPU build, where pip knows of one."""
    files = (TORCH,) if shutil.which("nvidia-smi") else (TORCH_CPU, TORCH)
    for file in files:
        try:
            run([*pip, "-r", str(resource_path(file))], note=note, environment=environment)
        except TaskFailed:
            if file == files[-1]:
                raise
            note("There is no build of torch for processors only here: installing the general one.")
        else:
            return


def remove_worker() -> None:
    """Remove what was installed into this user's own folders."""
    for folder in (worker_folder(), packages_folder()):
        shutil.rmtree(folder, ignore_errors=True)


def _make_environment(base: Path, folder: Path, note: Note, foreign: Environment) -> Path:
    """The interpreter of a new virtual environment; the base itself where that can't have one."""
    note(f"Making a virtual environment in {folder}")
    _empty(folder)
    made = interpreter_of(folder)
    try:
        run(
            [str(base), "-m", "venv", "--without-pip", str(folder)], environment=environment_of(base, foreign)
        )
        asked = [str(made), "-c", "import sys; sys.exit(sys.prefix == sys.base_prefix)"]
        run(asked, environment=environment_of(made, foreign))
        run([str(made), "-m", "ensurepip"], environment=environment_of(made, foreign))
    except TaskFailed:
        shutil.rmtree(folder, ignore_errors=True)
        if not is_own_interpreter(base):
            raise
        note(f"This Python can't have a virtual environment: the packages go to {packages_folder()}")
        return base
    return made


def _empty(folder: Path) -> None:
    """Remove what is left of an environment; never a folder that holds something else."""
    is_ours = folder == worker_folder() or (folder / "pyvenv.cfg").is_file()
    if not is_ours and folder.exists() and any(folder.iterdir()):
        raise InvalidRequest(f"{folder} holds other files. Choose a Python that exists, or an empty folder.")
    shutil.rmtree(folder, ignore_errors=True)


def run(command: list[str], *, note: Note = lambda _text: None, environment: Environment = None) -> None:
    """Run a command to its end; its last lines are in the error if it fails."""
    said: list[str] = []
    try:
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
        ) as process:
            for line in process.stdout or ():
                said.append(line.rstrip())
                note(line.rstrip())
    except OSError as error:
        raise TaskFailed(f"{command[0]} can't be run ({error}). Choose another Python.") from error
    if process.returncode:
        tail = "\n".join(said[-LAST_LINES:])
        raise TaskFailed(f"Installing failed. Check the network or proxy and try again.\n{tail}")
