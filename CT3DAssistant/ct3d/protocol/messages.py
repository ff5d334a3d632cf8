"""JSON-RPC 2.0 on lines of UTF-8: one message a line, strictly checked both ways.

    host → worker   request       hello, every task of TASKS, shutdown
                    notification  cancel {job}
    worker → host   response      result, or error {code, message} with a code of ct3d.errors
                    notification  progress {job, stage, fraction, eta_s}, text {job, piece}, alive {job}

A job is named by the id of its request. Arrays travel beside the wire, see protocol/tasks.py. The worker says
`alive` as a job begins and every HEARTBEAT_S while it runs, so that silence means a hang and not work.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from ct3d.errors import AssistantError, InvalidRequest, error_of
from ct3d.protocol.codec import decode, encode

PROTOCOL = 1
MAX_LINE_BYTES = 4 << 20  # the largest case seen is a twentieth of this
HEARTBEAT_S = 0.5
BACK = "\b"  # leads a piece of streamed text, once for each character that it takes back


@dataclass(frozen=True)
class Request:
    """Asks for an answer with the same id."""

    id: int
    method: str
    params: dict[str, Any]
    jsonrpc: str = "2.0"


@dataclass(frozen=True)
class Response:
    """What a request gave."""

    id: int
    result: dict[str, Any]
    jsonrpc: str = "2.0"


@dataclass(frozen=True)
class Fault:
    """The error object of a failed request."""

    code: int
    message: str


@dataclass(frozen=True)
class Failure:
    """Why a request gave nothing; id None: the request could not even be read."""

    id: int | None
    error: Fault
    jsonrpc: str = "2.0"

    @property
    def exception(self) -> AssistantError:
        """The typed error to raise on this side."""
        return error_of(self.error.code, self.error.message)

    @classmethod
    def of(cls, request_id: int | None, error: AssistantError) -> "Failure":
        """The failure that carries a typed error."""
        return cls(request_id, Fault(error.code, str(error)))


@dataclass(frozen=True)
class Notification:
    """Said without expecting an answer."""

    method: str
    params: dict[str, Any]
    jsonrpc: str = "2.0"


Message = Request | Response | Failure | Notification


@dataclass(frozen=True)
class HelloParams:
    """First request: who asks, and where arrays and weights lie."""

    protocol: int
    exchange_dir: str
    weights_dirs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Device:
    """What the models will run on."""

    kind: str  # "cpu", "cuda", "mps"
    name: str  # "NVIDIA H200", or the processor's name
    memory_mb: float  # of the device: video memory, or the machine's for a CPU
    available_mb: float  # of it, free at the time of asking
    dtype: str  # what models compute in by default
    threads: int  # processor threads the worker may use


@dataclass(frozen=True)
class HelloResult:
    """The worker's answer: what it is and runs on."""

    protocol: int
    pid: int
    python: str
    platform: str
    device: Device
    versions: dict[str, str] = field(default_factory=dict)
    weights_dirs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """A job has come this far; eta_s None: too early to tell."""

    job: int
    stage: str
    fraction: float  # 0 to 1
    eta_s: float | None = None


@dataclass(frozen=True)
class Text:
    """A piece of text that a job streams; each BACK that leads it takes back a character, see `streamed`."""

    job: int
    piece: str


@dataclass(frozen=True)
class Alive:
    """The worker lives and works on this job."""

    job: int


@dataclass(frozen=True)
class Cancel:
    """The person stopped this job."""

    job: int


def decode_note(notification: Notification) -> Progress | Text | Alive:
    """What a worker notifies the host of.

    Raises:
        InvalidRequest: for a method or parameters that no worker of this protocol sends.
    """
    kinds: dict[str, type[Progress | Text | Alive]] = {"progress": Progress, "text": Text, "alive": Alive}
    if notification.method not in kinds:
        raise InvalidRequest(f"There is no notification {notification.method!r}. Check the sender's version.")
    return decode(kinds[notification.method], notification.params, notification.method)


def encode_line(message: Message) -> bytes:
    """One message as one line, newline included.

    Raises:
        InvalidRequest: if it holds what has no JSON form, or is longer than MAX_LINE_BYTES.
    """
    line = json.dumps(encode(message), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        coded = line.encode() + b"\n"
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            "A text in this message is not valid Unicode. Remove the half surrogates."
        ) from error
    if len(coded) > MAX_LINE_BYTES:
        raise InvalidRequest(
            f"A message of {len(coded) >> 20} MB is too long (at most {MAX_LINE_BYTES >> 20} MB). "
            "Ask about fewer regions, or with a shorter history."
        )
    return coded


def decode_line(line: bytes) -> Message:
    """The message of one line.

    Raises:
        InvalidRequest: if the line is no message of this protocol.
    """
    try:
        value = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise InvalidRequest("This line is no JSON. Only messages may be written to the wire.") from error
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        raise InvalidRequest(
            "This line is no JSON-RPC 2.0 message. Only messages may be written to the wire."
        )
    return decode(_kind_of(value), value)


def _kind_of(value: dict[str, Any]) -> type[Message]:
    if "error" in value:
        return Failure
    if "result" in value:
        return Response
    return Request if "id" in value else Notification


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def streamed(text: str, piece: str) -> str:
    """What the person reads once `piece` has come: some of the end may go before it is added."""
    new = piece.lstrip(BACK)
    return text[: max(0, len(text) - len(piece) + len(new))] + new


class LineBuffer:
    """Bytes in any cut, whole lines out; never holds more than a line may be long."""

    def __init__(self, limit: int = MAX_LINE_BYTES):
        self.limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes, without their newlines.

        Raises:
            InvalidRequest: if a line grows beyond the limit; what was held of it is dropped.
        """
        *whole, rest = chunk.split(b"\n")
        lines = [self._complete(part) for part in whole]
        self._add(rest)
        return lines

    def _complete(self, part: bytes) -> bytes:
        self._add(part)
        line = b"".join(self._parts)
        self._parts, self._size = [], 0
        return line

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self.limit:
            self._parts, self._size = [], 0
            raise InvalidRequest(
                f"A line is longer than {self.limit} bytes. Only messages may be written to the wire."
            )
        if part:
            self._parts.append(part)
