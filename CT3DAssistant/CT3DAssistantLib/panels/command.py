"""Background processes of the panels: signals of the event loop; nothing waits, and no thread is needed."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ct3d.errors import AssistantError, InvalidRequest, TaskCancelled, TaskFailed, error_of
from CT3DAssistantLib.environment import PACKAGE_FOLDER
from CT3DAssistantLib.transport_qt import (
    QProcessTransport,
    foreign_environment,
    without_launcher,
    worker_environment,
)

CHORES = ["-X", "utf8", "-m", "CT3DAssistantLib.chores"]
LOG_LINES_SHOWN = 12
END_S = 1.0  # for a process that was ended to be gone; it takes milliseconds


class Command:
    """A process of a Python interpreter, whose lines come as they are written.

    Args:
        command: interpreter and arguments; run in PACKAGE_FOLDER, with what the interpreter needs.
        on_line: called with each line of its standard output.
        on_end: called once with the exit code, below 0 for one that was ended.

    Raises:
        WorkerLost: if it can't be started.
    """

    def __init__(self, command: list[str], *, on_line: Callable[[str], None], on_end: Callable[[int], None]):
        self._on_line, self._on_end = on_line, on_end
        self._rest = b""
        self._has_ended = False
        environment = worker_environment(Path(command[0]))
        self._transport = QProcessTransport(command, PACKAGE_FOLDER, environment, wake=self._take)
        self._transport.start()

    def write(self, line: str) -> None:
        """Hand a line over for its standard input."""
        self._transport.write(line.encode() + b"\n")

    def cancel(self) -> None:
        """End the process and all that it has started; `on_end` follows at once."""
        self._transport.kill()

    def close(self) -> None:
        """End it as `cancel` does, and wait until it has ended: no process may outlive the application."""
        self.cancel()
        self._transport.close(END_S)

    def log(self) -> tuple[str, ...]:
        """The last lines of its standard error."""
        return self._transport.log()

    def _take(self) -> None:
        *lines, self._rest = (self._rest + self._transport.read(0.0)).split(b"\n")
        for line in lines:
            self._on_line(line.decode("utf-8", "replace").rstrip("\r"))
        code = self._transport.ended()
        if code is not None and not self._has_ended:
            self._has_ended = True
            self._on_end(code)


class Chore:
    """One of CT3DAssistantLib.chores in the background; has the face of a client's job.

    Args:
        arguments: name of the chore, and what it takes.
        on_note: called with what it says on the way.

    Attributes:
        done: whether it has ended.
        error: what went wrong; None: nothing.
        tasks, volume_node: as a chain has them; a chore is about no volume.
    """

    tasks: tuple[str, ...] = ()
    volume_node = None

    def __init__(self, *arguments: Any, on_note: Callable[[str], None] | None = None):
        self.done = False
        self.error: AssistantError | None = None
        self._result: Any = None
        self._words = " ".join(map(str, arguments))
        self._on_note = on_note
        self._is_cancelled = False
        self._callbacks: list[Callable[[Any], None]] = []
        python = str(without_launcher(Path(sys.executable)))
        command = [python, *CHORES, *map(str, arguments)]
        self._command = Command(command, on_line=self._take, on_end=self._finish)
        self._command.write(json.dumps(foreign_environment()))

    def result(self) -> Any:
        """What the chore gave, as JSON values; raises what went wrong.

        Raises:
            InvalidRequest: if it hasn't ended yet.
        """
        if not self.done:
            raise InvalidRequest("This isn't done yet. Wait for it to end.")
        if self.error:
            raise self.error
        return self._result

    def cancel(self) -> None:
        """End it, and all that it has started, within a second."""
        self._is_cancelled = True
        self._command.cancel()

    def close(self) -> None:
        """End it, and wait until it has ended: the application goes."""
        self._is_cancelled = True
        self._command.close()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have `callback(chore)` called once it has ended; at once, if it has."""
        self._callbacks.append(callback)
        if self.done:
            callback(self)

    def _take(self, line: str) -> None:
        message = json.loads(line)
        self._result = message.get("result", self._result)
        if "error" in message:
            self.error = error_of(message["error"]["code"], message["error"]["message"])
        if "note" in message and self._on_note is not None:
            self._on_note(message["note"])

    def _finish(self, code: int) -> None:
        self.done = True
        if self._is_cancelled:
            self.error = TaskCancelled("Stopped. Start it again when you like; what is complete is kept.")
        elif code != 0 and self.error is None:
            tail = "\n".join(self._command.log()[-LOG_LINES_SHOWN:])
            self.error = TaskFailed(f"This broke: {self._words}. Try again; its last lines:\n{tail}")
        for callback in self._callbacks:
            callback(self)
