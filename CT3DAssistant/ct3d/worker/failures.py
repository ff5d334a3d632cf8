"""What breaks in a task, as the typed error that the host gets; never with a path of the patient in it."""

import errno
import re
import traceback
from pathlib import Path

from ct3d.errors import AssistantError, DiskFull, OutOfMemory, TaskFailed

NO_MEMORY = re.compile(r"bad_alloc|allocate memory|not enough memory|out of memory", re.IGNORECASE)
PATH = re.compile(r"([A-Za-z]:)?([\\/][^\\/'\"\n]*){2,}")
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
CAUSE_CHARACTERS = 200
FOR_NETS = {"torch", "monai", "safetensors", "transformers", "accelerate", "gguf"}  # installed on wish only


def typed(error: BaseException) -> AssistantError:
    """The error of this tree that says what another error means."""
    if isinstance(error, AssistantError):
        return error
    if is_out_of_memory(error):
        return OutOfMemory(
            "The machine ran out of memory in this task. Close other programs, crop or resample the volume."
        )
    if isinstance(error, OSError) and error.errno in FULL:
        return DiskFull(
            "The worker can't write to the exchange folder: it is full. Free space in the temporary folder."
        )
    if isinstance(error, ModuleNotFoundError):
        return TaskFailed(
            f"The worker's Python lacks the package {error.name}. {_how_to_install(error.name)}"
        )
    return TaskFailed(
        f"The task broke: {type(error).__name__}: {_without_paths(str(error))} (in {place_of(error)}). "
        "This is a fault of the program: please report it with the log."
    )


def _how_to_install(package):
    if str(package).split(".")[0] in FOR_NETS:
        return (
            "This model is a net: install Resources/requirements-torch.txt there with pip (for a computer "
            "without GPU requirements-torch-cpu.txt), or choose a model that needs none."
        )
    return "Run `ct3d-assistant doctor --install`."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, the system, torch or ITK ran out of memory; torch's own class is told by its name."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and bool(NO_MEMORY.search(str(error)))


def place_of(error: BaseException) -> str:
    """File and line where it broke, the file by its name only."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown place"


def _without_paths(text: str) -> str:
    return PATH.sub("<path>", text)[:CAUSE_CHARACTERS]
