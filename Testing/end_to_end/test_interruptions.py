"""Stops and deaths in the middle of real tasks on a real CT: quick, told, and nothing found is lost."""

import os
import signal
import time

import pytest
from pace import assert_within, timed

from ct3d.errors import TaskCancelled, WorkerLost

STAGES = ("Finding regions: skeleton", "Measuring", "Writing the report: writing: lungs")


@pytest.fixture
def a_sitting(worker_python):
    from CT3DAssistantLib.session import Sitting

    with Sitting(worker_python) as sitting:
        yield sitting


@pytest.fixture
def a_node(a_sitting, a_sample):
    return a_sitting.open(a_sample("slicerio"))


def run_until(sitting, chain, stages, wanted):
    """Poll until a stage begins."""
    end = time.monotonic() + 120
    while not any(stage.startswith(wanted) for stage in stages) and time.monotonic() < end:
        assert not chain.done, chain.error or stages
        sitting.client.poll(0.01)


@pytest.mark.parametrize("stage", STAGES)
@timed
def test_a_stopped_analysis_ends_within_a_second_and_keeps_what_was_found(a_sitting, a_node, stage):
    stages = []
    chain = a_sitting.logic.analyze(a_node, lambda progress: stages.append(progress.stage))
    run_until(a_sitting, chain, stages, stage)
    began = time.monotonic()
    chain.cancel()
    with pytest.raises(TaskCancelled):
        a_sitting.finish(chain)
    assert_within(time.monotonic() - began, 1.5)  # a second to heed it, and the end where it is not heeded
    case = a_sitting.logic.case_of(a_node)
    assert bool(case and case.regions) == (stage != STAGES[0])
    assert a_sitting.client.wait(a_sitting.logic.estimate(a_node)).fits


def test_a_worker_killed_while_it_writes_costs_the_report_and_nothing_else(a_sitting, a_node):
    stages = []
    chain = a_sitting.logic.analyze(a_node, lambda progress: stages.append(progress.stage))
    run_until(a_sitting, chain, stages, STAGES[2])
    os.kill(a_sitting.client.worker.pid, signal.SIGKILL)
    case = a_sitting.finish(chain)
    assert isinstance(chain.errors["report"], WorkerLost)
    assert case.regions and case.attributes and case.landmarks and case.findings
    assert not case.sentences
    assert any(flag.id == "report_failed" for flag in case.flags)
    case = a_sitting.finish(a_sitting.logic.draft_report(a_node))
    assert case.sentences
    assert not any(flag.id == "report_failed" for flag in case.flags)
