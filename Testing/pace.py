"""Tests that measure how long the event loop is held, on machines that others use too.

An interruption by somebody else's work doesn't come again; what our own code takes does. So such a test is
run anew when a time was too long, twice at most, and fails when it was too long each time.
"""

import pytest


class TooLong(AssertionError):
    """Something took longer than a person may wait."""


timed = pytest.mark.flaky(reruns=2, only_rerun="TooLong")


def assert_within(measured_s: float, limit_s: float, what: str = "") -> None:
    """Raise TooLong where a measured time reaches its limit, both in seconds."""
    if measured_s >= limit_s:
        raise TooLong(f"{what or 'one turn'} took {1000 * measured_s:.0f} of {1000 * limit_s:.0f} ms")
