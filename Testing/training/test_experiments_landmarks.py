import json
from pathlib import Path

import numpy as np
import pytest
from oracle import Oracle
from PIL import Image

from ct3d.cards import LandmarkShape, load_card
from ct3d.errors import InvalidRequest
from ct3d.training import experiments_landmarks
from ct3d.training.calibrate_landmarks import Calibration
from ct3d.training.evaluate_landmarks import evaluate
from ct3d.training.experiments_landmarks import missing, outline
from ct3d.training.landmark_pages import fill_page
from ct3d.training.openkbp import LANDMARKS, cases, open_case
from ct3d.training.outlines import ALTERATIONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "landmarks.md"


def test_an_oracle_errs_by_nothing_at_any_share_of_missing_landmarks(a_folder_of_cases):
    found = missing(cases(a_folder_of_cases), Oracle(a_folder_of_cases), seed=0, repeats=2)
    assert 0.9 * 3 * 7 * 2 < found["fields_of_view"] <= 3 * 7 * 2
    assert sum(row["fields_of_view"] for row in found["rows"]) == found["fields_of_view"]
    assert [row["absent_percent"] for row in found["rows"]] == [0, 10, 20, 30, 40, 50, 60]
    absent = np.array([row["absent"] / max(1, row["absent"] + row["present"]) for row in found["rows"]])
    assert absent[0] == 0 and (np.diff(absent) > 0).all()
    for row in found["rows"]:
        assert row["mre_mm"] == 0 and row["f1"] == row["told_f1"] == row["sdr_8_mm"] == 1
        assert row["auroc"] == (1 if row["absent"] else None)


def test_the_same_seed_gives_the_same_fields_of_view_whatever_the_order(a_folder_of_cases):
    paths, find = cases(a_folder_of_cases), Oracle(a_folder_of_cases)
    one = missing(paths, find, seed=4, repeats=1)
    assert missing(paths[::-1], find, seed=4, repeats=1) == one
    assert missing(paths, find, seed=5, repeats=1) != one


def test_a_finder_that_lives_on_the_outline_is_found_out(a_folder_of_cases):
    paths, oracle = cases(a_folder_of_cases), Oracle(a_folder_of_cases)
    released = open_case(paths[0]).known.mean()  # all have the same body

    def lives_on_outline(volume, known):
        answer = oracle(volume, known)
        return answer._replace(points_ras=answer.points_ras + 30.0 * (known.mean() - released))

    rows = {row["alteration"]: row for row in outline(paths, lives_on_outline, seed=0)["rows"]}
    assert rows["as_released"]["mre_mm"] == pytest.approx(0, abs=1e-3)
    assert rows["in_air"]["mre_mm"] > 10
    assert rows["eroded"]["mre_mm"] > 1 and rows["eroded"]["mre_as_released_mm"] < 0.1


def test_an_outline_alone_is_told_apart_by_a_finder_that_sees_anatomy(a_folder_of_cases):
    oracle = Oracle(a_folder_of_cases)

    def sees_anatomy(volume, known):
        answer = oracle(volume, known)
        return answer if np.ptp(volume.array[known]) else answer._replace(told=np.zeros_like(answer.told))

    found = outline(cases(a_folder_of_cases), sees_anatomy, seed=0)
    rows = {row["alteration"]: row for row in found["rows"]}
    assert list(rows) == list(ALTERATIONS)
    assert rows["outline_alone"]["told_present"] == 0
    assert rows["as_released"]["told_present"] == rows["in_tissue"]["told_present"] == 1
    assert found["mean_position_mre_mm"] > 5


def test_the_program_prints_one_json_object(a_folder_of_cases, a_tiny_card, capsys):
    options = ["--data", a_folder_of_cases, "--card", a_tiny_card, "--weights-folder", a_tiny_card.parent]
    assert experiments_landmarks.main([str(each) for each in ["missing", "--repeats", 1, *options]]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["experiment"] == "missing" and found["cases"]["count"] == 3
    assert len(found["rows"]) == 7


@pytest.fixture(scope="module")
def the_results(a_folder_of_cases, tmp_path_factory):
    """A folder of what the programs print, with an oracle in place of a net."""
    folder = tmp_path_factory.mktemp("results")
    paths, find = cases(a_folder_of_cases), Oracle(a_folder_of_cases, off_mm=3.5)
    card = load_card("h3denet_headneck")
    held = {"n": 31, "inside": 28, "share": 0.9032, "wilson95": [0.75, 0.97]}
    count = len(LANDMARKS)
    shape = LandmarkShape("a test", (0.0,) * 2, ((0.0,) * 3,) * count, (((0.0,) * count,) * count,) * 3)
    presence, radius = dict.fromkeys(LANDMARKS, [2.0, -1.0]), dict.fromkeys(LANDMARKS, 5.0)
    radii = Calibration(presence, shape, radius, held, {})
    measured = evaluate(paths, radii.of(card), find, seed=0, crops=2, note=lambda _text: None)
    measured |= {"card_id": card.id, "weights_sha256": "ab" * 32, "calibration": {"left_one_out": held}}
    for name in ("evaluate_h3denet", "evaluate_unet", "calibrate"):
        write(folder / f"{name}.json", measured)
    counts = {"cases": {"count": 3}}
    write(folder / "missing.json", missing(paths, find, seed=0, repeats=1) | counts)
    write(folder / "outline.json", outline(paths, find, seed=0) | counts)
    return folder


def test_the_page_takes_every_table_and_its_figures(the_results, tmp_path):
    page = tmp_path / "landmarks.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    fill_page(page, the_results)
    text = page.read_text(encoding="utf-8")
    assert "Not measured yet" not in text
    assert "| H3DE-Net, shipped: 7500 steps | " in text and " 3.5 | 0.0 |" in text
    assert "| supported, complete cases | 2 |" in text
    assert text.count("| larynx centroid |") == 1
    fill_page(page, the_results)
    assert page.read_text(encoding="utf-8") == text
    for name in ("landmarks_hits.png", "landmarks_missing.png"):
        assert f"images/{name}" in text
        with Image.open(tmp_path / "images" / name) as picture:
            assert picture.width > 800


def test_the_same_numbers_draw_the_same_figure_bit_for_bit(the_results, tmp_path):
    drawn = []
    for name in ("one", "two"):
        page = tmp_path / name / "landmarks.md"
        page.parent.mkdir()
        page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
        fill_page(page, the_results)
        drawn.append((page.parent / "images" / "landmarks_missing.png").read_bytes())
    assert drawn[0] == drawn[1]


def test_a_page_without_the_place_for_a_table_is_refused(the_results, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Nothing here\n", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="0 places named 'models'"):
        fill_page(page, the_results)


def write(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
