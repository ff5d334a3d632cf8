"""The worker's server: a thread that reads and heeds cancel at once, one that writes, and one that works.

The main thread runs one task at a time, so that the device is used in series. The reading thread ends the
process as soon as the host is gone. The writing thread alone touches the wire; between messages it says
that the worker lives.
"""

import gc
import logging
import os
import platform
import queue
import sys
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from ct3d.cards import ModelCard
from ct3d.errors import DiskFull, InvalidRequest, OutOfMemory, ProtocolMismatch
from ct3d.pipeline.job import BaseJob, build_model, library_versions
from ct3d.pipeline.machine import device, memory_mb
from ct3d.protocol.codec import decode, encode
from ct3d.protocol.messages import (
    HEARTBEAT_S,
    PROTOCOL,
    Alive,
    Cancel,
    Failure,
    HelloParams,
    HelloResult,
    LineBuffer,
    Message,
    Notification,
    Progress,
    Request,
    Response,
    Text,
    decode_line,
    encode_line,
)
from ct3d.protocol.tasks import Task
from ct3d.worker.failures import place_of, typed
from ct3d.worker.model_store import ModelStore

CHUNK = 1 << 16
KEPT_SHARE = 0.25  # of the machine's memory, for models and what jobs remember
PROGRESS_EVERY_S = 0.05
BEGUN_S = 1.0  # for a host that is slow to read
ETA_AFTER_S = 0.5
ETA_FROM_FRACTION = 0.02

T = TypeVar("T")
log = logging.getLogger("ct3d.worker")


class WorkerJob(BaseJob):
    """A job whose progress and text go to the host, and which stops when the host says so."""

    def __init__(self, request_id: int, hello: HelloParams, server: "Server"):
        super().__init__(Path(hello.exchange_dir), tuple(map(Path, hello.weights_dirs)))
        self.id = request_id
        self._server = server
        self._said = ("", 0.0)  # stage and time of the last progress that was sent
        self._fraction = 0.0

    def model(self, card: ModelCard) -> Any:
        self.check()
        return self._server.store.model(card, lambda: build_model(card, self.weights_dirs))

    def remember(self, key: Hashable, make: Callable[[], T]) -> T:
        return self._server.store.remember(("job", key), make)

    def on_progress(self, name: str, fraction: float) -> None:
        now = time.perf_counter()
        self._fraction = min(1.0, max(self._fraction, fraction))
        stage, said = self._said
        if name == stage and now - said < PROGRESS_EVERY_S:
            return
        self._said = (name, now)
        self._server.say("progress", Progress(self.id, name, self._fraction, self._eta_s(now - self.started)))

    def on_text(self, piece: str) -> None:
        self._server.say("text", Text(self.id, piece))

    def is_cancelled(self) -> bool:
        return self._server.is_cancelled(self.id)

    def _eta_s(self, elapsed_s: float) -> float | None:
        if elapsed_s < ETA_AFTER_S or self._fraction < ETA_FROM_FRACTION:
            return None
        return round(elapsed_s * (1 - self._fraction) / self._fraction, 1)


class Server:
    """Serves one host over two file descriptors.

    Args:
        incoming, outgoing: the wire.
        tasks: what can be asked.
    """

    def __init__(self, incoming: int, outgoing: int, tasks: Mapping[str, Task]):
        self.store = ModelStore(int(memory_mb()[0] * (1 << 20) * KEPT_SHARE))
        self._incoming = incoming
        self._outgoing = outgoing
        self._tasks = tasks
        self._hello: HelloParams | None = None
        self._inbox: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[bytes | threading.Event | None] = queue.SimpleQueue()
        self._open: set[int] = set()  # requests that wait or run
        self._cancelled: set[int] = set()
        self._busy: int | None = None

    def serve(self) -> None:
        """Answer requests until a shutdown; the process ends by itself when the host is gone."""
        threading.Thread(target=self._keep_reading, daemon=True).start()
        writer = threading.Thread(target=self._keep_writing, daemon=True)
        writer.start()
        while (request := self._inbox.get()).method != "shutdown":
            self._outbox.put(self._answer(request))
            self._open.discard(request.id)
            self._cancelled.discard(request.id)
        self._outbox.put(encode_line(Response(request.id, {})))
        self._outbox.put(None)
        writer.join()

    def say(self, method: str, note: Progress | Text | Alive) -> None:
        """Send a notification."""
        self._outbox.put(encode_line(Notification(method, encode(note))))

    def is_cancelled(self, request_id: int) -> bool:
        """Whether the host has stopped this request."""
        return request_id in self._cancelled

    # the reading thread

    def _keep_reading(self) -> None:
        """Ends the process with the host: nobody is left who could use a result."""
        buffer, code = LineBuffer(), 1
        try:
            while chunk := os.read(self._incoming, CHUNK):
                self._take(buffer, chunk)
            code = 0
        finally:
            os._exit(code)

    def _take(self, buffer: LineBuffer, chunk: bytes) -> None:
        try:
            for line in buffer.feed(chunk):
                self._sort(decode_line(line))
        except InvalidRequest as error:
            self._outbox.put(encode_line(Failure.of(None, error)))

    def _sort(self, message: Message) -> None:
        if isinstance(message, Request):
            self._open.add(message.id)
            self._inbox.put(message)
        elif isinstance(message, Notification) and message.method == "cancel":
            number = decode(Cancel, message.params, "cancel").job
            if number in self._open:
                self._cancelled.add(number)
        else:
            raise InvalidRequest("A host sends requests and cancel. Check its version.")

    # the writing thread

    def _keep_writing(self) -> None:
        try:
            while (line := self._next_line()) is not None:
                if isinstance(line, threading.Event):
                    line.set()
                    continue
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(self._outgoing, rest) :]
        except OSError:
            os._exit(0)  # nobody reads

    def _next_line(self) -> bytes | threading.Event | None:
        """What waits to be sent; while a job runs, a sign of life instead of silence."""
        while True:
            try:
                return self._outbox.get(timeout=HEARTBEAT_S)
            except queue.Empty:
                if (busy := self._busy) is not None:
                    return encode_line(Notification("alive", encode(Alive(busy))))

    # the working thread

    def _answer(self, request: Request) -> bytes:
        began = time.perf_counter()
        self._busy = request.id
        try:
            line = encode_line(Response(request.id, encode(self._do(request))))
            log.info("%s done in %.2f s", request.method, time.perf_counter() - began)
            return line
        except (Exception, SystemExit) as error:  # the one place where a task's failure becomes a reply
            log.info("%s failed: %s in %s", request.method, type(error).__name__, place_of(error))
            failure = typed(error)
        finally:
            self._busy = None
        if isinstance(failure, OutOfMemory):
            self.store.clear()
            gc.collect()
        return encode_line(Failure.of(request.id, failure))

    def _do(self, request: Request) -> Any:
        if request.method == "hello":
            return self._greet(request)
        self._say_begun(request.id)
        if self._hello is None:
            raise InvalidRequest("The first request must be hello. Send it.")
        task = self._tasks.get(request.method)
        if task is None:
            raise InvalidRequest(
                f"There is no task {request.method!r}. Choose one of: {', '.join(self._tasks)}."
            )
        params = decode(task.params, request.params, request.method)
        job = WorkerJob(request.id, self._hello, self)
        job.check()
        module, _, name = task.entry.partition(":")
        return getattr(import_module(module), name)(params, job)

    def _say_begun(self, request_id: int) -> None:
        """Tell the host before anything is done: it never repeats a job that may have ended a worker."""
        written = threading.Event()
        self.say("alive", Alive(request_id))
        self._outbox.put(written)
        written.wait(BEGUN_S)

    def _greet(self, request: Request) -> HelloResult:
        theirs = request.params.get("protocol")
        if theirs != PROTOCOL:
            raise ProtocolMismatch(
                f"The host speaks protocol {theirs}, this worker {PROTOCOL}. Run both from one installation."
            )
        hello = decode(HelloParams, request.params, "hello")
        if not Path(hello.exchange_dir).is_dir():
            raise DiskFull("The exchange folder is gone. Start the program again.")
        self._hello = hello
        return HelloResult(
            protocol=PROTOCOL,
            pid=os.getpid(),
            python=platform.python_version(),
            platform=f"{sys.platform} {platform.machine()}",
            device=device(),
            versions=library_versions(),
            weights_dirs=hello.weights_dirs,
        )
