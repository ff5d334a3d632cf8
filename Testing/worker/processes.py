"""What the worker's tests know of processes, folders and patience."""

import os
import time
from pathlib import Path

from ct3d.client.client import Limits

HERE = Path(__file__).parent
CODE = HERE.parents[1] / "CT3DAssistant"
SILENCE_S = 1.5  # three heartbeats
QUICK = Limits(silence_s=SILENCE_S)


def children() -> dict[int, str]:
    """Processes whose parent is this one, with their state; Z is a zombie."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(") ")[2].split()
        except OSError:  # ended meanwhile
            continue
        if int(after_name[1]) == os.getpid():
            found[int(stat.parent.name)] = after_name[0]
    return found


def is_gone_within(seconds: float, pid: int) -> bool:
    """Whether a process ends, and is reaped by whoever has to, in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stat = Path(f"/proc/{pid}/stat")
        try:
            state = stat.read_text().rpartition(") ")[2].split()[0]
        except OSError:
            return True
        if state == "Z" and pid not in children():  # an orphan that the system's first process will reap
            return True
        time.sleep(0.01)
    return False
