"""Workers that do what they must not: each is one typed error in time, and the next request works."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from pace import assert_within, timed
from processes import CODE, SILENCE_S, is_gone_within
from rogue.tasks import Number, Steps, Words

from ct3d.client.client import Client, Limits
from ct3d.errors import InvalidRequest, ProtocolMismatch, TaskCancelled, WorkerLost

START_S = 2.0
LONGEST_POLL_S = 0.1
DETECTED_S = 2.0  # an error may take this long, on top of the silence where silence is the sign
ROGUES = {  # script: error, what its message says, how long it is patiently waited for, times it is started
    "dies_mid_task.py": (WorkerLost, r"code 7(?s:.*)the last thing it said", 0, 1),
    "dies_mid_line.py": (WorkerLost, "code 7", 0, 1),
    "exits_on_load.py": (WorkerLost, r"Tried 2 times(?s:.*)code 3(?s:.*)libcudart", 0, 2),
    "never_says_hello.py": (WorkerLost, "hello", START_S, 1),
    "hangs.py": (WorkerLost, "no sign of life", SILENCE_S, 1),
    "garbage_on_stdout.py": (WorkerLost, "no JSON", 0, 1),
    "json_but_no_message.py": (WorkerLost, "no JSON", 0, 1),
    "result_of_another_type.py": (ProtocolMismatch, "txet", 0, 1),
    "speaks_old_protocol.py": (ProtocolMismatch, "speaks protocol 0", 0, 1),
    "stops_reading.py": (WorkerLost, "no sign of life", SILENCE_S, 1),
    "alive_but_deaf.py": (WorkerLost, "no sign of life", SILENCE_S, 1),
    "one_gigabyte_line.py": (WorkerLost, "longer than", 0, 1),
}


@pytest.mark.parametrize("script", ROGUES)
@timed
def test_a_rogue_gives_its_typed_error_in_time_and_the_next_request_works(a_client_of, script):
    error, words, patience_s, times = ROGUES[script]
    client = a_client_of(script, times, Limits(start_s=START_S, silence_s=SILENCE_S))
    began = time.monotonic()
    job = client.submit("echo", Words("first"))
    with pytest.raises(error, match=words):
        client.wait(job)
    assert_within(time.monotonic() - began, patience_s + DETECTED_S)
    client.limits = Limits()
    if script != "result_of_another_type.py":  # that one lives on, and would answer again
        assert client.wait(client.submit("echo", Words("second"))) == Words("second")


def test_all_rogues_are_tried():
    scripts = {path.name for path in Path(__file__).with_name("rogue").glob("*.py")}
    assert scripts - {"wire.py", "tasks.py", "speaks_in_bits.py", "talks_without_end.py"} == set(ROGUES)


def test_messages_that_come_in_pieces_are_put_together(a_client_of):
    pieces = []
    client = a_client_of("speaks_in_bits.py")
    assert client.wait(client.submit("echo", Words(""), on_text=pieces.append)) == Words("whole")
    assert pieces == ["né"]


@timed
def test_a_flood_of_messages_is_taken_in_small_bites(a_client_of):
    client = a_client_of("talks_without_end.py", limits=Limits())
    heard = []
    result = client.wait(client.submit("echo", Words(""), on_progress=heard.append))
    assert (result, len(heard)) == (Words("after the flood"), 20_000)
    assert_within(client.longest_poll_s, LONGEST_POLL_S)


def test_the_log_is_a_ring_of_short_lines(a_client_of):
    client = a_client_of("talks_without_end.py", limits=Limits())
    client.wait(client.submit("echo", Words("")))
    log = client.log()
    assert len(log) <= 200
    assert max(map(len, log)) <= 500
    assert log[-1].startswith("log line 199 ")


def test_a_line_of_a_gigabyte_is_never_held(a_client_of):
    def held_mb():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    client = a_client_of("one_gigabyte_line.py")
    job, before, most = client.submit("echo", Words("")), held_mb(), 0.0
    while not job.done:
        client.poll(0.01)
        most = max(most, held_mb())
    assert isinstance(job.error, WorkerLost)
    assert most - before < 48


@timed
def test_a_worker_that_stops_reading_never_blocks_the_host(a_client_of):
    client = a_client_of("stops_reading.py")
    big = Words("x" * (3 << 20))  # far beyond what a pipe holds
    longest, jobs = 0.0, []
    for _ in range(5):
        began = time.perf_counter()
        jobs.append(client.submit("echo", big))
        longest = max(longest, time.perf_counter() - began)
    while not jobs[0].done:
        client.poll()
        time.sleep(0.005)
    assert isinstance(jobs[0].error, WorkerLost)
    assert_within(client.longest_poll_s, LONGEST_POLL_S)
    assert_within(longest, 0.2)  # most of it to encode 3 MB
    assert client.wait(jobs[-1]) == big  # those that waited are done by the next worker


def test_a_child_of_a_lost_worker_is_ended_too(a_client_of):
    client = a_client_of("hangs.py")
    with pytest.raises(WorkerLost) as lost:
        client.wait(client.submit("echo", Words("")))
    child = int(re.search(r"child (\d+)", str(lost.value))[1])
    assert is_gone_within(2.0, child)


def test_a_worker_that_fails_to_load_once_is_started_again_without_a_word(a_client_of):
    client = a_client_of("exits_on_load.py", times=1)
    assert client.wait(client.submit("echo", Words("second try"))) == Words("second try")


def test_a_worker_that_was_killed_while_idle_costs_no_job(a_client):
    pid = a_client.wait(a_client.connect()).pid
    os.kill(pid, signal.SIGKILL)
    assert is_gone_within(2.0, pid)
    assert a_client.wait(a_client.submit("echo", Words("here"))) == Words("here")
    assert a_client.worker.pid != pid


def test_a_worker_killed_by_the_system_is_reported_as_such(a_client):
    job = a_client.submit("count", Steps(1000, 0.01))
    while not job.begun:
        a_client.poll(0.05)
    os.kill(a_client.worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerLost, match="want of memory"):
        a_client.wait(job)


def test_jobs_that_waited_behind_a_lost_one_are_done(a_client):
    jobs = [a_client.submit("crashes", Words(""))]
    jobs += [a_client.submit("echo", Words(str(n))) for n in range(3)]
    with pytest.raises(WorkerLost, match=r"Segmentation fault"):
        a_client.wait(jobs[0])
    assert [a_client.wait(job).text for job in jobs[1:]] == ["0", "1", "2"]


def test_a_python_that_is_not_there_is_said(a_session_folder):
    with Client(["/no/such/python", "-m", "ct3d.worker"], a_session_folder, folder=CODE) as client:
        job = client.submit("estimate", client.tasks["estimate"].params("segment", "", (1, 1, 1)))
        with pytest.raises(WorkerLost, match="ct3d-assistant doctor"):
            client.wait(job)


@timed
def test_a_job_that_heeds_no_cancel_is_ended_with_its_worker_and_children(a_client):
    job = a_client.submit("deaf", Steps(60, 1.0))
    waits = a_client.submit("echo", Words("behind"))
    while not any("child" in line for line in a_client.log()):
        a_client.poll(0.05)
    child = int(re.search(r"child (\d+)", "\n".join(a_client.log()))[1])
    began = time.monotonic()
    job.cancel()
    with pytest.raises(TaskCancelled):
        a_client.wait(job)
    assert_within(time.monotonic() - began, 1.0)
    assert is_gone_within(2.0, child)
    assert a_client.wait(waits) == Words("behind")


@timed
def test_closing_ends_a_worker_that_hangs(a_client_of):
    client = a_client_of("hangs.py", limits=Limits(close_s=0.2))
    job = client.submit("echo", Words(""))
    while not job.begun:
        client.poll(0.05)
    began = time.monotonic()
    client.close()
    assert_within(time.monotonic() - began, 1.0)
    assert isinstance(job.error, TaskCancelled)
    with pytest.raises(InvalidRequest, match="closed"):
        client.submit("square", Number(1.0))
