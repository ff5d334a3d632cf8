"""Wall time, processor time and peak memory of a whole analysis, by stage and process.

As a program it measures once, in its own process, so that peaks are its own; `measure` runs it.
Cold: the first analysis after both processes start (the system's file cache is not emptied).
Warm: a second volume, with other voxels, in the same sitting.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil


def measure(worker_python: Path, sample: str = "lidc_idri_0001") -> dict:
    """The numbers of one sample, as a dict."""
    command = [sys.executable, "-m", "bench.analysis", sample, "--worker-python", str(worker_python)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Analyse a sample twice and print one line of JSON."""
    started = time.perf_counter()
    parser = argparse.ArgumentParser()
    parser.add_argument("sample")
    parser.add_argument("--worker-python", type=Path, required=True)
    arguments = parser.parse_args()
    from CT3DAssistantLib.samples import sample_scan
    from CT3DAssistantLib.session import Sitting

    with Sitting(arguments.worker_python) as sitting, tempfile.TemporaryDirectory() as out:
        node = sitting.open(sample_scan(arguments.sample))
        cold = analysis(sitting, node, Path(out), started)
        other = another_volume(sitting, node)
        warm = analysis(sitting, other, Path(out), time.perf_counter())
        result = {
            "sample": arguments.sample,
            "cold": cold,
            "warm": warm,
            "longest_host_block_ms": blocked_ms(cold, warm),
        }
    print(json.dumps(result))


def analysis(sitting, node, out: Path, started: float) -> dict:
    """One analysis with its exports; `started` is when the person began to wait."""
    from CT3DAssistantLib.exports.bundle import export_case

    blocks, first_text, report_began = [], [], []
    asked = time.perf_counter()

    def note(progress) -> None:
        if progress.stage.startswith("Writing the report"):
            report_began.append(time.perf_counter())

    chain = sitting.logic.analyze(node, note, lambda _piece: first_text.append(time.perf_counter()))
    submit_s = time.perf_counter() - asked
    while not chain.done:
        began = time.perf_counter()
        sitting.client.poll(0.0)
        blocks.append(time.perf_counter() - began)
        time.sleep(0.005)
    case = chain.result()
    analysed = time.perf_counter()
    export_case(sitting.scene, node, out)
    finished = time.perf_counter()
    report = next(step for step in case.provenance if step.task == "report")
    worker = psutil.Process(sitting.client.worker.pid)
    return {
        "wall_s": round(finished - started, 2),
        "analysis_s": round(analysed - asked, 2),
        "export_s": round(finished - analysed, 2),
        "stages_s": {step.task: {"seconds": step.seconds, **step.stages} for step in case.provenance},
        "first_text_s": round(first_text[0] - report_began[0], 2) if first_text else None,
        "longest_poll_ms": round(1000 * max(blocks), 1),
        "submit_ms": round(1000 * submit_s, 1),
        "sentences": report.counts,
        "host": usage(psutil.Process()),
        "worker": usage(worker),
    }


def another_volume(sitting, node):
    """The same scan with one voxel changed, so that nothing remembered of the first applies."""
    from CT3DAssistantLib.scene import add_volume, volume_from_node

    volume = volume_from_node(node)
    array = volume.array.copy()
    array[0, 0, 0] += 1
    return add_volume(sitting.scene, replace(volume, array=array))


def usage(process: psutil.Process) -> dict:
    """Processor seconds so far and peak resident memory in MB (Linux)."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    times = process.cpu_times()
    return {"cpu_s": round(times.user + times.system, 2), "peak_rss_mb": round(peak_kb / 1024)}


def blocked_ms(*analyses: dict) -> float:
    """Longest time the host thread spent in one poll, callbacks included."""
    return max(each["longest_poll_ms"] for each in analyses)


if __name__ == "__main__":
    main()
