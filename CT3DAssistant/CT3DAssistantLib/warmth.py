"""Keeps the language model ready, so that the first answer of a sitting starts at once."""

from typing import Any

from CT3DAssistantLib.logic import AssistantLogic


class Warmth:
    """Asks each worker once to load the model, while nothing else runs; where that fails it is left alone."""

    def __init__(self, logic: AssistantLogic):
        self._logic = logic
        self._job: Any = None
        self._worker: Any = None  # the one that has the model

    def keep(self) -> None:
        """Have the model loaded where it isn't; returns at once."""
        client = self._logic.client
        broke = self._job is not None and self._job.done and self._job.error is not None
        is_warm = self._worker is not None and client.worker is self._worker
        if self._logic.profile.card_of("answer") and not (broke or is_warm or client.is_busy):
            self._job = self._logic.warm_up()
            self._job.add_done_callback(self._ended)

    def _ended(self, job: Any) -> None:
        self._worker = self._logic.client.worker if job.error is None else None
