"""The real worker, in a real process, with light tasks."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pace import assert_within, timed
from processes import CODE, is_gone_within
from rogue.tasks import Number, Steps, Stored, Words

from ct3d.errors import (
    DiskFull,
    InvalidRequest,
    OutOfMemory,
    ProtocolMismatch,
    TaskCancelled,
    TaskFailed,
)
from ct3d.imaging.exchange import open_array
from ct3d.protocol import messages
from ct3d.protocol.messages import Request, decode_line, encode_line
from ct3d.protocol.tasks import EstimateParams


def test_the_handshake_tells_the_truth_about_the_machine(a_client):
    worker = a_client.wait(a_client.connect())
    total_kb = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1])
    assert worker.python == ".".join(map(str, sys.version_info[:3]))
    assert worker.versions["numpy"] == np.__version__
    assert 0 < worker.device.available_mb <= worker.device.memory_mb
    assert worker.device.kind != "cpu" or worker.device.memory_mb <= total_kb / 1024 + 1
    assert worker.device.name
    assert worker.device.threads == len(os.sched_getaffinity(0))


def test_progress_text_and_result_arrive_in_order_in_the_polling_thread(a_client):
    heard = []
    job = a_client.submit("count", Steps(3, 0.06), lambda note: heard.append(note.fraction))
    job.add_done_callback(lambda done: heard.append(done.result().value))
    a_client.wait(job)
    a_client.poll()
    assert heard == [0.0, pytest.approx(1 / 3), pytest.approx(2 / 3), 3.0]


def test_the_time_left_is_told_once_it_can_be(a_client):
    heard = []
    a_client.wait(a_client.submit("count", Steps(20, 0.05), heard.append))
    assert heard[0].eta_s is None
    assert heard[-1].eta_s == pytest.approx(0.05, abs=0.1)
    assert max(note.eta_s for note in heard if note.eta_s is not None) < 1.5


def test_text_is_streamed_as_it_was_written(a_client):
    pieces = []
    text = 'Größe 23 mm, "links" \u2028\n\x00 肺'
    assert a_client.wait(a_client.submit("echo", Words(text), on_text=pieces.append)) == Words(text)
    assert pieces == [text]


@timed
def test_cancel_takes_at_most_a_second_and_keeps_the_worker(a_client):
    job = a_client.submit("count", Steps(1000, 0.1))
    while not job.begun:
        a_client.poll(0.05)
    pid, began = a_client.worker.pid, time.monotonic()
    job.cancel()
    with pytest.raises(TaskCancelled):
        a_client.wait(job)
    assert_within(time.monotonic() - began, 1.0)
    a_client.wait(a_client.submit("echo", Words("")))
    assert a_client.worker.pid == pid


def test_a_job_that_waits_is_cancelled_at_once(a_client):
    first = a_client.submit("count", Steps(5, 0.02))
    second = a_client.submit("echo", Words(""))
    second.cancel()
    assert isinstance(second.error, TaskCancelled)
    assert a_client.wait(first) == Number(5)


def test_cancelling_what_is_done_changes_nothing(a_client):
    job = a_client.submit("echo", Words("done"))
    a_client.wait(job)
    job.cancel()
    assert job.result() == Words("done")


def test_a_callback_may_ask_for_the_next_task(a_client):
    last = []

    def go_on(job):
        value = job.result().value
        if value < 1000:
            a_client.submit("square", Number(value)).add_done_callback(go_on)
        else:
            last.append(value)

    a_client.submit("square", Number(3.0)).add_done_callback(go_on)
    end = time.monotonic() + 20
    while not last and time.monotonic() < end:
        a_client.poll(0.05)
    assert last == [6561.0]


def test_a_callback_may_wait_for_another_task(a_client):
    inner = []
    outer = a_client.submit("echo", Words("outer"))
    outer.add_done_callback(lambda _: inner.append(a_client.wait(a_client.submit("echo", Words("inner")))))
    a_client.wait(outer)
    a_client.poll()
    assert inner == [Words("inner")]


def test_an_error_in_a_callback_comes_out_of_poll_and_loses_nothing(a_client):
    calls = []

    def breaks(job):
        raise ZeroDivisionError

    job = a_client.submit("echo", Words("x"))
    job.add_done_callback(breaks)
    job.add_done_callback(calls.append)
    with pytest.raises(ZeroDivisionError):
        while True:
            a_client.poll(0.05)
    a_client.poll()
    assert calls == [job]


def test_what_tasks_print_never_reaches_the_wire(a_client):
    assert a_client.wait(a_client.submit("prints", Words("fine"))) == Words("fine")
    log = "\n".join(a_client.log())
    assert all(words in log for words in ("from Python", "from C", "past both", "from a child"))


def test_a_task_that_reads_its_input_finds_nothing_and_takes_nothing(a_client):
    assert a_client.wait(a_client.submit("stuck_in_stdin", Words(""))) == Words("")
    assert a_client.wait(a_client.submit("echo", Words("next"))) == Words("next")


@timed
def test_want_of_memory_for_real_is_a_typed_error_and_the_next_request_works(a_client):
    pid = a_client.wait(a_client.connect()).pid
    began = time.monotonic()
    with pytest.raises(OutOfMemory, match="crop"):
        a_client.wait(a_client.submit("runs_out_of_memory", Number(0.0)))
    assert_within(time.monotonic() - began, 2.0)
    assert a_client.wait(a_client.submit("square", Number(3.0))).value == 9.0
    assert a_client.worker.pid == pid


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("memory", OutOfMemory, "memory"),
        ("torch", OutOfMemory, "memory"),
        ("itk", OutOfMemory, "memory"),
        ("full", DiskFull, "full"),
        ("package", TaskFailed, "lacks the package torch.*requirements-torch.txt"),
        ("exit", TaskFailed, "SystemExit"),
        ("unforeseen", TaskFailed, r"ValueError.*tasks\.py:\d+"),
    ],
)
def test_what_breaks_in_a_task_is_a_typed_error_and_the_worker_lives(a_client, kind, error, words):
    with pytest.raises(error, match=words):
        a_client.wait(a_client.submit("raises", Words(kind)))
    assert a_client.wait(a_client.submit("echo", Words("next"))) == Words("next")


def test_neither_message_nor_log_shows_a_path_of_the_patient(a_client):
    with pytest.raises(TaskFailed) as failed:
        a_client.wait(a_client.submit("raises", Words("unforeseen")))
    said = str(failed.value) + "\n".join(a_client.log())
    assert "<path>" in said
    assert not re.search("doe|john|1950", said)


def test_a_file_that_the_system_cuts_off_is_a_full_disk(a_client, a_session_folder):
    with pytest.raises(DiskFull):
        a_client.wait(a_client.submit("writes_too_large_a_file", Number(8.0)))
    assert not list(a_session_folder.glob("*.part"))
    assert a_client.wait(a_client.submit("square", Number(2.0))).value == 4.0


@contextmanager
def a_disk_of(megabytes: int, folder: Path):
    """A real file system of this size."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_exchange_folder_is_a_typed_error_and_the_next_request_works(a_client_of, tmp_path):
    with a_disk_of(4, tmp_path / "disk") as disk:
        client = a_client_of(folder=disk)
        with pytest.raises(DiskFull, match="Free space"):
            client.wait(client.submit("fills_disk", Number(16.0)))
        assert not list(disk.iterdir())
        stored = client.wait(client.submit("square", Number(2.0)))
        np.testing.assert_array_equal(open_array(stored.array, disk), np.full((4, 64, 64), 4.0))
        client.close()


@pytest.mark.parametrize(
    ("task", "params", "error"),
    [("says_nan", Number(0.0), InvalidRequest), ("says_too_much", Number(0.0), InvalidRequest)],
)
def test_a_result_that_has_no_place_on_the_wire_is_refused_by_the_worker(a_client, task, params, error):
    with pytest.raises(error):
        a_client.wait(a_client.submit(task, params))
    assert a_client.wait(a_client.submit("echo", Words("next"))) == Words("next")


def test_a_task_whose_module_is_missing_is_said(a_client):
    with pytest.raises(TaskFailed, match="rogue.nothing_here"):
        a_client.wait(a_client.submit("no_such_module", Words("")))


def test_what_a_job_remembers_is_there_for_the_next(a_client):
    values = [a_client.wait(a_client.submit("remembers", Number(0.0))).value for _ in range(3)]
    assert values == [1.0, 2.0, 3.0]
    with pytest.raises(OutOfMemory):
        a_client.wait(a_client.submit("raises", Words("memory")))
    assert a_client.wait(a_client.submit("remembers", Number(0.0))).value == 1.0  # given back


@pytest.mark.parametrize(
    ("task", "params", "words"),
    [("paint", Words(""), "no task 'paint'"), ("echo", Number(1.0), "takes Words")],
)
def test_what_cannot_be_asked_is_refused_before_it_is_sent(a_client, task, params, words):
    with pytest.raises(InvalidRequest, match=words):
        a_client.submit(task, params)


def test_a_request_beyond_the_longest_line_is_refused_before_it_is_sent(a_client):
    with pytest.raises(InvalidRequest, match="too long"):
        a_client.submit("echo", Words("x" * (5 << 20)))


def test_the_estimate_refuses_what_this_machine_cannot_hold(a_client):
    estimated = a_client.wait(a_client.submit("estimate", EstimateParams("segment", "", (200_000, 512, 512))))
    assert not estimated.fits
    assert "slices of this size fit" in estimated.notes[0]


def test_a_folder_that_is_gone_is_said_at_the_handshake(a_client_of, tmp_path):
    client = a_client_of(folder=tmp_path / "gone")
    with pytest.raises(DiskFull, match="exchange folder"):
        client.wait(client.submit("echo", Words("")))


def test_the_worker_ends_with_its_host(tmp_path):
    """The host is killed so that it can't clean up."""
    host = (
        "import sys, time; from pathlib import Path; from ct3d.client.client import Client\n"
        f"here, command = Path({str(CODE)!r}), [sys.executable, '-m', 'ct3d.worker']\n"
        f"client = Client(command, Path({str(tmp_path)!r}), folder=here)\n"
        "print(client.wait(client.connect()).pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", host], cwd=CODE, stdout=subprocess.PIPE, text=True
    ) as process:
        worker = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    assert is_gone_within(2.0, worker)


class Wire:
    """The real worker, spoken to by hand."""

    def __init__(self):
        command = [sys.executable, "-m", "ct3d.worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, cwd=CODE, **pipes)

    def ask(self, raw: bytes):
        self.process.stdin.write(raw)
        self.process.stdin.flush()
        return decode_line(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate(timeout=5)


def test_the_worker_refuses_a_host_of_another_version(tmp_path):
    with Wire() as wire:
        hello = Request(1, "hello", {"protocol": messages.PROTOCOL + 1, "surprise": True})
        assert isinstance(wire.ask(encode_line(hello)).exception, ProtocolMismatch)


def test_the_worker_survives_garbage_and_says_so(tmp_path):
    with Wire() as wire:
        for garbage in (b"hello\n", b"\xff\n", b"[]\n", b'{"jsonrpc":"2.0","id":1,"result":{}}\n'):
            answer = wire.ask(garbage)
            assert answer.id is None
            assert isinstance(answer.exception, InvalidRequest)
        ask = Request(1, "hello", {"protocol": messages.PROTOCOL, "exchange_dir": str(tmp_path)})
        assert wire.ask(encode_line(ask)).result["protocol"] == messages.PROTOCOL


def test_the_worker_does_nothing_before_the_handshake():
    with Wire() as wire:
        wire.process.stdin.write(encode_line(Request(1, "estimate", {})))
        wire.process.stdin.flush()
        assert decode_line(wire.process.stdout.readline()).method == "alive"
        assert "hello" in decode_line(wire.process.stdout.readline()).error.message


def test_shutdown_is_answered_and_obeyed():
    with Wire() as wire:
        assert wire.ask(encode_line(Request(1, "shutdown", {}))).result == {}
        assert wire.process.wait(5) == 0


@timed
def test_the_worker_ends_when_its_input_does():
    with Wire() as wire:
        wire.process.stdin.close()
        began = time.monotonic()
        wire.process.wait(5)
        assert_within(time.monotonic() - began, 2)
        wire.process.stdin = None


def test_a_volume_is_sent_once_and_its_content_checked(a_client, a_session_folder):
    first, second = (a_client.wait(a_client.submit("square", Number(5.0))) for _ in range(2))
    assert isinstance(first, Stored)
    assert first == second
    assert [path.stem for path in a_session_folder.glob("*.npy")] == [first.array.sha256]
    array = open_array(first.array, a_session_folder)
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()
    assert digest == first.array.sha256


def test_a_worker_that_is_let_go_is_replaced_by_the_next_request_and_never_amid_a_job(a_client):
    first = a_client.wait(a_client.connect())
    job = a_client.submit("count", Steps(20, 0.05))
    with pytest.raises(InvalidRequest, match="at work"):
        a_client.retire()
    assert a_client.worker is first and a_client.wait(job).value == 20.0
    a_client.retire()
    assert a_client.worker is None and a_client.retired == 1
    assert is_gone_within(3.0, first.pid)
    assert a_client.wait(a_client.connect()).pid != first.pid


def test_what_waits_when_a_worker_is_let_go_is_cancelled(a_client):
    waits = a_client.connect()
    a_client.retire()
    with pytest.raises(TaskCancelled):
        a_client.wait(waits)
