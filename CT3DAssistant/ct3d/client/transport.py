"""Bytes to a worker process and back.

`Transport` is what the client needs; `PopenTransport` gives it with the standard library, for command line,
browser and tests. Inside Slicer Python threads starve, so a transport over QProcess takes its place there.
Tried on Linux; the lines for Windows follow its documentation.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ct3d.errors import WorkerLost

LOG_LINES = 200
LOG_LINE_CHARACTERS = 500
CHUNK = 1 << 16
CHUNKS_UNREAD = 128  # then the worker has to wait until the host reads
BYTES_UNWRITTEN = 32 << 20  # then the worker has stopped reading
KILLED_TREE_S = 5.0
LAST_WORDS_S = 1.0
CREATE_NEW_PROCESS_GROUP = 0x00000200  # of Windows; the constant is missing from subprocess elsewhere


class Transport(Protocol):
    """A worker process, seen through its pipes. No call but `close` may block."""

    def start(self) -> None:
        """Start the process.

        Raises:
            WorkerLost: if it can't be started.
        """

    def write(self, data: bytes) -> None:
        """Hand bytes over for the worker's standard input; returns at once.

        Raises:
            WorkerLost: if too much lies unread.
        """

    def read(self, timeout_s: float) -> bytes:
        """Bytes of the worker's standard output; b"" where none came within the time."""

    def ended(self) -> int | None:
        """Exit code, once the process has ended and been reaped and all its output been read; None before."""

    def log(self) -> tuple[str, ...]:
        """The last lines of the worker's standard error."""

    def kill(self) -> None:
        """End the process and its children now; returns at once."""

    def close(self, grace_s: float) -> None:
        """Close the worker's standard input, which asks it to end; kill what still lives after the grace."""


class LogTail:
    """The last lines of what a process wrote to its standard error: so many, so long, and no more."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes."""
        *whole, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest[:LOG_LINE_CHARACTERS]
        self._lines.extend(map(_readable, whole))

    def end(self) -> None:
        """No more will come: what is left is a line."""
        if self._rest:
            self.feed(b"\n")

    def lines(self) -> tuple[str, ...]:
        """The whole lines, oldest first."""
        return tuple(self._lines)


class PopenTransport:
    """A worker process with a thread for each of its pipes, and one that waits for its end and reaps it."""

    def __init__(
        self, command: list[str], folder: Path | None = None, environment: dict[str, str] | None = None
    ):
        self.command = command
        self.folder = folder
        self.environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._read: queue.Queue[bytes] = queue.Queue(CHUNKS_UNREAD)
        self._unwritten: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._bytes_handed_over = 0  # counted by the host's thread
        self._bytes_written = 0  # counted by the writing thread
        self._log = LogTail()
        self._ended: int | None = None
        self._reaping = threading.Lock()
        self._dropped = threading.Event()
        self._waiter: threading.Thread | None = None

    def start(self) -> None:
        try:
            self._process = process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                **_own_group(),
            )
        except OSError as error:
            raise WorkerLost(
                f"The worker can't be started ({error}). Check its Python with `ct3d-assistant doctor`."
            ) from error
        assert process.stdin and process.stdout and process.stderr
        readers = (
            _thread("reads", self._keep_reading, process.stdout),
            _thread("log", self._keep_log, process.stderr),
        )
        _thread("writes", self._keep_writing, process.stdin)
        self._waiter = _thread("waits", self._wait_for_end, process, readers)

    def write(self, data: bytes) -> None:
        if self._bytes_handed_over - self._bytes_written + len(data) > BYTES_UNWRITTEN:
            raise WorkerLost("The worker has stopped reading. Start the task again.")
        self._bytes_handed_over += len(data)
        self._unwritten.put(data)

    def read(self, timeout_s: float) -> bytes:
        try:
            return self._read.get(timeout=timeout_s) if timeout_s > 0 else self._read.get_nowait()
        except queue.Empty:
            return b""

    def ended(self) -> int | None:
        code = self._ended  # set after the last bytes were handed over: look at it first
        return code if self._read.empty() else None

    def log(self) -> tuple[str, ...]:
        return self._log.lines()

    def kill(self) -> None:
        self._dropped.set()
        with self._reaping:
            if self._process and self._process.returncode is None:
                _kill_tree(self._process)

    def close(self, grace_s: float) -> None:
        if not self._waiter:
            return
        self._unwritten.put(None)
        deadline = time.monotonic() + grace_s
        while self._waiter.is_alive() and time.monotonic() < deadline:
            self.read(0.02)  # a worker that still writes must not stand before a full pipe
        self.kill()
        self._waiter.join(KILLED_TREE_S)

    def _keep_reading(self, pipe: BinaryIO) -> None:
        with pipe:
            while chunk := os.read(pipe.fileno(), CHUNK):
                self._hand_over(chunk)

    def _hand_over(self, chunk: bytes) -> None:
        """Wait for room, but not for a host that has dropped this worker."""
        while not self._dropped.is_set():
            with contextlib.suppress(queue.Full):
                self._read.put(chunk, timeout=0.2)
                return

    def _keep_log(self, pipe: BinaryIO) -> None:
        with pipe:
            while chunk := os.read(pipe.fileno(), CHUNK):
                self._log.feed(chunk)
        self._log.end()

    def _keep_writing(self, pipe: BinaryIO) -> None:
        with contextlib.suppress(OSError), pipe:  # the worker has gone; its end is noticed elsewhere
            while (data := self._unwritten.get()) is not None:
                _write_all(pipe, data)
                self._bytes_written += len(data)

    def _wait_for_end(
        self, process: "subprocess.Popen[bytes]", readers: tuple[threading.Thread, ...]
    ) -> None:
        if hasattr(os, "waitid"):
            os.waitid(
                os.P_PID, process.pid, os.WEXITED | os.WNOWAIT
            )  # not reaped yet: its number can't be reused
        else:
            process.wait()
        with self._reaping:
            _kill_tree(process)  # children that outlived it
            code = process.wait()
        self._unwritten.put(None)
        self._wait_for_rest(readers)
        self._ended = code

    def _wait_for_rest(self, readers: tuple[threading.Thread, ...]) -> None:
        """Let the readers take what it wrote last; a child that keeps a pipe open isn't waited for."""
        deadline = time.monotonic() + LAST_WORDS_S
        for reader in readers:
            while reader.is_alive() and not self._dropped.is_set():
                if time.monotonic() > deadline and not self._read.full():
                    break
                reader.join(0.05)


def _thread(name: str, target: Callable[..., object], *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, name=f"ct3d-worker-{name}", daemon=True)
    thread.start()
    return thread


def _write_all(pipe: BinaryIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(pipe.fileno(), rest[:CHUNK]) :]


def _readable(line: bytes) -> str:
    return line[:LOG_LINE_CHARACTERS].decode("utf-8", "replace").rstrip()


def _own_group() -> dict[str, Any]:
    """Popen's arguments that let a process be ended together with its children."""
    if sys.platform == "win32":
        return {"creationflags": CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _kill_tree(process: "subprocess.Popen[bytes]") -> None:
    if sys.platform == "win32":
        _thread("kill", subprocess.call, ["taskkill", "/T", "/F", "/PID", str(process.pid)])
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
