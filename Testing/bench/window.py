"""How fluid the module's window stays: the demo CT by clicks and keys, on the double of Qt."""

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
TURNS = "longest_turn_ms", "longest_work_ms"


def measure(worker_python: str) -> dict:
    """Milliseconds that nothing else got in, by the clock and by this process's work, and how long it took.

    Args:
        worker_python: the worker's interpreter.
    """
    sys.path.append(str(Path(__file__).resolve().parents[1] / "ui"))
    import pythonqt_double
    from module_window import open_window

    double = pythonqt_double.install()
    from CT3DAssistantLib.selftest import walks

    with (
        tempfile.TemporaryDirectory() as folder,
        open_window(double, Path(worker_python), Path(folder)) as screen,
    ):
        found = {"load_sample": timed(screen, lambda: walks.load_sample(screen))}
        found["cancel"] = timed(screen, lambda: start_and_cancel(screen))
        found["analyze"] = timed(screen, lambda: walks.analyze(screen))
        screen.unfold("report")
        found["look_up"] = timed(screen, lambda: walks.look_up(screen, screen.case.sentences[0].id))
        found["ask"] = timed(screen, lambda: walks.ask(screen, "How large is the nodule?"))
        found["describe"] = timed(screen, lambda: walks.ask(screen, "Describe the right lung."))
    return found


def timed(screen, act) -> dict:
    """Seconds of one act, and the longest turn of the event loop in it."""
    screen.longest_turn_s = screen.longest_work_s = 0.0
    began = time.perf_counter()
    cancelled_s = act()
    longest = (screen.longest_turn_s, screen.longest_work_s)
    return {
        "seconds": round(cancelled_s or time.perf_counter() - began, 3),
        **{name: round(1000 * value, 1) for name, value in zip(TURNS, longest, strict=True)},
    }


def start_and_cancel(screen) -> float:
    """Seconds from the click on Cancel to nothing at work, two seconds into an analysis."""
    screen.click("case", "analyzeButton")
    until = time.monotonic() + 2
    screen.wait(lambda: time.monotonic() > until)
    began = time.perf_counter()
    screen.click("case", "analyzeButton")
    screen.wait_idle()
    return time.perf_counter() - began
