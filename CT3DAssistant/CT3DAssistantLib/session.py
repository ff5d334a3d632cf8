"""One sitting without the application: a worker process, and a scene with the logic over both."""

from functools import partial
from pathlib import Path
from typing import Any, Self

from ct3d.client.client import Client
from ct3d.client.session_folder import SessionFolder
from ct3d.client.transport import PopenTransport
from ct3d.imaging.files import read_volume
from CT3DAssistantLib.environment import PACKAGE_FOLDER, environment_of, find_worker_python, worker_command
from CT3DAssistantLib.headless import boot
from CT3DAssistantLib.logic import AssistantLogic
from CT3DAssistantLib.profiles import profile_of
from CT3DAssistantLib.scene import add_volume


class WorkerOnly:
    """A worker process and its exchange folder, for tasks over a case that needs no scene.

    Args:
        worker_python: interpreter of the worker; None: the installed one.
    """

    def __init__(self, worker_python: Path | None = None):
        self.exchange = SessionFolder()
        python = find_worker_python(worker_python)
        transport = partial(PopenTransport, environment=environment_of(python))
        self.client = Client(
            worker_command(python), self.exchange.path, folder=PACKAGE_FOLDER, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.exchange.close()


class Sitting(WorkerOnly):
    """A scene too; as a context manager it ends all of it and removes the exchange folder.

    Args:
        profile: id of the model profile; "": the default.
    """

    def __init__(self, worker_python: Path | None = None, profile: str = ""):
        super().__init__(worker_python)
        self.session = boot()
        self.scene = self.session.scene
        chosen = profile_of(profile)
        self.logic = AssistantLogic(self.scene, self.client, self.exchange.path, profile=chosen)

    def open(self, path: Path, *, series: str | None = None) -> Any:
        """Read a CT into the scene and give its volume node.

        Raises:
            InvalidRequest: if the files hold no CT that can be used; says why and what to do.
        """
        chosen = int(series) if series and series.isdigit() else series
        volume, notes = read_volume(path, series=chosen)
        return add_volume(self.scene, volume, notes=notes)

    def finish(self, job: Any) -> Any:
        """Poll until a job of the logic is done and give its result; Ctrl-C stops it."""
        try:
            while not job.done:
                self.client.poll(0.05)
        except KeyboardInterrupt:
            job.cancel()
            while not job.done:
                self.client.poll(0.05)
        return job.result()

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self.session.close()
