"""make bench: one JSON and a table of speed, memory and accuracy, measured in this run."""

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from bench import analysis

IN_WORKER = (
    "accuracy",
    "lesions",
    "language",
    "landmarks",
    "hsenet",
    "encoder",
)  # need the worker's packages


def main() -> None:
    """Measure everything, write bench.json, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker-python", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("bench-output"))
    parser.add_argument("--only", action="append", default=[])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    parts = {"analysis": lambda: analysis.measure(arguments.worker_python)}
    parts["transport"] = lambda: in_process(sys.executable, "transport")
    parts["window"] = lambda: in_process(sys.executable, "window", str(arguments.worker_python.absolute()))
    parts |= {name: lambda name=name: in_process(str(arguments.worker_python), name) for name in IN_WORKER}
    results = {"date_utc": datetime.now(UTC).isoformat(timespec="seconds")}
    for name in arguments.only or parts:
        results[name] = parts[name]()
    path = arguments.out / "bench.json"
    path.write_text(json.dumps(results, indent=1), encoding="utf-8")
    Console(width=120).print(table(results))
    print(path)


def in_process(python: str, name: str, *arguments: str) -> dict:
    """`measure(*arguments)` of one bench module, in a fresh process of the interpreter it needs."""
    code = f"import json, sys; from bench.{name} import measure; print(json.dumps(measure(*sys.argv[1:])))"
    done = subprocess.run([python, "-c", code, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(results: dict) -> Table:
    """Every number and short answer, one a row."""
    shown = Table(Column("what", no_wrap=True), "value", title="CT3DAssistant bench")
    for name, value in flat(results):
        if len(str(value)) < 60:  # sentences that failed and notes are in the JSON
            shown.add_row(name, str(value))
    return shown


def flat(value, name: str = ""):
    """(dotted name, leaf) pairs of nested dicts and lists."""
    pairs = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    )
    if pairs is None:
        yield name, value
        return
    for key, item in pairs:
        yield from flat(item, f"{name}.{key}" if name else str(key))


if __name__ == "__main__":
    main()
