"""Stream: a text that the person reads while it is written; the end of it may still be taken back."""

from os.path import commonprefix

from ct3d.pipeline.job import Job
from ct3d.protocol.messages import BACK


class Stream:
    """Sentences that stand, and behind them one that is being written."""

    def __init__(self, job: Job):
        self._job = job
        self._kept = ""
        self._shown = ""

    def draft(self, sentence: str) -> None:
        """Show a sentence as far as it is written, in place of the last draft."""
        self.show(self._kept + sentence)

    def keep(self, sentence: str) -> None:
        """Let a sentence stand, in place of the last draft."""
        self.draft(sentence)
        self._kept = f"{self._shown} "

    def show(self, text: str) -> None:
        """Make this the whole text; only what differs is sent."""
        same = len(commonprefix([self._shown, text]))
        piece = BACK * (len(self._shown) - same) + text[same:]
        if piece:
            self._job.emit(piece)
        self._shown = text
