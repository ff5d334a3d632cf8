"""One worker process from its start to its end: the handshake, then whole messages, checked."""

import signal
import time
from collections import deque
from collections.abc import Iterator

from ct3d.client.transport import Transport
from ct3d.errors import InvalidRequest, ProtocolMismatch, WorkerLost
from ct3d.protocol.codec import decode, encode
from ct3d.protocol.messages import (
    PROTOCOL,
    Failure,
    HelloParams,
    HelloResult,
    LineBuffer,
    Message,
    Request,
    Response,
    decode_line,
    encode_line,
)

HELLO = 0  # id of the first request; jobs count from 1
LOG_LINES_SHOWN = 20
ENDED_BY_FORCE = -9


class Link:
    """The way to one worker over one transport.

    Attributes:
        worker: what answered the handshake; None before.
        exit_code: of the process, once it has ended and all it wrote has been taken in.
    """

    def __init__(self, transport: Transport, hello: HelloParams, start_s: float):
        """Start the worker and greet it; returns before it answers.

        Raises:
            WorkerLost: if it can't be started.
        """
        self.transport = transport
        self.worker: HelloResult | None = None
        self.exit_code: int | None = None
        self._start_s = start_s
        self._starting_s = 0.0
        self._buffer = LineBuffer()
        self._lines: deque[bytes] = deque()
        transport.start()
        transport.write(encode_line(Request(HELLO, "hello", encode(hello))))

    @property
    def has_lines(self) -> bool:
        """Whether messages wait to be taken in."""
        return bool(self._lines)

    def messages(self, chunk: bytes, deadline: float) -> Iterator[Message]:
        """What the worker says, beginning with this chunk, until it pauses or the deadline has passed.

        Args:
            chunk: the bytes read last.
            deadline: in time.perf_counter.

        Raises:
            WorkerLost: if it writes what is no message, or has ended.
            ProtocolMismatch: if it speaks another version.
            DiskFull: if it can't use the exchange folder.
        """
        try:
            while chunk or self._lines:
                self._lines.extend(self._buffer.feed(chunk))
                while self._lines:
                    message = decode_line(self._lines.popleft())
                    if not self._is_greeting(message):
                        yield message
                    if time.perf_counter() > deadline:
                        return
                chunk = self.transport.read(0.0)
        except InvalidRequest as error:
            raise self.lost(f"The worker wrote what is no message: {error}") from error
        self.exit_code = self.transport.ended()
        if self.exit_code is not None:
            raise self.lost(f"The worker ended with {_exit_words(self.exit_code)}.")

    def watch_start(self, tick_s: float) -> None:
        """Count the time without a hello.

        Raises:
            WorkerLost: if it has taken too long.
        """
        self._starting_s += tick_s
        if self.worker is None and self._starting_s > self._start_s:
            raise self.lost(f"The worker did not say hello within {self._start_s:g} s.")

    def lost(self, reason: str) -> WorkerLost:
        """The error that gives this reason, what to do, and the worker's last lines."""
        advice = (
            "Try again, a new worker starts by itself; if this comes again, check its Python in the Models "
            "section, or run `ct3d-assistant doctor`."
        )
        lines = [line for line in self.transport.log() if line][-LOG_LINES_SHOWN:]
        shown = "\n".join(("\nIts last lines:", *lines)) if lines else ""
        return WorkerLost(f"{reason} {advice}{shown}")

    def _is_greeting(self, message: Message) -> bool:
        """Take in the answer to the handshake; nothing else may come before it."""
        if isinstance(message, (Response, Failure)) and message.id == HELLO:
            self.worker = _greeted(message)
            return True
        if isinstance(message, Failure) and message.id is None:
            raise InvalidRequest(f"it could not read a request ({message.error.message})")
        if isinstance(message, Request) or self.worker is None:
            raise InvalidRequest("only a hello may come first, and only answers after it.")
        return False


def _greeted(message: Response | Failure) -> HelloResult:
    if isinstance(message, Failure):
        raise message.exception
    theirs = message.result.get("protocol")
    if theirs != PROTOCOL:
        raise ProtocolMismatch(
            f"The worker speaks protocol {theirs}, this program {PROTOCOL}. "
            "Let both run from one installation; check with `ct3d-assistant doctor`."
        )
    return decode(HelloResult, message.result, "hello")


def _exit_words(code: int) -> str:
    if code == ENDED_BY_FORCE:
        return "signal 9: something ended it by force, often the system for want of memory"
    return f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"code {code}"
