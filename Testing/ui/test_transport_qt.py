"""The worker over QProcess: the same rogues, kills and tasks as over pipes and threads, the same outcome."""

import contextlib
import os
import random
import re
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

WORKER_TESTS = Path(__file__).resolve().parents[1] / "worker"
sys.path.insert(0, str(WORKER_TESTS))  # for the rogues and their tasks

from pace import assert_within, timed  # noqa: E402
from processes import CODE, QUICK, SILENCE_S, children, is_gone_within  # noqa: E402
from rogue.tasks import TABLE, Number, Steps, Words  # noqa: E402
from test_kills import Session  # noqa: E402
from test_rogue_workers import DETECTED_S, ROGUES, START_S  # noqa: E402

from ct3d.client.client import Client, Limits  # noqa: E402
from ct3d.client.session_folder import SessionFolder  # noqa: E402
from ct3d.errors import TaskCancelled, WorkerLost  # noqa: E402

WORKER = ["-X", "utf8", "-m", "ct3d.worker", "--tasks", "rogue.tasks:TABLE"]
LONGEST_TURN_S = 0.1
STRETCH = 4
KILLS = 20


@pytest.fixture(autouse=True)
def nothing_left_behind(the_double):
    """After every test: no child process, not even a zombie, and no further Python thread."""
    application, _ = the_double
    threads, before = threading.active_count(), set(children())
    yield
    end = time.monotonic() + 3.0
    while set(children()) - before and time.monotonic() < end:
        application.processEvents()
        time.sleep(0.01)
    assert not set(children()) - before
    assert threading.active_count() == threads


@pytest.fixture
def a_host_of(the_double, worker_python, tmp_path):
    """Makes a host over the real worker with the test tasks, or over a rogue that it replaces later."""
    hosts = []
    folder = SessionFolder(tmp_path)

    def make(rogue="", times=1, limits=QUICK):
        command = [str(worker_python), *WORKER]
        if rogue:
            counter = folder.path / f"started-{len(hosts)}"
            before = [str(WORKER_TESTS / "first_times.py"), str(counter), str(times)]
            command = [str(worker_python), *before, str(WORKER_TESTS / "rogue" / rogue), *command]
        hosts.append(Host(the_double[0], command, folder.path, limits))
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()
    folder.close()


class Host:
    """A client over QProcess that is polled by its pump alone, while the event loop turns."""

    def __init__(self, application, command, exchange, limits):
        from CT3DAssistantLib.transport_qt import Pump, QProcessTransport

        self.application = application
        self.errors = []
        environment = {**os.environ, "PYTHONPATH": str(WORKER_TESTS)}
        transport = partial(QProcessTransport, environment=environment, wake=lambda: self.pump.wake())
        self.client = Client(command, exchange, folder=CODE, tasks=TABLE, limits=limits, transport=transport)
        self.pump = Pump(self.client, self.safely)
        self.longest_s = self.longest_work_s = 0.0

    def assert_fluid(self):
        """No turn was long: by the clock, which a busy machine stretches, and by its own work."""
        assert_within(self.longest_s, LONGEST_TURN_S * STRETCH)
        assert_within(self.longest_work_s, LONGEST_TURN_S)

    @contextlib.contextmanager
    def safely(self):
        try:
            yield
        except RuntimeError as error:
            self.errors.append(error)

    def spin(self, is_true, within_s=60.0):
        """Turn the event loop until something holds; remember its longest turn."""
        deadline = time.monotonic() + within_s
        while not is_true():
            began, began_work = time.perf_counter(), time.thread_time()
            self.application.processEvents()
            self.longest_s = max(self.longest_s, time.perf_counter() - began)
            self.longest_work_s = max(self.longest_work_s, time.thread_time() - began_work)
            time.sleep(0.001)
            assert time.monotonic() < deadline, "it never came to pass"

    def wait(self, job, within_s=60.0):
        self.spin(lambda: job.done, within_s)
        return job.result()

    def do(self, task, params, **how):
        return self.wait(self.client.submit(task, params, **how))

    def close(self):
        self.client.close()
        self.pump.finish()


@timed
@pytest.mark.parametrize("script", ROGUES)
def test_a_rogue_gives_its_typed_error_in_time_and_the_next_request_works(a_host_of, script):
    error, words, patience_s, times = ROGUES[script]
    host = a_host_of(script, times, Limits(start_s=START_S, silence_s=SILENCE_S))
    began = time.monotonic()
    with pytest.raises(error, match=words):
        host.do("echo", Words("first"))
    assert time.monotonic() - began < patience_s + DETECTED_S
    host.client.limits = Limits()
    if script != "result_of_another_type.py":  # that one lives on, and would answer again
        assert host.do("echo", Words("second")) == Words("second")
    host.assert_fluid()


def test_messages_that_come_in_pieces_are_put_together(a_host_of):
    pieces = []
    host = a_host_of("speaks_in_bits.py")
    assert host.do("echo", Words(""), on_text=pieces.append) == Words("whole")
    assert pieces == ["né"]


@timed
def test_a_flood_of_messages_leaves_the_event_loop_its_turns(a_host_of):
    host = a_host_of("talks_without_end.py", limits=Limits())
    heard = []
    result = host.do("echo", Words(""), on_progress=heard.append)
    assert (result, len(heard)) == (Words("after the flood"), 20_000)
    host.assert_fluid()
    log = host.client.log()
    assert len(log) <= 200 and max(map(len, log)) <= 500 and log[-1].startswith("log line 199 ")


def test_a_line_of_a_gigabyte_is_never_held(a_host_of):
    def held_mb():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    host = a_host_of("one_gigabyte_line.py")
    job, before, most = host.client.submit("echo", Words("")), held_mb(), 0.0

    def is_done():
        nonlocal most
        most = max(most, held_mb())
        return job.done

    host.spin(is_done)
    assert isinstance(job.error, WorkerLost)
    assert most - before < 48


@timed
def test_a_worker_that_stops_reading_never_blocks_the_host(a_host_of):
    host = a_host_of("stops_reading.py")
    big = Words("x" * (3 << 20))  # far beyond what a pipe holds
    jobs = [host.client.submit("echo", big) for _ in range(5)]
    host.spin(lambda: jobs[0].done)
    assert isinstance(jobs[0].error, WorkerLost)
    assert host.wait(jobs[-1]) == big  # those that waited are done by the next worker
    assert_within(host.client.longest_poll_s, LONGEST_TURN_S)


def test_a_child_of_a_lost_worker_is_ended_too(a_host_of):
    host = a_host_of("hangs.py")
    with pytest.raises(WorkerLost) as lost:
        host.do("echo", Words(""))
    assert is_gone_within(2.0, int(re.search(r"child (\d+)", str(lost.value))[1]))


def test_a_worker_that_was_killed_while_idle_costs_no_job(a_host_of):
    host = a_host_of(limits=Limits())
    pid = host.wait(host.client.connect()).pid
    os.kill(pid, signal.SIGKILL)
    host.spin(lambda: host.client.worker is None)  # noticed without anybody asking
    assert host.do("echo", Words("here")) == Words("here")
    assert host.client.worker.pid != pid


def test_a_worker_killed_by_the_system_is_reported_as_such(a_host_of):
    host = a_host_of(limits=Limits())
    job = host.client.submit("count", Steps(1000, 0.01))
    host.spin(lambda: job.begun)
    os.kill(host.client.worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerLost, match="want of memory"):
        host.wait(job)


def test_jobs_that_waited_behind_a_crash_are_done(a_host_of):
    host = a_host_of(limits=Limits())
    jobs = [host.client.submit("crashes", Words(""))]
    jobs += [host.client.submit("echo", Words(str(n))) for n in range(3)]
    with pytest.raises(WorkerLost, match="Segmentation fault"):
        host.wait(jobs[0])
    assert [host.wait(job).text for job in jobs[1:]] == ["0", "1", "2"]


def test_a_python_that_is_not_there_is_said(the_double, tmp_path):
    host = Host(the_double[0], ["/no/such/python", "-m", "ct3d.worker"], tmp_path, Limits())
    with pytest.raises(WorkerLost, match="ct3d-assistant doctor"):
        host.do("echo", Words(""))
    host.close()


def test_a_program_that_is_no_program_is_said(the_double, tmp_path):
    text = tmp_path / "python"
    text.write_text("not a program")
    text.chmod(0o755)
    host = Host(the_double[0], [str(text)], tmp_path, Limits())
    with pytest.raises(WorkerLost, match="Exec format error|execve|127"):
        host.do("echo", Words(""))
    host.close()


def test_cancel_takes_less_than_a_second_and_keeps_the_worker(a_host_of):
    host = a_host_of(limits=Limits())
    job = host.client.submit("count", Steps(1000, 0.05))
    host.spin(lambda: job.begun)
    pid, began = host.client.worker.pid, time.monotonic()
    job.cancel()
    with pytest.raises(TaskCancelled):
        host.wait(job)
    assert time.monotonic() - began < 1.0
    host.do("echo", Words(""))
    assert host.client.worker.pid == pid


def test_a_job_that_heeds_no_cancel_is_ended_with_its_worker_and_children(a_host_of):
    host = a_host_of(limits=Limits())
    job, waits = host.client.submit("deaf", Steps(60, 1.0)), host.client.submit("echo", Words("behind"))
    host.spin(lambda: any("child" in line for line in host.client.log()))
    child = int(re.search(r"child (\d+)", "\n".join(host.client.log()))[1])
    began = time.monotonic()
    job.cancel()
    with pytest.raises(TaskCancelled):
        host.wait(job)
    assert time.monotonic() - began <= 1.0
    assert is_gone_within(2.0, child)
    assert host.wait(waits) == Words("behind")


def test_closing_the_write_channel_ends_an_idle_worker_at_once(a_host_of):
    host = a_host_of(limits=Limits(close_s=5.0))
    pid = host.wait(host.client.connect()).pid
    began = time.monotonic()
    host.close()
    assert time.monotonic() - began < 1.0
    assert is_gone_within(1.0, pid)


def test_closing_ends_a_worker_that_hangs(a_host_of):
    host = a_host_of("hangs.py", limits=Limits(close_s=0.2))
    job = host.client.submit("echo", Words(""))
    host.spin(lambda: job.begun)
    began = time.monotonic()
    host.close()
    assert time.monotonic() - began < 1.0
    assert isinstance(job.error, TaskCancelled)


def test_a_script_may_wait_without_an_event_loop(a_host_of):
    client = a_host_of(limits=Limits()).client
    assert client.wait(client.submit("echo", Words("quiet"))) == Words("quiet")


def test_many_kills_lose_no_completed_result(a_host_of):
    dice = random.Random(3)
    sessions = [Session(a_host_of(limits=Limits()).client, dice) for _ in range(2)]
    while sum(session.kills for session in sessions) < KILLS:
        for session in sessions:
            session.go_on()
    for session in sessions:
        with contextlib.suppress(WorkerLost):  # a last kill may have hit it
            session.client.wait(session.job)
        assert session.client.wait(session.client.submit("square", Number(7.0))).value == 49.0
        assert sorted(session.done) == [float(n) for n in range(len(session.done))]
    assert sum(session.lost for session in sessions) > 3  # the kills did hit work


@timed
def test_the_pump_rests_while_nothing_is_to_do(a_host_of):
    host = a_host_of(limits=Limits())
    host.do("echo", Words(""))
    host.spin(lambda: not host.client.is_busy)
    host.application.processEvents()
    turns, poll = [], host.client.poll
    host.client.poll = lambda *args: (turns.append(1), poll(*args))
    began_cpu, end = time.process_time(), time.monotonic() + 0.5
    while time.monotonic() < end:
        host.application.processEvents()
        time.sleep(0.05)
    assert not turns
    assert_within(time.process_time() - began_cpu, 0.05, "rest")


def test_an_error_of_a_callback_is_taken_care_of_and_the_rest_comes(a_host_of):
    host = a_host_of(limits=Limits())
    heard = []
    job = host.client.submit("echo", Words("x"))
    job.add_done_callback(lambda _: (_ for _ in ()).throw(RuntimeError("the callback's own")))
    job.add_done_callback(heard.append)
    host.spin(lambda: heard)
    assert [str(error) for error in host.errors] == ["the callback's own"]


def test_a_callback_may_run_the_event_loop_and_wait_there(a_host_of):
    host = a_host_of(limits=Limits())
    inner = []
    outer = host.client.submit("echo", Words("outer"))
    outer.add_done_callback(lambda _: inner.append(host.do("echo", Words("inner"))))
    host.spin(lambda: inner)
    assert inner == [Words("inner")]


def test_a_foreign_interpreter_gets_the_environment_from_before_the_application(monkeypatch, the_double):
    import slicer

    from CT3DAssistantLib.transport_qt import worker_environment

    monkeypatch.setattr(slicer, "app", object(), raising=False)
    before = {"PATH": "/usr/bin", "PYTHONPATH": "/elsewhere", "PythonHome": "/elsewhere"}
    monkeypatch.setattr(slicer.util, "startupEnvironment", lambda: before)
    assert worker_environment(Path("/some/where/bin/python")) == {"PATH": "/usr/bin"}
    assert worker_environment(Path(sys.executable)) is None


def test_the_launcher_is_passed_over(monkeypatch, tmp_path, the_double):
    from CT3DAssistantLib.transport_qt import without_launcher

    for name in ("PythonSlicer", "python-real"):
        (tmp_path / name).touch()
    assert without_launcher(tmp_path / "PythonSlicer") == tmp_path / "PythonSlicer"  # another application's
    monkeypatch.setattr(sys, "executable", str(tmp_path / "PythonSlicer"))
    assert without_launcher(tmp_path / "PythonSlicer") == tmp_path / "python-real"
