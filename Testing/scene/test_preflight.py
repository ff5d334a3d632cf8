"""What the pre-flight card says of volumes, machines and profiles; and what an overview says of a case."""

from dataclasses import replace

import numpy as np
import pytest

from ct3d.case import Action, Case, Finding, Flag, Geometry, Input, PointReview, Signature, Step
from ct3d.errors import InvalidRequest, WorkerLost
from ct3d.imaging.volume import Volume
from ct3d.protocol.messages import Device, HelloResult
from ct3d.protocol.tasks import EstimateResult
from CT3DAssistantLib.chain import TITLES
from CT3DAssistantLib.logic import ANALYSIS, left_of
from CT3DAssistantLib.overview import broken_steps, duration, persons_work, steps_left, summary
from CT3DAssistantLib.preflight import (
    Preflight,
    device_line,
    gigabytes,
    profile_lines,
    questions,
    volume_lines,
    whole_need,
    worker_line,
)
from CT3DAssistantLib.profiles import profile_of
from CT3DAssistantLib.results import failed

VERSIONS = dict.fromkeys(("numpy", "scipy", "SimpleITK", "xllamacpp"), "1.0")
CPU = Device("cpu", "a processor", 24000, 20000, "float32", 8)
GPU = Device("cuda", "NVIDIA H200", 143000, 140000, "bfloat16", 16)


def a_volume(*, shape=(100, 64, 64), spacing=(3.0, 5.0, 5.0)) -> Volume:
    k, j, i = spacing
    array = np.random.default_rng(0).choice([-1000, -80, 40], shape).astype(np.int16)
    return Volume(array, np.diag([i, j, k, 1.0]))


def a_worker(device=CPU, versions=VERSIONS) -> HelloResult:
    return HelloResult(1, 1, "3.12", "linux", device, versions)


def a_case(**more) -> Case:
    return Case(Input("", Geometry((4, 4, 4), (1.0, 1.0, 1.0), ())), **more)


def a_step(task: str) -> Step:
    return Step(task, "", "", "", "cpu", "float32", 10.0)


def test_a_profile_that_needs_torch_stops_where_the_workers_python_lacks_it():
    lacking = device_line(a_worker(), profile_of("headneck"))
    assert lacking.state == "stop" and lacking.models and "torch, monai" in lacking.text
    able = a_worker(versions=VERSIONS | {"torch": "2.13.0", "monai": "1.6.1"})
    assert device_line(able, profile_of("headneck")).state == "warning"  # no GPU
    assert device_line(a_worker(), profile_of("floor")).state == "warning"


def test_weights_that_a_person_converts_are_told_as_missing_with_where_to_look(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    line = profile_lines(profile_of("hsenet"))[0]
    assert line.state == "warning" and line.models
    assert "HSENet" in line.text and "get and convert" in line.text


@pytest.mark.parametrize(
    ("volume", "state", "says"),
    [
        (a_volume(), "ok", "320 x 320 x 300 mm"),
        (a_volume(spacing=(6.0, 5.0, 5.0)), "warning", "6.0 mm thick"),
        (a_volume(shape=(40, 64, 64)), "warning", "Shorter than a chest"),
    ],
)
def test_the_field_of_view_is_told_in_millimetres_with_what_it_means(volume, state, says):
    line = volume_lines(volume)[0]
    assert line.state == state and says in line.text


def test_the_slices_of_a_volume_that_lies_on_its_side_are_judged_along_the_body():
    sagittal = Volume(
        a_volume().array, np.array([[0, 0, 3.0, 0], [5.0, 0, 0, 0], [0, 5.0, 0, 0], [0, 0, 0, 1]])
    )
    line = volume_lines(sagittal)[0]
    assert line.text.startswith("300 x 320 x 320 mm")


def test_values_that_can_be_no_ct_stop_the_analysis_with_what_to_do():
    volume = Volume(np.zeros((20, 20, 20), np.int16), np.eye(4) * 3)
    line = volume_lines(volume)[1]
    assert line.state == "stop" and "Choose a CT" in line.text


@pytest.mark.parametrize(
    ("device", "profile", "state", "says"),
    [
        (CPU, "", "warning", "No GPU: processor a processor, 8 threads"),
        (GPU, "", "warning", "The models of this profile run on the processor"),
        (GPU, "transformers", "ok", "NVIDIA H200, 139.6 GB, bfloat16."),
    ],
)
def test_the_device_is_told_as_the_worker_sees_it_and_the_profile_uses_it(device, profile, state, says):
    versions = VERSIONS | dict.fromkeys(("torch", "transformers"), "1.0")
    line = device_line(a_worker(device, versions), profile_of(profile))
    assert line.state == state and says in line.text


def test_a_worker_that_lacks_packages_or_never_came_up_leads_to_models():
    lacking = device_line(a_worker(versions={"numpy": "2"}), profile_of(""))
    assert lacking.state == "stop" and lacking.models and "scipy, SimpleITK, xllamacpp" in lacking.text
    lost = worker_line(WorkerLost("The worker ended. Do this.\nIts last lines:\nsecret"))
    assert lost.state == "stop" and lost.models and "secret" not in lost.text


def test_the_whole_need_adds_times_takes_the_largest_memory_and_fits_if_every_step_does():
    small = EstimateResult(100, 10, 1000, "cpu", True)
    large = EstimateResult(900, 5, 1000, "cpu", True, ("a note",))
    whole = whole_need((small, large))
    assert (whole.seconds, whole.memory_mb, whole.fits, whole.notes) == (15, 900, True, ("a note",))
    too_large = replace(small, fits=False, notes=("crop it",))
    assert whole_need((large, too_large)).notes == ("crop it",) and not whole_need((large, too_large)).fits


def test_the_questions_name_the_cards_of_the_profile():
    asked = {each.task: each.card for each in questions(profile_of("floor"), a_volume())}
    assert asked["segment"] == "anatomy_rules" and asked["report"] == ""


class TwoJobs:
    """A client whose answers the test gives."""

    def __init__(self):
        self.jobs = []

    def connect(self):
        return self._job("connect")

    def submit(self, task, params):
        return self._job(f"{task} {params.task}")

    def _job(self, name):
        self.jobs.append(AJob(name))
        return self.jobs[-1]


class AJob:
    def __init__(self, name):
        self.name, self.error, self.callbacks = name, None, []

    def add_done_callback(self, callback):
        self.callbacks.append(callback)

    def result(self):
        return self.value

    def end(self, value=None, error=None):
        self.value, self.error = value, error
        for callback in self.callbacks:
            callback(self)


def test_answers_about_an_earlier_volume_come_to_nothing():
    client, changes = TwoJobs(), []
    card = Preflight(lambda: changes.append(1))
    card.look(client, a_volume, profile_of(""))
    first = client.jobs.pop()
    card.look(client, a_volume, profile_of("floor"))
    first.end(error=WorkerLost("gone. Wait."))
    assert not changes and card.can_run and card.lines[2].state == "wait"
    client.jobs.pop().end(a_worker())
    for job in client.jobs:
        job.end(EstimateResult(100, 10, 1000, "cpu", True))
    assert card.banner.endswith("about 50\N{NO-BREAK SPACE}s for this volume.") and len(changes) == 2


def test_a_volume_that_can_not_be_read_is_told_and_asks_the_worker_nothing():
    def read():
        raise InvalidRequest("It holds no image. Load another.")

    client, card = TwoJobs(), Preflight(lambda: None)
    card.look(client, read, profile_of(""))
    assert card.lines[0].text == "It holds no image. Load another." and not card.can_run and not client.jobs


def test_what_is_left_of_an_analysis_begins_with_the_first_step_that_is_missing_or_broke():
    whole = a_case(provenance=tuple(a_step(task) for task in ANALYSIS[1:]))
    assert left_of(whole) == ()
    assert left_of(failed(whole, "measure", "it died")) == ("measure", "findings", "report")
    assert left_of(a_case(provenance=(a_step("segment"),))) == ANALYSIS[3:]  # not every profile locates
    without = failed(whole, "locate", "no torch")
    assert left_of(without) == ANALYSIS[2:]
    assert left_of(a_case()) == ()
    told = {name: steps_left(without, profile_of(name)) for name in ("", "hsenet")}
    assert told["hsenet"] == tuple(TITLES[task] for task in ANALYSIS[2:])
    assert told[""] == told["hsenet"][1:]  # it has no encoder to locate with


def test_an_overview_counts_findings_and_warnings_and_names_broken_steps():
    finding = Finding("a", "A", "present", None, (), "lungs", "", "")
    case = a_case(findings=(finding,), flags=(Flag("b", "warning", "look"),), provenance=(a_step("segment"),))
    assert "1 present, 0 possible; 1 thing to look at." in summary(case)
    case = failed(case, "measure", "it died")
    assert "1 thing to look at" in summary(case) and broken_steps(case)[0][0] == "Measuring"


def test_a_persons_work_is_said_in_words_and_nothing_where_there_is_none():
    assert persons_work(None) == persons_work(a_case()) == ""
    reviews = (PointReview("carina", "accepted"), PointReview("apex"))
    signed = a_case(reviews=reviews, signature=Signature("Dr A", "", ""))
    assert persons_work(signed) == "1 reviewed landmark, the signature of Dr A"
    assert persons_work(a_case(actions=(Action("", "review", "report"),))) == "a review"


def test_times_and_sizes_are_said_as_a_person_would():
    told = [duration(each).replace("\N{NO-BREAK SPACE}", " ") for each in (7.6, 80, 7500)]
    assert told == ["8 s", "1 min 20 s", "2 h 5 min"]
    assert (gigabytes(713), gigabytes(3480)) == ("713 MB", "3.4 GB")
