"""The worker's Python: a virtual environment of its own, or a folder of packages; nobody else's is touched.

Real interpreters; pip is stood in for by a module of that name, so that nothing is downloaded.
"""

import os
import sys
from pathlib import Path

import pytest

from ct3d.errors import InvalidRequest, TaskFailed
from CT3DAssistantLib import environment
from CT3DAssistantLib.environment import (
    check_worker,
    environment_of,
    find_worker_python,
    install_worker,
    interpreter_of,
    is_virtual,
    remove_worker,
)

PIP = """
import pathlib, sys
with pathlib.Path({log!r}).open("a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
print("Collecting x")
"""


@pytest.fixture
def own_folders(monkeypatch, tmp_path):
    """The user's own folders, in a temporary place."""
    monkeypatch.setattr(environment, "worker_folder", lambda: tmp_path / "worker")
    monkeypatch.setattr(environment, "packages_folder", lambda: tmp_path / "packages")
    return tmp_path


@pytest.fixture
def asked_of_pip(monkeypatch, tmp_path):
    """Stands in for pip and ensurepip; gives what pip was asked for."""
    log, modules = tmp_path / "pip.log", tmp_path / "modules"
    for name in ("pip", "ensurepip"):
        (modules / name).mkdir(parents=True)
        (modules / name / "__init__.py").touch()
        code = PIP.format(log=str(log)) if name == "pip" else ""
        (modules / name / "__main__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(modules))
    return lambda: log.read_text().splitlines()


def test_a_virtual_environment_is_made_in_the_users_own_folder(own_folders, asked_of_pip):
    said = []
    found = install_worker(interpreter_of(own_folders / "worker"), note=said.append)
    assert found.python == interpreter_of(own_folders / "worker") and is_virtual(found.python)
    (asked,) = asked_of_pip()
    assert "--require-hashes" in asked and "--target" not in asked and "requirements-worker.txt" in asked
    assert "Collecting x" in said
    assert find_worker_python() == found.python
    remove_worker()
    assert not (own_folders / "worker").exists() and find_worker_python() == Path(sys.executable)


def test_a_python_that_can_have_no_virtual_environment_gets_a_folder_of_packages(
    own_folders, asked_of_pip, monkeypatch
):
    real = environment.run

    def run(command, **more):
        if "venv" in command:
            raise TaskFailed("no venv here")
        real(command, **more)

    monkeypatch.setattr(environment, "run", run)
    monkeypatch.setattr(environment, "is_virtual", lambda _: False)
    said = []
    found = install_worker(interpreter_of(own_folders / "worker"), note=said.append)
    assert found.python == Path(sys.executable)
    (asked,) = asked_of_pip()
    assert f"--target {own_folders / 'packages'} --upgrade" in asked
    assert any("can't have a virtual environment" in each for each in said)
    first = environment_of(found.python)["PYTHONPATH"].split(os.pathsep)[0]
    assert first == str(own_folders / "packages")


def test_what_lies_in_the_folder_of_packages_is_what_the_worker_finds(own_folders, monkeypatch):
    monkeypatch.setattr(environment, "is_virtual", lambda _: False)
    made = own_folders / "packages" / "scipy-99.0.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: scipy\nVersion: 99.0\n")
    assert check_worker(Path(sys.executable)).packages["scipy"] == "99.0"


def test_offline_only_the_folder_is_asked(own_folders, asked_of_pip, tmp_path):
    install_worker(interpreter_of(own_folders / "worker"), find_links=tmp_path)
    assert f"--no-index --find-links {tmp_path}" in asked_of_pip()[0]


@pytest.mark.parametrize(
    ("has_nvidia", "has_cpu_build", "asked"),
    [
        (False, True, ["worker.txt", "torch-cpu.txt"]),
        (False, False, ["worker.txt", "torch-cpu.txt", "torch.txt"]),
        (True, True, ["worker.txt", "torch.txt"]),
    ],
)
def test_a_profile_that_needs_torch_gets_the_build_that_fits_the_machine(
    own_folders, asked_of_pip, monkeypatch, has_nvidia, has_cpu_build, asked
):
    real, said = environment.run, []

    def run(command, **more):
        real(command, **more)
        if command[-1].endswith("torch-cpu.txt") and not has_cpu_build:
            raise TaskFailed("no file of these checksums")

    monkeypatch.setattr(environment, "run", run)
    monkeypatch.setattr(environment.shutil, "which", lambda name: f"/bin/{name}" if has_nvidia else None)
    install_worker(interpreter_of(own_folders / "worker"), note=said.append, needs=("torch",))
    assert [line.split("requirements-")[1] for line in asked_of_pip()] == asked
    assert all("--require-hashes" in line for line in asked_of_pip())
    assert any("the general one" in each for each in said) == (len(asked) == 3)


def test_what_a_profile_needs_on_top_is_told_as_missing_only_for_that_profile(own_folders):
    found = check_worker(Path(sys.executable))
    assert "torch" not in found.missing and found.lacks(("no_such_package",))[-1] == "no_such_package"


def test_a_folder_with_other_files_is_never_emptied(own_folders, tmp_path):
    (tmp_path / "home" / "bin").mkdir(parents=True)
    (tmp_path / "home" / "letter").write_text("dear")
    with pytest.raises(InvalidRequest, match="holds other files"):
        install_worker(tmp_path / "home" / "bin" / "python")
    assert (tmp_path / "home" / "letter").read_text() == "dear"


def test_a_foreign_interpreter_gets_the_environment_it_was_given(own_folders, tmp_path):
    foreign = tmp_path / "elsewhere" / "bin" / "python"
    assert environment_of(foreign) is None and environment_of(foreign, {"A": "b"}) == {"A": "b"}


def test_a_half_broken_environment_is_told_and_made_anew(own_folders, asked_of_pip):
    python = interpreter_of(own_folders / "worker")
    python.parent.mkdir(parents=True)
    python.write_text("not a program")
    python.chmod(0o755)
    with pytest.raises(InvalidRequest, match="can't be run"):
        check_worker(python)
    remove_worker()
    assert install_worker(python).python_version.startswith("3.")


def test_a_failing_pip_is_told_with_its_last_lines(own_folders, asked_of_pip, tmp_path):
    (tmp_path / "modules" / "pip" / "__main__.py").write_text("print('no network'); raise SystemExit(2)")
    with pytest.raises(TaskFailed, match="no network"):
        install_worker(interpreter_of(own_folders / "worker"))
