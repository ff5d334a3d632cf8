"""How programs end: what whoever started them reads, and their exit code."""

import json

import numpy as np
import pytest
import torch

from ct3d.errors import InvalidRequest, WeightsMissing
from ct3d.imaging.files import write_volume
from ct3d.imaging.volume import Volume
from ct3d.pipeline.whereabouts import SharedEncoder
from ct3d.training import build_corpus, calibrate_threedme, landmark_pages, probe_threedme, watch
from ct3d.training.program import ended


def refuse():
    raise WeightsMissing("There are no weights. Fetch them.")


REFUSED = {"error": {"code": WeightsMissing.code, "message": "There are no weights. Fetch them."}}


def test_a_result_is_one_json_object_with_its_keys_in_order(capsys):
    assert ended(lambda: {"b": None, "a": [0.5, "Bär"]}) == 0
    out, err = capsys.readouterr()
    assert list(json.loads(out).items()) == [("a", [0.5, "Bär"]), ("b", None)]
    assert out.endswith("}\n") and err == ""


def test_work_that_gives_nothing_writes_nothing_but_an_empty_result_is_one(capsys):
    assert ended(lambda: None) == 0
    assert capsys.readouterr() == ("", "")
    assert ended(dict) == 0
    assert capsys.readouterr().out == "{}\n"


def test_an_error_is_the_line_that_the_command_line_knows_it_by(capsys):
    assert ended(refuse) == WeightsMissing.exit_code == 3
    out, err = capsys.readouterr()
    assert out.startswith('{"error"') and out.count("\n") == 1 and err == ""
    assert json.loads(out) == REFUSED


def test_a_result_that_is_no_number_is_never_written(capsys):
    with pytest.raises(ValueError, match="JSON"):
        ended(lambda: {"mre_mm": float("nan")})
    assert capsys.readouterr().out == ""


def test_a_mistake_of_ours_is_not_taken_for_an_error_of_the_person():
    with pytest.raises(ZeroDivisionError):
        ended(lambda: 1 / 0)


@pytest.mark.parametrize(
    "main, words",
    {
        build_corpus.main: "--data {0} --out {0}/corpus.npz",
        calibrate_threedme.main: "--data {0} --samples {0} --card none",
        probe_threedme.main: f"--data {{0}} --threads {torch.get_num_threads()} --out {{0}}/probe.json",
        landmark_pages.main: "--results {0} --page {0}/page.md",
    }.items(),
    ids=lambda each: getattr(each, "__module__", "with"),
)
def test_a_wrong_path_is_told_in_words(main, words, tmp_path, capsys):
    assert main([each.format(tmp_path) for each in words.split()]) == InvalidRequest.exit_code
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == InvalidRequest.code and error["message"]
    assert not list(tmp_path.iterdir())


def test_a_scan_without_parts_to_tell_apart_is_watched_without_their_score(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(watch, "build_model", SharedEncoder)  # random weights do
    array = np.full((40, 40, 40), -1000, np.int16)
    array[:, 8:32, 8:32] = 40
    write_volume(tmp_path / "small.nrrd", Volume(array, np.diag([4.0, 4.0, 4.0, 1.0])))
    assert watch.main([str(tmp_path / "small.nrrd"), "--out", str(tmp_path / "figures")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "ranking" not in told["scores"] and told["scores"]["gap_error_mm"] > 0
    assert len(list((tmp_path / "figures").iterdir())) == len(told["files"]) == 3
