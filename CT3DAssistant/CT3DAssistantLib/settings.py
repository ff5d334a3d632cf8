"""What is kept with the user, across scenes: plain attributes over the application's settings file."""

from typing import Any

import qt

GROUP = "CT3DAssistant"


class _Text:
    """One entry of the settings file as an attribute that holds a text."""

    def __init__(self, key: str, default: str = ""):
        self.key, self.default = f"{GROUP}/{key}", default

    def __get__(self, settings: "Settings", _owner: type) -> str:
        return str(settings.store.value(self.key, self.default) or "")

    def __set__(self, settings: "Settings", text: str) -> None:
        settings.store.setValue(self.key, str(text))


class Settings:
    """The user's choices.

    Args:
        store: a QSettings; None: the application's.

    Attributes:
        worker_python: path of the interpreter that the worker runs on; "" for the installed one.
        export_folder: where exports went last.
        reader_name: who signs reports and reviews landmarks.
        second_reader_name: who places points a second time.
        packages_folder: where packages lie for use without network; "" for the registry.
        accepted_licenses: one a line, "card id: licence, time".
        recovery_folder: where a person's work is kept beside the scene; "" for the user's own folder.
    """

    worker_python = _Text("workerPython")
    export_folder = _Text("exportFolder")
    reader_name = _Text("readerName")
    second_reader_name = _Text("secondReaderName")
    packages_folder = _Text("packagesFolder")
    accepted_licenses = _Text("acceptedLicenses")
    recovery_folder = _Text("recoveryFolder")

    def __init__(self, store: Any = None):
        self.store = qt.QSettings() if store is None else store
