"""The host's side of the wire: submit a task, poll in your own thread, get callbacks there.

One request is in flight at a time and the others wait here, so that a worker's death costs one job, no more.
Nothing blocks but `wait` and `close`; `poll` works in small bites. What goes wrong reaches the job as its
typed error. A job never hangs: while it works, the worker proves that it lives.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct3d.client.link import Link
from ct3d.client.transport import PopenTransport, Transport
from ct3d.errors import AssistantError, InvalidRequest, ProtocolMismatch, TaskCancelled, WorkerLost
from ct3d.protocol.codec import decode, encode
from ct3d.protocol.messages import (
    PROTOCOL,
    Cancel,
    Failure,
    HelloParams,
    HelloResult,
    Message,
    Notification,
    Progress,
    Request,
    Response,
    Text,
    decode_note,
    encode_line,
)
from ct3d.protocol.tasks import TASKS, Task

BITE_S = 0.02  # longest work on messages in one poll; callbacks come on top
TICK_S = 0.5  # a longer pause between polls (a sleeping laptop) counts as no more silence than this
STOPPED = "Stopped. Nothing was changed; start again when you like."
CONNECT = "hello"

OnProgress = Callable[[Progress], None]
OnText = Callable[[str], None]


@dataclass(frozen=True)
class Limits:
    """How long the client is patient."""

    start_s: float = 60.0  # from starting the process to its hello; a cold disk or a virus scanner is slow
    silence_s: float = 15.0  # without a sign of life from a busy worker
    cancel_s: float = 0.8  # from cancel to the worker's answer; then it is killed
    close_s: float = 2.0  # from closing its input to its end; then it is killed
    starts: int = 2  # tries to get a worker up, per request


DEFAULT_LIMITS = Limits()


class Job:
    """One asking of one task: becomes done in a later `poll`, in the polling thread.

    Attributes:
        id: its number, which the worker's messages name.
        done: whether the result or the error is there.
        error: what went wrong, once it is done; None: nothing.
    """

    def __init__(
        self, client: "Client", request: Request, on_progress: OnProgress | None, on_text: OnText | None
    ):
        self.id = request.id
        self.task = request.method
        self.done = False
        self.error: AssistantError | None = None
        self.line = encode_line(request)
        self.on_progress = on_progress
        self.on_text = on_text
        self.begun = False  # the worker has said that it works on this job
        self.starts = 0  # workers started for it
        self.silence_s = 0.0
        self.cancelled_s: float | None = None  # time since the person stopped it
        self._client = client
        self._result: Any = None
        self._callbacks: list[Callable[[Job], None]] = []

    def result(self) -> Any:
        """The task's result; raises the job's error.

        Raises:
            InvalidRequest: if the job isn't done yet.
        """
        if not self.done:
            raise InvalidRequest(
                f"The task {self.task} isn't done yet. Poll the client, or wait for the job."
            )
        if self.error:
            raise self.error
        return self._result

    def cancel(self) -> None:
        """Stop the job; it ends with TaskCancelled within a second. A done job stays as it is."""
        self._client.cancel(self)

    def add_done_callback(self, callback: Callable[["Job"], None]) -> None:
        """Have a poll call `callback(job)` once the job is done; the next one, if it is."""
        self._callbacks.append(callback)
        if self.done:
            self._client.deliver(callback, self)

    def finish(self, result: Any = None, error: AssistantError | None = None) -> None:
        """Make the job done. For the client."""
        self.done, self._result, self.error = True, result, error
        for callback in self._callbacks:
            self._client.deliver(callback, self)


class Client:
    """Runs tasks in a worker process, which it starts when one is needed and starts anew when it is lost.

    For one thread: submit, poll, cancel and close from the same.

    Args:
        command: the worker's command line.
        exchange_dir: folder of the arrays beside the wire.
        folder: working directory of the worker: the one that holds the package ct3d.
        weights_dirs: further folders where model weights lie.
        tasks: what can be asked.
        limits: how long to be patient.
        transport: makes a transport from (command, folder).

    Attributes:
        retired: how often a worker was let go on purpose.
        longest_poll_s: the longest a poll has worked, its waiting for bytes and the callbacks left out.
        wake: called when the next poll has something new to do; who polls by need, not by the clock, sets it.
    """

    def __init__(
        self,
        command: list[str],
        exchange_dir: Path,
        *,
        folder: Path | None = None,
        weights_dirs: tuple[Path, ...] = (),
        tasks: Mapping[str, Task] = TASKS,
        limits: Limits = DEFAULT_LIMITS,
        transport: Callable[[list[str], Path | None], Transport] = PopenTransport,
    ):
        self.tasks = tasks
        self.limits = limits
        self.longest_poll_s = 0.0
        self.retired = 0
        self.wake: Callable[[], None] = lambda: None
        self._hello = HelloParams(PROTOCOL, str(exchange_dir), tuple(str(each) for each in weights_dirs))
        self._make_transport = lambda: transport(command, folder)
        self._link: Link | None = None
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._deliveries: deque[tuple[Callable[..., None], tuple]] = deque()
        self._submitted = 0
        self._polled = time.monotonic()
        self._closed = False

    @property
    def worker(self) -> HelloResult | None:
        """What the present worker is and runs on; None while none is up."""
        return self._link.worker if self._link else None

    @property
    def is_busy(self) -> bool:
        """Whether a job runs or waits, or a callback is due: whether polling serves anything."""
        return bool(self._running or self._waiting or self._deliveries)

    @property
    def has_deliveries(self) -> bool:
        """Whether the next poll has callbacks to call or messages to read, without waiting for the worker."""
        return bool(self._deliveries or (self._link and self._link.has_lines))

    def submit(
        self, task: str, params: Any, on_progress: OnProgress | None = None, on_text: OnText | None = None
    ) -> Job:
        """Ask for a task; returns at once.

        Raises:
            InvalidRequest: for an unknown task, params of another type, or a message that is too long.
        """
        if task not in self.tasks:
            raise InvalidRequest(f"There is no task {task!r}. Choose one of: {', '.join(self.tasks)}.")
        if not isinstance(params, self.tasks[task].params):
            wanted = self.tasks[task].params.__name__
            raise InvalidRequest(f"The task {task} takes {wanted}, not {type(params).__name__}. Pass that.")
        return self._add(Job(self, Request(self._next_number(), task, encode(params)), on_progress, on_text))

    def connect(self) -> Job:
        """A job that is done once a worker is up; its result is the handshake, a HelloResult."""
        return self._add(Job(self, Request(self._next_number(), CONNECT, {}), None, None))

    def poll(self, timeout_s: float = 0.0) -> None:
        """Take in what the worker has said, waiting for it at most this long, and call the callbacks.

        An exception of a callback comes out here; what it kept from being delivered comes with the next poll.
        """
        link = self._link
        idle = link is not None and not link.has_lines and not self._deliveries
        chunk = link.transport.read(timeout_s if idle else 0.0) if link else b""
        began = time.perf_counter()
        if link:
            self._work(link, chunk, began + BITE_S)
        self._advance()
        self.longest_poll_s = max(self.longest_poll_s, time.perf_counter() - began)
        for _ in range(len(self._deliveries)):
            if self._deliveries:  # a callback may itself have polled
                callback, args = self._deliveries.popleft()
                callback(*args)

    def wait(self, job: Job) -> Any:
        """Poll until the job is done and give its result; raises its error."""
        while not job.done:
            self.poll(0.05)
        return job.result()

    def cancel(self, job: Job) -> None:
        """Stop a job: one that waits at once, one that runs through its worker."""
        if job.done or job.cancelled_s is not None:
            return
        job.cancelled_s = 0.0
        if job is self._running and self._link:
            self._send(self._link, encode_line(Notification("cancel", encode(Cancel(job.id)))))
        else:
            self._waiting.remove(job)
            job.finish(error=TaskCancelled(STOPPED))

    def deliver(self, callback: Callable[..., None], *args: Any) -> None:
        """Have the next poll call this."""
        self._deliveries.append((callback, args))
        self.wake()

    def retire(self) -> None:
        """Let the worker go, as when another Python was chosen; the next request starts a new one.

        Jobs that wait are cancelled.

        Raises:
            InvalidRequest: while a job runs.
        """
        if self._running:
            raise InvalidRequest("The worker is at work. Wait until it is done, or cancel that first.")
        self.retired += 1
        self._fail_waiting(TaskCancelled(STOPPED))
        if self._link:
            self._link.transport.kill()
            self._link = None

    def log(self) -> tuple[str, ...]:
        """The last lines the present worker wrote to its standard error."""
        return self._link.transport.log() if self._link else ()

    def close(self) -> None:
        """End the worker: unfinished jobs are cancelled, the process gets Limits.close_s to leave."""
        self._closed = True
        if self._running:
            self._waiting.appendleft(self._running)
            self._running = None
        self._fail_waiting(TaskCancelled(STOPPED))
        if self._link:
            self._link.transport.close(self.limits.close_s)
            self._link = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # inside a poll

    def _work(self, link: Link, chunk: bytes, deadline: float) -> None:
        try:
            for message in link.messages(chunk, deadline):
                self._handle(link, message)
            self._watch(link)
        except AssistantError as error:
            self._lose(link, error)

    def _handle(self, link: Link, message: Message) -> None:
        job = self._running
        if isinstance(message, Notification):
            self._note(link, message)
        elif job and not isinstance(message, Request) and message.id == job.id:
            self._running = None
            self._answer(job, message)

    def _note(self, link: Link, message: Notification) -> None:
        try:
            note = decode_note(message)
        except InvalidRequest as error:
            raise link.lost(f"The worker wrote what is no message: {error}") from error
        job = self._running
        if job is None or note.job != job.id:
            return
        job.begun, job.silence_s = True, 0.0
        if isinstance(note, Progress) and job.on_progress:
            self.deliver(job.on_progress, note)
        if isinstance(note, Text) and job.on_text:
            self.deliver(job.on_text, note.piece)

    def _answer(self, job: Job, message: Response | Failure) -> None:
        if isinstance(message, Failure):
            job.finish(error=message.exception)
            return
        try:
            job.finish(decode(self.tasks[job.task].result, message.result, job.task))
        except InvalidRequest as error:
            job.finish(error=ProtocolMismatch(f"The worker's result is not what was agreed: {error}"))

    def _watch(self, link: Link) -> None:
        """Count the time that the worker has been silent, or hasn't heeded a cancel."""
        now = time.monotonic()
        tick_s, self._polled = min(now - self._polled, TICK_S), now
        link.watch_start(tick_s)
        job = self._running
        if job is None:
            return
        job.silence_s += tick_s
        if job.cancelled_s is not None:
            job.cancelled_s += tick_s
            if job.cancelled_s > self.limits.cancel_s:
                raise link.lost("The worker did not stop when asked.")
        if job.silence_s > self.limits.silence_s:
            raise link.lost(f"The worker gave no sign of life for {self.limits.silence_s:g} s.")

    # what follows from it

    def _advance(self) -> None:
        """Start a worker where one is needed; send the next request where it is free."""
        while self._waiting and not self._running:
            link = self._link or self._open_link(self._waiting[0])
            if link is None or link.worker is None:
                return
            job = self._waiting.popleft()
            if job.task == CONNECT:
                job.finish(link.worker)
                continue
            self._running, job.silence_s = job, 0.0
            self._send(link, job.line)

    def _open_link(self, job: Job) -> Link | None:
        job.starts += 1
        self._polled = time.monotonic()
        try:
            self._link = Link(self._make_transport(), self._hello, self.limits.start_s)
        except AssistantError as error:
            self._fail_waiting(error)
        return self._link

    def _send(self, link: Link, line: bytes) -> None:
        try:
            link.transport.write(line)
        except WorkerLost as error:
            self._lose(link, error)

    def _lose(self, link: Link, error: AssistantError) -> None:
        """Give up this worker. The job in its hands fails; one it never began is tried once more."""
        link.transport.kill()
        self._link = None
        if self._running:
            job, self._running = self._running, None
            self._fail_or_ask_again(job, link, error)
        elif self._waiting and link.worker is None:
            self._fail_or_start_again(link, error)

    def _fail_or_ask_again(self, job: Job, link: Link, error: AssistantError) -> None:
        """After a worker that was lost with a job in its hands, begun or not."""
        job.starts = max(1, job.starts)
        if job.cancelled_s is not None:
            job.finish(error=TaskCancelled(STOPPED))
        elif job.begun or link.exit_code is None or job.starts >= self.limits.starts:
            job.finish(error=error)
        else:
            self._waiting.appendleft(job)

    def _fail_or_start_again(self, link: Link, error: AssistantError) -> None:
        """After a worker that never got up: start another, unless it would fare no better."""
        starts = self._waiting[0].starts
        if link.exit_code is None or starts >= self.limits.starts:
            self._fail_waiting(error if starts < 2 else WorkerLost(f"Tried {starts} times. {error}"))

    def _fail_waiting(self, error: AssistantError) -> None:
        while self._waiting:
            self._waiting.popleft().finish(error=error)

    def _add(self, job: Job) -> Job:
        if self._closed:
            raise InvalidRequest("This client is closed. Make a new one.")
        self._waiting.append(job)
        self._advance()
        self.wake()
        return job

    def _next_number(self) -> int:
        self._submitted += 1
        return self._submitted
