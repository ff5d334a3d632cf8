"""Keeps the language model ready, so that the first answer of a sitting starts at once."""

from typing import Any

from ct3d.errors import AssistantError
from CT3DAssistantLib.logic import AssistantLogic


class Warmth:
    """Asks each worker once to load the model, while nothing else runs.

    Where that fails it is left alone, and nobody is told: the person hears of it when he asks for something.
    """

    def __init__(self, logic: AssistantLogic):
        self._logic = logic
        self._worker: Any = None  # the one that has the model
        self._is_broken = False

    def keep(self) -> None:
        """Have the model loaded where it isn't; returns at once."""
        client = self._logic.client
        is_warm = self._worker is not None and client.worker is self._worker
        if self._is_broken or is_warm or client.is_busy or not self._logic.profile.card_of("answer"):
            return
        try:
            self._logic.warm_up().add_done_callback(self._ended)
        except AssistantError:  # no interpreter, or a client that is closed
            self._is_broken = True

    def _ended(self, job: Any) -> None:
        self._is_broken = job.error is not None
        self._worker = None if self._is_broken else self._logic.client.worker
