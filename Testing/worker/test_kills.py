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
LONGEST_WAIT_S = 0.05


class Session:
    """Asks for the squares of 0, 1, 2, …, each again until it is there, while its worker is killed at random."""

    def __init__(self, client, dice: random.Random):
        self.client, self.dice = client, dice
        self.done: dict[float, object] = {}
        self.kills = self.lost = 0
        self.kill_at = time.monotonic()
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
        if time.monotonic() > self.kill_at and self.client.worker:
            self.kill()

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.client.worker.pid, signal.SIGKILL)
            self.kills += 1
        self.kill_at = time.monotonic() + self.dice.uniform(0.0, LONGEST_WAIT_S)


def test_two_hundred_kills_lose_no_completed_result(a_client_of, a_session_folder):
    dice = random.Random(2)
    sessions = [Session(a_client_of(limits=Limits()), dice) for _ in range(SESSIONS)]
    while sum(session.kills for session in sessions) < KILLS:
        for session in sessions:
            session.go_on()
    for session in sessions:
        expected = float(len(session.done))
        while not session.job.done or session.job.error:  # the next request works
            session.go_on()
        assert expected in session.done or session.job.result().value == expected**2
        for value, stored in session.done.items():
            array = open_array(stored.array, a_session_folder)
            np.testing.assert_array_equal(array, np.full((4, 64, 64), value**2))
    assert sum(session.lost for session in sessions) > KILLS / 10  # the kills did hit work
    assert sum(len(session.done) for session in sessions) > KILLS
