"""Scores of reports, answers and retrieval from JSON lines, in both modes, by the command's own program."""

import json
import re

import numpy as np
import pytest

from ct3d.training.evaluate_texts import main


@pytest.fixture
def measured(tmp_path, capsys):
    """Runs the program on some lines; gives exit code and object."""

    def run(what, *lines):
        path = tmp_path / "lines.jsonl"
        path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines))
        code = main([what, str(path)])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_reports_are_scored_in_both_modes_and_their_findings_where_they_are_told(measured):
    said = "There is a small nodule in the left lung."
    same = {"reference": said, "text": said}
    short = {"reference": "No effusion is seen on either side.", "text": "No effusion.", "id": "2"}
    found = {"truth": ["Lung nodule"], "named": ["Lung nodule", "Emphysema"]}
    code, told = measured("report", {**same, **found}, short)
    assert (code, told["count"], told["what"]) == (0, 2, "report")
    assert set(told["texts"]) == {"compat", "clean"}
    assert told["texts"]["compat"]["bleu_1"] == 100  # of what was written, all is in the references
    assert told["texts"]["clean"]["bleu_1"] < 90  # too short
    assert told["findings"]["count"] == 1
    assert told["findings"]["labels"]["Lung nodule"]["f1"] == 100
    assert told["findings"]["pooled"]["precision"] == 50
    assert measured("report", same)[1]["findings"] is None


def test_answers_are_scored_by_kind_and_places_by_their_first_part(measured):
    place = {"kind": "place", "question": "Where?", "reference": "lung/left lung/lower lobe"}
    lines = [{**place, "text": "lung/left lung"}, {**place, "text": ""}]
    code, told = measured("vqa", *lines, {"reference": "yes", "text": "yes"})
    assert (code, told["count"], set(told["kinds"])) == (0, 3, {"place", ""})
    places = told["kinds"]["place"]["places"]
    assert (places["compat"]["major_class"], places["clean"]["major_class"]) == (
        100,
        50,
    )  # nothing is no place
    assert "places" not in told["kinds"][""] and told["kinds"][""]["count"] == 1


def test_vectors_are_ranked_and_compared_by_their_labels(measured):
    vectors = np.eye(4)
    lines = [
        {"volume": list(each), "text": list(np.roll(each, n // 3)), "labels": [1, n % 2]}
        for n, each in enumerate(vectors)
    ]
    code, told = measured("retrieval", *lines)
    assert (code, told["count"], told["with_report"]) == (0, 4, 4)
    assert told["volume_to_report"]["5"] == 100
    assert told["alike"]["compat"]["1"] == 100  # a volume finds itself
    assert told["alike"]["clean"]["1"] < 100
    assert "alike" not in measured("retrieval", {"volume": [1.0, 0.0]})[1]


@pytest.mark.parametrize(
    ("what", "lines", "words"),
    [
        ("report", ['{"reference": "a"'], "Line 1 of .* is no JSON"),
        ("report", [{"reference": "a", "text": "b", "colour": 1}], "colour"),
        ("report", [{"reference": "a", "text": "b", "truth": ["x"], "named": []}], "no finding 'x'"),
        ("vqa", ["", " "], "is empty"),
        ("retrieval", [{"volume": [1.0]}, {"volume": [1.0, 0.0]}], "different lengths"),
        ("retrieval", [{"volume": [1.0], "labels": [1]}, {"volume": [1.0]}], "Only some lines"),
    ],
)
def test_lines_that_can_not_be_used_are_refused_by_what_is_wrong(what, lines, words, measured):
    code, told = measured(what, *lines)
    assert code == 2
    assert re.search(words, told["error"]["message"])


def test_a_file_that_is_not_there_is_refused(tmp_path, capsys):
    assert main(["vqa", str(tmp_path / "none.jsonl")]) == 2
    assert "no file" in json.loads(capsys.readouterr().out)["error"]["message"]
