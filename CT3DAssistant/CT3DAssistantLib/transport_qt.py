"""Bytes to a worker process and back by signals of Qt, and the timer that polls a client: no Python thread.

In an application that embeds Python in Qt, Python threads starve while the event loop idles; QProcess tells
at once. Everything here happens in the thread of the event loop.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import qt
import slicer

from ct3d.client.client import Client
from ct3d.client.transport import BYTES_UNWRITTEN, LogTail
from ct3d.errors import WorkerLost
from CT3DAssistantLib.environment import environment_of, is_own_interpreter

BYTES_UNREAD = 64 << 20  # more than any worker of ours leaves lying: its messages have at most 4 MB
PIECE_MS = 20  # the longest that a wait keeps Qt from seeing what else there is
BUSY_MS = 20  # between looks at the clock while a job runs; bytes are taken in as they come
NOT_STARTED = 127  # as a shell says it
OWN_SESSION = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"
OF_PYTHON = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONEXECUTABLE")


class QProcessTransport:
    """A worker process whose pipes are read and written by the event loop.

    The process leads a session of its own, so that it can be ended together with its children. It belongs to
    the application object until it has ended, so nobody waits for it when this transport is let go.

    Args:
        command: a Python interpreter and its arguments.
        folder: working directory; None: the host's.
        environment: None: the host's.
        wake: called when there is something for the client to see, from the event loop or from `write`.
    """

    def __init__(
        self,
        command: list[str],
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
        *,
        wake: Callable[[], None] = lambda: None,
    ):
        self.command = command
        self.folder = folder
        self.environment = environment
        self._wake = wake
        self._process: Any = None  # None before its start and after its end
        self._pid = 0
        self._has_started = False
        self._code: int | None = None
        self._unread = bytearray()
        self._log = LogTail()

    def start(self) -> None:
        if not shutil.which(self.command[0]):
            raise WorkerLost(
                f"The worker can't be started ({self.command[0]} is no program that can be run). "
                "Choose or install its Python in the Models section, or run `ct3d-assistant doctor`."
            )
        self._process = process = qt.QProcess(qt.QCoreApplication.instance())
        if self.folder:
            process.setWorkingDirectory(str(self.folder))
        if self.environment is not None:
            process.setProcessEnvironment(_environment(self.environment))
        process.connect("readyReadStandardOutput()", self._on_output)
        process.connect("readyReadStandardError()", self._on_log)
        process.connect("finished(int,QProcess::ExitStatus)", self._on_finished)
        process.connect("started()", self._on_started)
        process.connect("errorOccurred(QProcess::ProcessError)", self._on_error)
        program, *arguments = _leading_its_session(self.command)
        process.start(program, arguments)
        if self._process is not None:
            self._pid = process.processId()
        self._wake()

    def write(self, data: bytes) -> None:
        if self._process is None:
            return  # that it has ended is noticed elsewhere
        if self._process.bytesToWrite() + len(data) > BYTES_UNWRITTEN:
            raise WorkerLost("The worker has stopped reading. Start the task again.")
        self._process.write(data)
        self._wake()

    def read(self, timeout_s: float) -> bytes:
        if timeout_s > 0 and not self._unread and self._process is not None:
            self._process.waitForReadyRead(max(1, int(1000 * timeout_s)))
        data = bytes(self._unread)
        self._unread.clear()
        return data

    def ended(self) -> int | None:
        return None if self._unread else self._code

    def log(self) -> tuple[str, ...]:
        return self._log.lines()

    def kill(self) -> None:
        if self._process is not None:
            _kill_tree(self._pid)
            self._process.kill()

    def close(self, grace_s: float) -> None:
        if self._process is None:
            return
        self._process.closeWriteChannel()
        self._wait(grace_s)
        self.kill()
        self._wait(grace_s)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._process is not None and time.monotonic() < deadline:
            self._process.waitForFinished(PIECE_MS)
            self._unread.clear()

    # slots

    def _on_output(self) -> None:
        self._unread += self._process.readAllStandardOutput().data()
        if len(self._unread) > BYTES_UNREAD:
            self._log.feed(b"The worker wrote more than the host could read, and was ended.\n")
            self._unread.clear()
            self.kill()
        self._wake()

    def _on_log(self) -> None:
        self._log.feed(self._process.readAllStandardError().data())

    def _on_finished(self, code: int, _status: Any = None) -> None:
        """Take what it wrote last; end the children that outlived it."""
        is_crash = self._process.exitStatus() == qt.QProcess.CrashExit
        self._unread += self._process.readAllStandardOutput().data()
        self._log.feed(self._process.readAllStandardError().data())
        if sys.platform != "win32":  # there the number may be another process's by now
            _kill_tree(self._pid)
        self._end(-code if is_crash and sys.platform != "win32" else code)

    def _on_started(self) -> None:
        self._has_started = True

    def _on_error(self, _error: Any = None) -> None:
        """An end is told by `finished`, unless the process never began."""
        if self._process is not None and not self._has_started:
            self._log.feed(f"{self.command[0]}: {self._process.errorString()}\n".encode())
            self._end(NOT_STARTED)

    def _end(self, code: int) -> None:
        process, self._process = self._process, None
        self._code = code
        self._log.end()
        process.deleteLater()
        self._wake()


class Pump:
    """Polls a client from the event loop: at once when there is something to do, never when there isn't.

    Args:
        client: its `wake` is set here.
        safely: gives a context manager that takes care of a callback's errors.
    """

    def __init__(self, client: Client, safely: Callable[[], AbstractContextManager[Any]]):
        self.client = client
        self.longest_s = 0.0  # longest turn, callbacks included
        self._safely = safely
        self._is_woken = False
        self._timer = qt.QTimer()
        self._timer.connect("timeout()", self._turn)
        client.wake = self.wake

    def wake(self) -> None:
        """Poll in the next turn of the event loop."""
        self._is_woken = True
        self._timer.start(0)

    def finish(self) -> None:
        """Call what is still to be called of a client that is closed, then poll no more."""
        while self.client.has_deliveries:
            with self._safely():
                self.client.poll()
        self.client.wake = lambda: None
        self._timer.stop()

    def _turn(self) -> None:
        """One poll. A callback may run the event loop, which then comes here again: a poll may be nested."""
        began = time.perf_counter()
        self._is_woken = False
        self._timer.start(BUSY_MS)
        with self._safely():
            self.client.poll()
        if self.client.has_deliveries or self._is_woken:
            self._timer.start(0)
        elif not self.client.is_busy:
            self._timer.stop()
        self.longest_s = max(self.longest_s, time.perf_counter() - began)


def without_launcher(python: Path) -> Path:
    """The interpreter that the application's launcher starts: a launcher, when ended, leaves it behind."""
    real = Path(python).with_name("python-real" + Path(python).suffix)
    return real if is_own_interpreter(python) and real.is_file() else Path(python)


def worker_environment(python: Path) -> dict[str, str] | None:
    """What a process of this interpreter must find in its environment; None: what the host has.

    The application's own interpreter needs the libraries' paths that its launcher has set. Any other would be
    broken by them: it gets what was there before the launcher, without settings of another Python.
    """
    return environment_of(python, foreign_environment())


def foreign_environment() -> dict[str, str] | None:
    """What an interpreter must find that isn't the application's own; None: what the host has."""
    if not hasattr(slicer, "app"):
        return None
    found = slicer.util.startupEnvironment()
    return {name: value for name, value in found.items() if name.upper() not in OF_PYTHON}


def _environment(values: dict[str, str]) -> Any:
    environment = qt.QProcessEnvironment()
    for name, value in values.items():
        environment.insert(name, value)
    return environment


def _leading_its_session(command: list[str]) -> list[str]:
    """The command, run by its own interpreter as the leader of a new session; Windows has none."""
    if sys.platform == "win32":
        return command
    return [command[0], "-S", "-c", OWN_SESSION, *command]


def _kill_tree(pid: int) -> None:
    """End a process's session, or on Windows the process and its children; returns at once."""
    if pid <= 0:
        return
    if sys.platform == "win32":
        qt.QProcess.startDetached("taskkill", ["/T", "/F", "/PID", str(pid)])
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
