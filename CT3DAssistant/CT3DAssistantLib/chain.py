"""Several tasks on one volume, one after the other, as one job: one progress, one cancel."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from ct3d.case import Case
from ct3d.errors import AssistantError, InvalidRequest, OutOfMemory, TaskCancelled
from ct3d.protocol.messages import Progress

SHARES = {  # of the whole time, about; measured on the demo CT with two threads
    "estimate": 1,
    "segment": 60,
    "locate": 8,
    "landmarks": 4,
    "measure": 14,
    "findings": 1,
    "report": 20,
    "check": 1,
    "answer": 20,
}
TITLES = {
    "estimate": "Checking memory",
    "segment": "Finding regions",
    "locate": "Checking orientation and range",
    "landmarks": "Placing landmarks",
    "measure": "Measuring",
    "findings": "Deriving findings",
    "report": "Writing the report",
    "check": "Checking sentences",
    "answer": "Answering",
}
NEEDED = ("segment", "answer")  # nothing can follow where one of these failed


class Work(Protocol):
    """What a chain works on."""

    case: Case
    volume_node: Any

    def ready(self, task: str) -> Iterator[None]:
        """Put beside the wire what a task needs, in bites."""

    def params(self, task: str) -> Any:
        """The parameters of a task, from what is known by now."""

    def absorb(self, result: Any) -> Iterator[None]:
        """Take a task's result into case and scene, in bites."""

    def note_failure(self, task: str, error: AssistantError) -> None:
        """Keep in the case that a task broke."""


class Chain:
    """A job of several tasks; has the face of a client's job, so `client.wait(chain)` works.

    A task that breaks is noted in the case and the others go on, except where nothing can follow it.
    Whatever was found stays in case and scene, also after a cancel. The host's own work goes in bites, one a
    poll, so that no poll is long.

    Attributes:
        done: whether the chain has ended.
        error: what ended it early; None: nothing.
        errors: by task, what broke on the way.
        tasks: all of them, those that are done too.
    """

    def __init__(
        self,
        client: Any,
        work: Work,
        tasks: tuple[str, ...],
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_text: Callable[[str], None] | None = None,
    ):
        self.done = False
        self.error: AssistantError | None = None
        self.errors: dict[str, AssistantError] = {}
        self._client, self._work = client, work
        self.tasks = tasks
        self._left = deque(tasks)
        self._job: Any = None
        self._is_cancelled = False
        self._whole = sum(SHARES[task] for task in tasks)
        self._behind = 0
        self._on_progress, self._on_text = on_progress, on_text
        self._started = time.monotonic()
        self._callbacks: list[Callable[[Chain], None]] = []
        self._next()

    @property
    def case(self) -> Case:
        """What is known by now."""
        return self._work.case

    @property
    def volume_node(self) -> Any:
        """The volume that it is about."""
        return self._work.volume_node

    def result(self) -> Case:
        """The case; raises what ended the chain early.

        Raises:
            InvalidRequest: if the chain isn't done yet.
        """
        if not self.done:
            raise InvalidRequest("The analysis isn't done yet. Poll the client, or wait for the job.")
        if self.error:
            raise self.error
        return self.case

    def cancel(self, reason: AssistantError | None = None) -> None:
        """Stop the task at work and all that would follow; ends within a second, with TaskCancelled or the
        reason that is given."""
        self._left.clear()
        if not (self.done or self._is_cancelled):
            self.error = reason
        self._is_cancelled = True
        if self._job is not None and not self.done:
            self._job.cancel()

    def add_done_callback(self, callback: Callable[["Chain"], None]) -> None:
        """Have `callback(chain)` called once the chain has ended; at once, if it has."""
        self._callbacks.append(callback)
        if self.done:
            callback(self)

    def _next(self) -> None:
        if not self._left:
            self._finish()
            return
        self._task = self._left.popleft()
        self._tell(Progress(job=0, stage="", fraction=0.0))
        self._do(self._work.ready(self._task), self._submit)

    def _do(self, bites: Iterator[None], then: Callable[[], None]) -> None:
        try:
            for _ in bites:
                self._client.deliver(self._do, bites, then)
                return
        except AssistantError as error:  # like the client's reader: an error of the job, not of the poll
            self._give_up(error)
            self._finish()
            return
        then()

    def _submit(self) -> None:
        if self._is_cancelled:
            self._finish()
            return
        self._job = self._client.submit(self._task, self._work.params(self._task), self._tell, self._on_text)
        self._job.add_done_callback(self._task_done)

    def _task_done(self, job: Any) -> None:
        error = job.error or self._too_big(job)
        if error is None:
            self._do(self._work.absorb(job.result()), self._step_on)
            return
        if isinstance(error, (TaskCancelled, OutOfMemory)) or self._task in NEEDED:
            self._give_up(error)
        else:
            self.errors[self._task] = error
            self._work.note_failure(self._task, error)
        self._step_on()

    def _give_up(self, error: AssistantError) -> None:
        self._left.clear()
        self.errors[self._task] = error
        self.error = self.error or error

    def _step_on(self) -> None:
        self._behind += SHARES[self._task]
        self._next()

    def _too_big(self, job: Any) -> OutOfMemory | None:
        if self._task != "estimate" or job.result().fits:
            return None
        need = job.result()
        return OutOfMemory(
            f"This volume needs about {need.memory_mb:.0f} MB and {need.available_mb:.0f} MB are free "
            f"on {need.device}. Close other programs, crop the volume, or resample it to thicker slices."
        )

    def _tell(self, progress: Progress) -> None:
        if self._on_progress is None:
            return
        fraction = (self._behind + SHARES[self._task] * progress.fraction) / self._whole
        elapsed_s = time.monotonic() - self._started
        eta_s = elapsed_s * (1 - fraction) / fraction if fraction > 0.05 else None
        stage = ": ".join(filter(None, (TITLES[self._task], progress.stage)))
        self._on_progress(replace(progress, stage=stage, fraction=fraction, eta_s=eta_s))

    def _finish(self) -> None:
        self.done = True
        if self._is_cancelled and self.error is None:
            self.error = TaskCancelled("Stopped. What was found so far is kept.")
        for callback in self._callbacks:
            callback(self)
