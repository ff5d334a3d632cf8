"""The wire, measured: round trip, arrays beside it, cancel, and how long a poll keeps the host."""

import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from ct3d.client.client import Client
from ct3d.client.session_folder import SessionFolder
from ct3d.client.transport import PopenTransport
from ct3d.imaging.exchange import open_array, store_array

TESTS = Path(__file__).resolve().parents[1] / "worker"
CODE = TESTS.parents[1] / "CT3DAssistant"
SHAPE_KJI = (300, 512, 512)  # int16: 157 MB
ROUND_TRIPS = 500
CANCELS = 20


def measure() -> dict:
    """All of it in a worker of this interpreter, which runs the light tasks of the tests."""
    sys.path.insert(0, str(TESTS))
    from rogue.tasks import TABLE, Number, Steps, Words

    command = [sys.executable, "-X", "utf8", "-m", "ct3d.worker", "--tasks", "rogue.tasks:TABLE"]
    transport = partial(PopenTransport, environment={**os.environ, "PYTHONPATH": str(TESTS)})
    with (
        SessionFolder() as folder,
        Client(command, folder.path, folder=CODE, tasks=TABLE, transport=transport) as client,
    ):
        start_s = timed(lambda: client.wait(client.connect()))
        trips = [timed(lambda: client.wait(client.submit("echo", Words("")))) for _ in range(ROUND_TRIPS)]
        arrays = measure_arrays(folder.path)
        cancels = [measure_cancel(client, Steps(1000, 0.01)) for _ in range(CANCELS)]
        client.wait(client.submit("square", Number(1.0)))
        return {
            "start_to_handshake_s": round(start_s, 3),
            "round_trip_median_ms": milliseconds(statistics.median(trips)),
            "round_trip_p99_ms": milliseconds(sorted(trips)[int(0.99 * ROUND_TRIPS)]),
            **arrays,
            "cancel_median_ms": milliseconds(statistics.median(cancels)),
            "cancel_longest_ms": milliseconds(max(cancels)),
            "longest_poll_ms": milliseconds(client.longest_poll_s),
        }


def measure_arrays(folder: Path) -> dict:
    """A volume of 157 MB to the exchange folder and back."""
    volume = np.random.default_rng(0).integers(-1024, 3071, SHAPE_KJI, np.int16)
    store_s = timed(lambda: store_array(volume, folder))
    again_s = timed(lambda: store_array(volume, folder))
    ref = store_array(volume, folder)
    open_s = timed(lambda: open_array(ref, folder))
    read_s = timed(lambda: np.array(open_array(ref, folder)))
    return {
        "volume_mb": round(volume.nbytes / 1e6),
        "store_ms": milliseconds(store_s),
        "store_again_ms": milliseconds(again_s),
        "open_ms": milliseconds(open_s),
        "open_and_read_all_ms": milliseconds(read_s),
    }


def measure_cancel(client: Client, params) -> float:
    """Seconds from cancel to the job's end; the task looks every 10 ms."""
    job = client.submit("count", params)
    while not job.begun:
        client.poll(0.01)
    began = time.perf_counter()
    job.cancel()
    while not job.done:
        client.poll(0.01)
    return time.perf_counter() - began


def timed(action) -> float:
    """Seconds an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def milliseconds(seconds: float) -> float:
    """As the table shows it."""
    return round(1000 * seconds, 3)
