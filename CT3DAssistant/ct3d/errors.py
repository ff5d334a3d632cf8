"""What can go wrong, as one tree.

    AssistantError              code    when
    ├── InvalidRequest          -32602  the input can't be used as it is
    ├── WeightsMissing          -32010  the card's weights are not on this machine
    ├── WeightsCorrupt          -32011  the weights are not the ones of the card
    ├── OutOfMemory             -32012  the device or the machine has too little memory
    ├── DiskFull                -32013  the exchange or output folder can't take more
    ├── TaskCancelled           -32014  the person stopped the job
    ├── TaskFailed              -32015  the task broke in a way nobody foresaw
    ├── WorkerLost              -32016  the worker died, hung or spoke garbage
    └── ProtocolMismatch        -32017  host and worker come from different versions

Every message ends with what to do. Raised where the fact is known; caught in three places only: the worker's
loop, the client's reader (and the chain of its jobs), and the face that talks to the person.
"""


class AssistantError(Exception):
    """Base of everything this project raises on purpose."""

    code = -32000
    exit_code = 1  # of the command line


class InvalidRequest(AssistantError):
    """The input can't be used as it is: a bad file, a bad volume, a bad parameter."""

    code = -32602
    exit_code = 2


class WeightsMissing(AssistantError):
    """The weights that a card names are not on this machine."""

    code = -32010
    exit_code = 3


class WeightsCorrupt(AssistantError):
    """The weights don't have the card's checksum, keys or shapes."""

    code = -32011
    exit_code = 3


class OutOfMemory(AssistantError):
    """The device or the machine has too little memory for this task."""

    code = -32012
    exit_code = 4


class DiskFull(AssistantError):
    """A folder can't be written: full, read-only or gone."""

    code = -32013
    exit_code = 5


class TaskCancelled(AssistantError):
    """The person stopped the job."""

    code = -32014
    exit_code = 130


class TaskFailed(AssistantError):
    """The task broke in a way nobody foresaw; the message carries the worker's last log lines."""

    code = -32015
    exit_code = 1


class WorkerLost(AssistantError):
    """The worker process died, hung, or wrote what is no message."""

    code = -32016
    exit_code = 6


class ProtocolMismatch(AssistantError):
    """Host and worker speak different versions of the protocol."""

    code = -32017
    exit_code = 6


def error_of(code: int, message: str) -> AssistantError:
    """The typed error of a wire code; an unknown code gives TaskFailed."""
    kinds = {kind.code: kind for kind in AssistantError.__subclasses__()}
    return kinds.get(code, TaskFailed)(message)
