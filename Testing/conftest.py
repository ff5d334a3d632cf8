"""What all test folders share: the worker's interpreter and where the sample CTs lie."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE_FOLDER = ROOT / "CT3DAssistant"
SHARED = ROOT.parent / "shared"  # development data beside the checkout; tests over it skip where it is absent


def pytest_addoption(parser):
    parser.addoption("--worker-python", default=sys.executable, help="interpreter with the worker's packages")
    parser.addoption("--bundles", help="folder of analysed scenes to reuse; made there where they are absent")


@pytest.fixture(scope="session")
def worker_python(request) -> Path:
    return Path(request.config.getoption("--worker-python")).absolute()


@pytest.fixture(scope="session")
def a_sample():
    """Path of a sample's CT by the sample's name; set-up fetches the samples, tests never do."""
    from CT3DAssistantLib.samples import sample_scan

    def path(name: str) -> Path:
        found = sample_scan(name)
        if not found.exists():
            pytest.skip(f"sample {name} is not here; run `ct3d-assistant sample {name}`")
        return found

    return path


@pytest.fixture(scope="session")
def a_home_with_hsenet(worker_python, tmp_path_factory) -> Path:
    """Home folder with cards and weights of a small, made-up HSENet; skips where the worker has no torch."""
    asked = [str(worker_python), "-c", "import torch, transformers, safetensors"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("needs a worker with torch")
    home = tmp_path_factory.mktemp("home")
    path = os.pathsep.join((str(PACKAGE_FOLDER), str(ROOT / "Testing")))
    command = [str(worker_python), "-m", "pipeline.hsenet_home", str(home)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return home
