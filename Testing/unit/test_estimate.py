"""The estimate before a run: refuses what can't be held and says what to do."""

import re

import pytest

from ct3d.errors import InvalidRequest
from ct3d.pipeline.estimate import estimate
from ct3d.pipeline.machine import device, memory_mb
from ct3d.protocol.tasks import TASKS, EstimateParams

DEMO_KJI = (133, 512, 512)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_an_estimate_and_the_demo_fits_a_small_machine(task):
    estimated = estimate(EstimateParams(task, "", DEMO_KJI), available_mb=8000)
    assert estimated.fits
    assert estimated.notes == ()
    assert estimated.memory_mb < 3 * 1024  # the worker's bound


def test_two_thousand_slices_are_refused_on_a_small_machine_with_what_to_do():
    params = EstimateParams("segment", "anatomy_rules", (2000, 512, 512))
    estimated = estimate(params, available_mb=4000)
    assert not estimated.fits
    assert re.search(r"needs about [\d.]+ GB.*crop.*about (\d+) slices", estimated.notes[0])


def test_the_number_of_slices_it_names_does_fit():
    refused = estimate(EstimateParams("segment", "", (2000, 512, 512)), available_mb=4000)
    slices = int(re.search(r"about (\d+) slices", refused.notes[0])[1])
    assert estimate(EstimateParams("segment", "", (slices, 512, 512)), available_mb=4000).fits
    assert not estimate(EstimateParams("segment", "", (slices + 1, 512, 512)), available_mb=4000).fits


def test_a_machine_without_any_room_is_told_so():
    refused = estimate(EstimateParams("report", "", DEMO_KJI), available_mb=100)
    assert not refused.fits
    assert "more memory" in refused.notes[0]


@pytest.mark.parametrize(
    "params", [EstimateParams("paint", "", (1, 1, 1)), EstimateParams("segment", "", (0, 1, 1))]
)
def test_what_has_no_estimate_is_refused(params):
    with pytest.raises(InvalidRequest):
        estimate(params, available_mb=8000)


def test_this_machine_has_memory_and_a_name():
    total, available = memory_mb()
    here = device()
    assert 0 < available <= total
    assert here.kind in ("cpu", "cuda", "mps")
    assert here.name
    assert here.threads >= 1
