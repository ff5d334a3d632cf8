"""Reports and answers of a model that reads the scan, behind the wire: a real worker, a small HSENet.

Its weights are made up (see pipeline/hsenet_home.py); the published ones were never seen here.
"""

import json
import os
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from pace import TooLong, timed
from processes import CODE

from ct3d.case import Case, Scope
from ct3d.client.client import Client
from ct3d.client.transport import PopenTransport
from ct3d.errors import InvalidRequest, TaskCancelled, WeightsMissing
from ct3d.imaging.exchange import open_array, store_array, store_volume
from ct3d.imaging.volume import Volume
from ct3d.protocol.messages import streamed
from ct3d.protocol.tasks import AnswerParams, MaskLayer, PrepareParams, ReportParams, Turn, WarmUpParams

REPORTS, ANSWERS = "hsenet_ct_rate", "hsenet_radgenome"
TESTS = Path(__file__).resolve().parents[1]
CASE = TESTS / "golden" / "case_made_up.json"
FRESH = count(100)  # seeds of scans that no worker has seen yet
ALL_TOKENS = 16  # of the small net: two encoders, 2 x 2 x 2 windows each


@pytest.fixture(scope="module")
def an_exchange(tmp_path_factory):
    return tmp_path_factory.mktemp("exchange")


def a_client_at(home, worker_python, folder):
    transport = partial(PopenTransport, environment={**os.environ, "HOME": str(home)})
    command = [str(worker_python), "-X", "utf8", "-m", "ct3d.worker"]
    return Client(command, folder, folder=CODE, transport=transport)


@pytest.fixture(scope="module")
def a_reader(a_home_with_hsenet, worker_python, an_exchange):
    """A client of a worker that has the small HSENet."""
    client = a_client_at(a_home_with_hsenet, worker_python, an_exchange)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """This file's worker lives as long as its tests."""


def a_scan(seed=0):
    """A block of soft tissue with noise in air; 3 x 2 x 2 mm."""
    array = np.full((24, 40, 44), -1000, np.int16)
    array[2:22, 5:35, 4:40] = np.random.default_rng(seed).integers(-900, 100, (20, 30, 36))
    return Volume(array, np.diag([2.0, 2.0, 3.0, 1.0]))


def put(folder, seed=0):
    """(reference of a scan, its case)."""
    volume = a_scan(seed)
    ref, case = store_volume(volume, folder), Case.from_json(CASE.read_text(encoding="utf-8"))
    return ref, replace(case, input=replace(case.input, sha256=ref.array.sha256, geometry=volume.geometry))


def stages(result):
    return set(result.step.stages)


def test_a_report_streams_and_each_sentence_is_judged_and_tied_to_what_supports_it(a_reader, an_exchange):
    ref, case = put(an_exchange)
    pieces = []
    params = ReportParams(case, REPORTS, volume=ref)
    result = a_reader.wait(a_reader.submit("report", params, on_text=pieces.append))
    right, wrong = result.sentences
    assert right.text == "The right lung has a volume of 2340 mL."
    assert (right.section, right.support, right.origin) == ("lungs", "supported", "model")
    assert {"region/right_lung", "attribute/right_lung.volume"} <= set(right.evidence)
    assert (wrong.text, wrong.section, wrong.support) == (
        "There is severe pneumonia.",
        "lungs",
        "unsupported",
    )
    assert wrong.reasons and not any(wrong.evidence)
    assert len(pieces) == 13 and streamed("", "".join(pieces)) == f"{right.text} {wrong.text}"
    assert [flag.id for flag in result.flags] == ["report_unsupported"]
    assert "1 of 2" in result.flags[0].text
    assert result.saw.card == REPORTS and result.saw.shape_from_kji == (24, 40, 44)
    assert "2D guide" in result.saw.notes[-1]
    step = result.step
    assert step.prompts == ("Can you summarize with findings the images presented?",)
    assert step.weights_sha256 and step.dtype == "float32" and step.device in ("cpu", "cuda")
    assert step.counts["visual_tokens"] == step.counts["visual_tokens_seen"] == ALL_TOKENS


def test_a_section_of_it_keeps_the_sentences_of_that_section(a_reader, an_exchange):
    ref, case = put(an_exchange)
    params = ReportParams(case, REPORTS, volume=ref, sections=("bones",))
    result = a_reader.wait(a_reader.submit("report", params))
    assert (result.sentences, result.sections) == ((), ("bones",))


def test_a_follow_up_reuses_what_was_read_and_leans_on_the_turns_before(a_reader, an_exchange):
    ref, case = put(an_exchange, seed=1)
    params = AnswerParams(case, "what is there ?", card=ANSWERS, volume=ref)
    first = a_reader.wait(a_reader.submit("answer", params))
    assert {"encode the slices", "encode the scan", "read the scan"} <= stages(first)
    turn = Turn(params.question, first.answer.text)
    again = replace(params, question="in the left lobe ?", history=(turn,))
    second = a_reader.wait(a_reader.submit("answer", again))
    assert not stages(second) & {"prepare the scan", "encode the slices", "encode the scan", "read the scan"}
    assert second.step.prompts == (f"what is there ? {first.answer.text} in the left lobe ?",)
    assert first.answer.origin == "model" and first.answer.support == "unsupported"
    assert [each.support for each in first.answer.sentences] == ["unsupported"]
    repeated = a_reader.wait(a_reader.submit("answer", params))
    assert repeated.answer == first.answer
    ref, case = put(an_exchange, seed=2)
    other = a_reader.wait(a_reader.submit("answer", replace(params, volume=ref, case=case)))
    assert "encode the scan" in stages(other)


def test_a_seed_decides_what_is_drawn_at_a_temperature(a_reader, an_exchange):
    ref, case = put(an_exchange)
    params = AnswerParams(case, "what is there ?", card=ANSWERS, volume=ref, temperature=1.5)
    texts = [
        a_reader.wait(a_reader.submit("answer", replace(params, seed=seed))).answer.text for seed in (1, 2, 1)
    ]
    assert texts[0] == texts[2] != texts[1]


@pytest.mark.parametrize(
    "scope",
    [
        Scope("region", "right_lung"),
        Scope("slices", "", (9.0, 12.0)),
        Scope("box", "", (10.0, 30.0, 12.0, 60.0, 6.0, 30.0)),
    ],
    ids=lambda scope: scope.kind,
)
def test_of_a_part_of_the_scan_only_tokens_that_hold_some_of_it_are_seen(scope, a_reader, an_exchange):
    ref, case = put(an_exchange)
    mask = np.zeros((24, 40, 44), np.uint8)
    mask[3:5, 7:30, 7:12] = 1  # low, on the left of the array
    layers = (MaskLayer("organs", store_array(mask, an_exchange)),)
    params = AnswerParams(case, "what is there ?", card=ANSWERS, volume=ref)
    whole = a_reader.wait(a_reader.submit("answer", params))
    part = a_reader.wait(a_reader.submit("answer", replace(params, scope=scope, layers=layers)))
    seen = {"region": 4, "slices": 8, "box": 4}[scope.kind]
    assert part.step.counts["visual_tokens_seen"] == seen
    assert part.answer.text != whole.answer.text
    assert part.answer.scope == scope
    assert "encode the scan" not in stages(part)


def test_a_region_without_its_mask_and_a_part_that_is_not_seen_are_refused(a_reader, an_exchange):
    ref, case = put(an_exchange)
    params = AnswerParams(case, "what ?", card=ANSWERS, volume=ref, scope=Scope("region", "right_lung"))
    with pytest.raises(InvalidRequest, match="mask of right lung"):
        a_reader.wait(a_reader.submit("answer", params))
    far = replace(params, scope=Scope("slices", "", (900.0, 910.0)))
    with pytest.raises(InvalidRequest, match="Choose another"):
        a_reader.wait(a_reader.submit("answer", far))


def test_without_the_volume_or_with_another_one_it_says_so(a_reader, an_exchange):
    ref, case = put(an_exchange)
    with pytest.raises(InvalidRequest, match="looks at the scan itself"):
        a_reader.wait(a_reader.submit("report", ReportParams(case, REPORTS)))
    other, _ = put(an_exchange, seed=3)
    with pytest.raises(InvalidRequest, match="not the one that the case is of"):
        a_reader.wait(a_reader.submit("report", ReportParams(case, REPORTS, volume=other)))


@timed
def test_a_person_who_stops_it_leaves_the_worker_alive(a_reader, an_exchange):
    ref, case = put(an_exchange, seed=next(FRESH))
    params = AnswerParams(case, "what ?", card=ANSWERS, volume=ref)
    job = a_reader.submit("answer", params, on_progress=lambda _progress: job.cancel())
    pid = a_reader.worker.pid
    try:
        a_reader.wait(job)
    except TaskCancelled:
        assert a_reader.wait(a_reader.submit("answer", params)).answer.text
        assert a_reader.worker.pid == pid
    else:
        raise TooLong("the way of a stop to the worker")  # the whole answer was there before it


def test_what_the_model_sees_is_a_volume_on_the_encoders_grid(a_reader, an_exchange):
    ref, _ = put(an_exchange)
    result = a_reader.wait(a_reader.submit("prepare", PrepareParams(ref, REPORTS)))
    array = open_array(result.volume.array, an_exchange)
    assert array.shape == result.saw.shape_to_kji == (4, 32, 32)
    assert array.min() >= -1000 and array.max() <= 200
    assert a_reader.wait(a_reader.submit("warm_up", WarmUpParams(ANSWERS))).step.card == ANSWERS


def test_without_weights_the_error_says_how_to_get_them(worker_python, tmp_path, a_home_with_hsenet):
    client = a_client_at(tmp_path, worker_python, tmp_path)
    ref, case = put(tmp_path)
    for task, params in {
        "report": ReportParams(case, REPORTS, volume=ref),
        "answer": AnswerParams(case, "what ?", card=ANSWERS, volume=ref),
    }.items():
        with pytest.raises(WeightsMissing, match="Fetch .* run `ct3d-assistant weights convert FOLDER`"):
            client.wait(client.submit(task, params))
    client.close()


def test_what_a_case_keeps_of_it_survives_its_file(a_reader, an_exchange):
    ref, case = put(an_exchange)
    params = AnswerParams(case, "what is there ?", card=ANSWERS, volume=ref)
    result = a_reader.wait(a_reader.submit("answer", params))
    kept = replace(case, answers=(result.answer,), saw=(result.saw,))
    assert Case.from_json(kept.to_json()) == kept
    assert json.loads(kept.to_json())["answers"][0]["sentences"][0]["origin"] == "model"
