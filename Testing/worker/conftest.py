import os
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from ct3d.client.client import Client, Limits
from ct3d.client.session_folder import SessionFolder
from ct3d.client.transport import PopenTransport

sys.path.insert(0, str(Path(__file__).parent))  # for rogue.tasks

from processes import CODE, HERE, QUICK, children  # noqa: E402
from rogue.tasks import TABLE  # noqa: E402


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """After every test: no child process, not even a zombie."""
    before = set(children())
    yield
    end = time.monotonic() + 3.0
    while (
        left := {pid: state for pid, state in children().items() if pid not in before}
    ) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left


@pytest.fixture
def a_session_folder(tmp_path):
    with SessionFolder(tmp_path) as folder:
        yield folder.path


@pytest.fixture
def a_client_of(a_session_folder):
    """Makes a client of the real worker with the test tasks, or of a rogue that is replaced by it later."""
    clients = []

    def make(
        rogue: str = "", times: int = 1, limits: Limits = QUICK, folder: Path = a_session_folder
    ) -> Client:
        environment = {**os.environ, "PYTHONPATH": str(HERE)}
        command = [sys.executable, "-X", "utf8", "-m", "ct3d.worker", "--tasks", "rogue.tasks:TABLE"]
        if rogue:
            script = HERE / "rogue" / rogue
            counter = a_session_folder / f"started-{len(clients)}"
            command = [
                sys.executable,
                str(HERE / "first_times.py"),
                str(counter),
                str(times),
                str(script),
                *command,
            ]
        client = Client(
            command,
            folder,
            folder=CODE,
            tasks=TABLE,
            limits=limits,
            transport=partial(PopenTransport, environment=environment),
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def a_client(a_client_of):
    """A client of the real worker."""
    return a_client_of(limits=Limits())
