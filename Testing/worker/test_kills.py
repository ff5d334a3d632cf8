"""The worker is killed 200 times at random moments of its work: nothing that was completed is lost."""

import contextlib
import os
import random
import signal
import time

import numpy as np
from rogue.tasks import Number

from ct3d.client.client import Limits
from ct3d.errors import WorkerLost
from ct3d.imaging.exchange import open_array

KILLS = 200
SESSIONS = 4  # at a time, as one process takes most of its time to start
LONGEST_LIFE_S = 0.1  # from its handshake


class Session:
    """Asks for the squares of 0, 1, 2, …, each until it is there, while its worker is killed at random."""

    def __init__(self, client, dice: random.Random):
        self.client, self.dice = client, dice
        self.done: dict[float, object] = {}
        self.kills = self.lost = 0
        self.pid, self.kill_at = 0, 0.0
        self.ask()

    def ask(self):
        self.job = self.client.submit("square", Number(float(len(self.done))))

    def go_on(self):
        self.client.poll(0.001)
        if self.job.done:
            if self.job.error is None:
                self.done[self.job.result().value ** 0.5] = self.job.result()
            else:
                assert isinstance(self.job.error, WorkerLost)
                self.lost += 1
            self.ask()
        self.kill_when_due()

    def kill_when_due(self):
        worker = self.client.worker
        if worker and worker.pid != self.pid:
            self.pid = worker.pid
            self.kill_at = time.monotonic() + self.dice.uniform(0.0, LONGEST_LIFE_S)
        elif worker and time.monotonic() > self.kill_at:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
            self.kills += 1
            self.kill_at = float("inf")


def test_two_hundred_kills_lose_no_completed_result(a_client_of, a_session_folder):
    dice = random.Random(2)
    sessions = [Session(a_client_of(limits=Limits()), dice) for _ in range(SESSIONS)]
    while sum(session.kills for session in sessions) < KILLS:
        for session in sessions:
            session.go_on()
    for session in sessions:
        with contextlib.suppress(WorkerLost):  # a last kill may have hit it
            session.client.wait(session.job)
        assert session.client.wait(session.client.submit("square", Number(7.0))).value == 49.0
        for value, stored in session.done.items():
            array = open_array(stored.array, a_session_folder)
            np.testing.assert_array_equal(array, np.full((4, 64, 64), value**2))
    assert sum(session.lost for session in sessions) > KILLS / 4  # the kills did hit work
    assert sum(len(session.done) for session in sessions) > KILLS
