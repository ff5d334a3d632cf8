"""One sitting inside the application: worker, logic and workspace over its scene, for panels and scripts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import slicer
from slicer.util import VTKObservationMixin

from ct3d.client.client import Client
from ct3d.client.session_folder import SessionFolder
from ct3d.client.transport import Transport
from CT3DAssistantLib.environment import PACKAGE_FOLDER, find_worker_python, worker_command
from CT3DAssistantLib.logic import AssistantLogic
from CT3DAssistantLib.panels.command import Chore
from CT3DAssistantLib.panels.panel import running_safely
from CT3DAssistantLib.recovery import Recovery, recovery_folder
from CT3DAssistantLib.scene import analysed_volumes
from CT3DAssistantLib.settings import Settings
from CT3DAssistantLib.transport_qt import Pump, QProcessTransport, without_launcher, worker_environment
from CT3DAssistantLib.workspace import State, Workspace


class ApplicationSitting(VTKObservationMixin):
    """What lives while the module is in use; the worker starts with the first task.

    Args:
        scene: the application's.
        read_state: gives what is saved with the scene; asked again whenever the scene is another.
        settings: of the user; asked whenever a worker starts.
    """

    def __init__(self, scene: slicer.vtkMRMLScene, read_state: Callable[[], State], settings: Settings):
        super().__init__()
        self.settings = settings
        self._read_state = read_state
        self.exchange = SessionFolder()
        self.client = Client(
            [], self.exchange.path, folder=PACKAGE_FOLDER, transport=lambda *_: self._make_transport()
        )
        self.logic = AssistantLogic(scene, self.client, self.exchange.path)
        kept = Recovery(Path(settings.recovery_folder or recovery_folder()))
        self.workspace = Workspace(self.logic, read_state(), later=self.client.deliver, recovery=kept)
        self.pump = Pump(self.client, partial(running_safely, self.workspace.tell))
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        for event in (scene.EndCloseEvent, scene.EndImportEvent, scene.EndRestoreEvent):
            self.addObserver(scene, event, self.onSceneEndClose)

    def onSceneStartClose(self, _caller: Any, _event: Any) -> None:
        """What runs is about volumes that go now."""
        self.workspace.cancel_all()

    def onSceneEndClose(self, _caller: Any, _event: Any) -> None:
        """Another scene, another parameter node; where that names no volume, one with a case is chosen."""
        self.workspace.state = self._read_state()
        analysed = analysed_volumes(self.workspace.scene)
        if self.workspace.volume_node is None and analysed:
            self.workspace.volume_node = analysed[0]
        self.workspace.touch()

    def close(self) -> None:
        """Stop what runs, end the worker and remove the exchange folder; a second time does nothing.

        Whoever waits for a job hears that it was stopped. No process is left that Qt would have to end when
        Python is gone.
        """
        self.removeObservers()
        chores = [job for job in self.workspace.jobs if isinstance(job, Chore)]
        self.workspace.cancel_all()
        for chore in chores:
            chore.close()
        self.client.close()
        self.pump.finish()
        self.workspace.close()
        self.exchange.close()

    def _make_transport(self) -> Transport:
        chosen = self.settings.worker_python
        python = without_launcher(find_worker_python(Path(chosen) if chosen else None))
        environment = worker_environment(python)
        return QProcessTransport(
            worker_command(python), PACKAGE_FOLDER, environment, wake=lambda: self.pump.wake()
        )
