"""A job of the host's own: done in bites, one a poll, and it may wait for tasks of the worker on its way."""

from collections.abc import Callable, Generator
from typing import Any

from ct3d.errors import AssistantError, InvalidRequest, TaskCancelled, TaskFailed

Steps = Generator[
    Any, None, Any
]  # yields None after a bite, or a job of the client to wait for; returns the result


class Errand:
    """A generator as a job; has the face of a client's job, so `client.wait(errand)` works.

    Args:
        client: whose polls do the bites.
        steps: the work; what it returns is the result. Closed where it is stopped, so `finally` cleans up.
        on_progress: called with the share done, 0 to 1, where `steps` yields a number.

    Attributes:
        done: whether it has ended.
        error: what ended it early; None: nothing.
    """

    def __init__(self, client: Any, steps: Steps, on_progress: Callable[[float], None] | None = None):
        self.done = False
        self.error: AssistantError | None = None
        self._client, self._steps, self._on_progress = client, steps, on_progress
        self._result: Any = None
        self._job: Any = None
        self._is_cancelled = False
        self._callbacks: list[Callable[[Errand], None]] = []
        client.deliver(self._step)

    def result(self) -> Any:
        """What the work gave; raises what ended it early.

        Raises:
            InvalidRequest: if it isn't done yet.
        """
        if not self.done:
            raise InvalidRequest("This isn't done yet. Poll the client, or wait for the job.")
        if self.error:
            raise self.error
        return self._result

    def cancel(self) -> None:
        """Stop after the present bite, or as soon as the worker has stopped."""
        self._is_cancelled = True
        if self._job is not None:
            self._job.cancel()

    def add_done_callback(self, callback: Callable[["Errand"], None]) -> None:
        """Have `callback(errand)` called once it has ended; at once, if it has."""
        self._callbacks.append(callback)
        if self.done:
            callback(self)

    def _step(self, *_: Any) -> None:
        self._job = None
        if self.done:
            return
        if self._is_cancelled:
            self._steps.close()
            self._finish(error=TaskCancelled("Stopped."))
            return
        has_ended = True
        try:
            step = next(self._steps)
            has_ended = False
        except StopIteration as end:
            self._finish(end.value)
        except AssistantError as error:  # like the client's reader: an error of the job, not of the poll
            self._finish(error=error)
        finally:
            if has_ended and not self.done:  # an error that nobody foresaw comes out of the poll
                self._finish(error=TaskFailed("This broke off. The application's log says why. Try again."))
        if not has_ended:
            self._go_on(step)

    def _go_on(self, step: Any) -> None:
        if hasattr(step, "add_done_callback"):
            self._job = step
            step.add_done_callback(self._step)
            return
        if step is not None and self._on_progress:
            self._on_progress(float(step))
        self._client.deliver(self._step)

    def _finish(self, result: Any = None, error: AssistantError | None = None) -> None:
        self.done, self._result, self.error = True, result, error
        for callback in self._callbacks:
            callback(self)
