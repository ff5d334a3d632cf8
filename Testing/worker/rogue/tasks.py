"""Tasks for tests, run by the real worker: `python -m ct3d.worker --tasks rogue.tasks:TABLE`."""

import ctypes
import faulthandler
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np

from ct3d.protocol.tasks import TASKS, ArrayRef, Task

MB = 1 << 20


@dataclass(frozen=True)
class Words:
    text: str


@dataclass(frozen=True)
class Steps:
    count: int
    step_s: float


@dataclass(frozen=True)
class Number:
    value: float


@dataclass(frozen=True)
class Stored:
    value: float
    array: ArrayRef


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


def echo(params, job):
    job.emit(params.text)
    return Words(params.text)


def count(params, job):
    for n in range(params.count):
        job.stage("count", n / params.count)
        time.sleep(params.step_s)
    return Number(params.count)


def deaf(params, job):
    """Never looks whether it was cancelled."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    sys.stderr.write(f"child {child.pid}\n")
    sys.stderr.flush()
    time.sleep(params.count * params.step_s)
    return Number(params.count)


def square(params, job):
    """A light piece of real work: the result travels on the wire and beside it."""
    job.stage("square", 0.0)
    time.sleep(0.005)  # long enough to be hit by a kill
    ref = job.store(np.full((4, 64, 64), params.value) ** 2)
    return Stored(params.value**2, ref)


def runs_out_of_memory(params, job):
    """For real: the system refuses more than the process has plus 256 MB."""
    pages = int(open("/proc/self/statm").read().split()[0])  # noqa: PTH123, SIM115
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 256 * MB, before[1]))
    try:
        kept = []
        while True:
            kept.append(np.ones(64 * MB // 8))
            job.check()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def fills_disk(params, job):
    return Stored(0.0, job.store(np.arange(int(params.value) * MB // 8)))


def writes_too_large_a_file(params, job):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MB, before[1]))
    try:
        return Stored(0.0, job.store(np.arange(int(params.value) * MB // 8)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def raises(params, job):
    kinds = {
        "memory": MemoryError(),
        "torch": OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        "itk": RuntimeError("Exception thrown in SimpleITK: std::bad_alloc"),
        "unforeseen": ValueError("can't read /home/doe^john/19500101/ct 1.nii.gz"),
        "exit": SystemExit(5),
        "full": OSError(28, "No space left on device"),
        "package": ModuleNotFoundError("No module named 'torch'", name="torch"),
    }
    raise kinds[params.text]


def prints(params, job):
    """As libraries do: from Python, from C, past both, and from a child that also reads its input."""
    sys.stdout.write("from Python\n")
    sys.stdout.flush()
    libc = ctypes.CDLL(None)
    libc.puts(b"from C")
    libc.fflush(None)
    os.write(1, b"past both\n")
    subprocess.run(["sh", "-c", "echo from a child; cat"], check=True)
    return Words(params.text)


def crashes(params, job):
    faulthandler._sigsegv()


def stuck_in_stdin(params, job):
    return Words(sys.stdin.read())


def says_nan(params, job):
    return Number(float("nan"))


def says_too_much(params, job):
    return Words("x" * (5 * MB))


def remembers(params, job):
    """How often it had to be made."""
    made = job.remember("made", list)
    made.append(1)
    return Number(len(made))


TABLE = {
    **TASKS,
    "echo": Task(Words, Words, "rogue.tasks:echo"),
    "count": Task(Steps, Number, "rogue.tasks:count"),
    "deaf": Task(Steps, Number, "rogue.tasks:deaf"),
    "square": Task(Number, Stored, "rogue.tasks:square"),
    "runs_out_of_memory": Task(Number, Number, "rogue.tasks:runs_out_of_memory"),
    "fills_disk": Task(Number, Stored, "rogue.tasks:fills_disk"),
    "writes_too_large_a_file": Task(Number, Stored, "rogue.tasks:writes_too_large_a_file"),
    "raises": Task(Words, Words, "rogue.tasks:raises"),
    "prints": Task(Words, Words, "rogue.tasks:prints"),
    "crashes": Task(Words, Words, "rogue.tasks:crashes"),
    "stuck_in_stdin": Task(Words, Words, "rogue.tasks:stuck_in_stdin"),
    "says_nan": Task(Number, Number, "rogue.tasks:says_nan"),
    "says_too_much": Task(Number, Words, "rogue.tasks:says_too_much"),
    "remembers": Task(Number, Number, "rogue.tasks:remembers"),
    "no_such_module": Task(Words, Words, "rogue.nothing_here:run"),
}
