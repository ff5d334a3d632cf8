import hashlib
import json
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
from oracle import Oracle

from ct3d.cards import load_card
from ct3d.training import evaluate_landmarks
from ct3d.training.evaluate_landmarks import evaluate
from ct3d.training.openkbp import LANDMARKS, cases, open_case
from ct3d.training.scores import Scores, middle


@pytest.fixture
def the_card():
    return load_card("h3denet_headneck")


def measured(folder, card, find, **options):
    options = {"seed": 3, "crops": 5, "note": lambda _text: None} | options
    return evaluate(cases(folder), card, find, **options)


def run(words, capsys):
    code = evaluate_landmarks.main([str(word) for word in words])
    return code, json.loads(capsys.readouterr().out)


def test_an_oracle_errs_by_nothing_and_tells_every_absence(a_folder_of_cases, the_card):
    found = measured(a_folder_of_cases, the_card, Oracle(a_folder_of_cases))
    everything = found["errors"]["all"]["pooled"]
    assert everything["n"] == 3 * 11 - 2
    assert everything["mre_mm"] == everything["sd_mm"] == 0
    assert everything["sdr"]["2"]["share"] == 1
    presence = found["presence"]
    assert presence["fields_of_view"] == 15
    assert presence["pooled"]["counts"]["true_absent"] > 10
    for kind in ("pooled", "clear", "told"):
        assert presence[kind]["f1"] == presence[kind]["f1_of_absence"] == 1
    assert presence["pooled"]["auroc"] == presence["clear"]["auroc"] == 1


def test_a_shift_of_five_mm_is_an_error_of_five_mm(a_folder_of_cases, the_card):
    found = measured(a_folder_of_cases, the_card, Oracle(a_folder_of_cases, off_mm=5.0))
    for subset in ("supported", "all"):
        pooled = found["errors"][subset]["pooled"]
        assert pooled["mre_mm"] == pytest.approx(5.0)
        assert pooled["sdr"]["4"]["share"] == 0 and pooled["sdr"]["6"]["share"] == 1


def test_errors_of_what_a_person_is_told_leave_out_what_they_are_not(a_folder_of_cases, the_card):
    oracle = Oracle(a_folder_of_cases)

    def overlooks_one(volume, known):
        answer = oracle(volume, known)
        answer.points_ras[3] += (0, 0, 11.0)
        answer.told[3] = False
        return answer

    errors = measured(a_folder_of_cases, the_card, overlooks_one, crops=0)["errors"]
    assert errors["supported"]["pooled"]["mre_mm"] > 0 == errors["told"]["pooled"]["mre_mm"]
    assert errors["supported"]["pooled"]["n"] == errors["told"]["pooled"]["n"] + 3


def test_each_case_stands_with_its_worst_landmark(a_folder_of_cases, the_card):
    oracle = Oracle(a_folder_of_cases)

    def misses_one(volume, known):
        answer = oracle(volume, known)
        answer.points_ras[3] += (0, 0, 11.0)
        return answer

    rows = measured(a_folder_of_cases, the_card, misses_one, crops=0)["by_case"]
    assert list(rows) == ["pt_1", "pt_2", "pt_3"]
    for row in rows.values():
        assert row["worst"] == LANDMARKS[3] and row["worst_mm"] == 11
        assert row["mre_mm"] == pytest.approx(11 / row["supported"], abs=0.01)


def test_subsets_share_out_the_known_landmarks(a_folder_of_cases, the_card):
    found = measured(a_folder_of_cases, the_card, Oracle(a_folder_of_cases))["errors"]
    count = {name: each["pooled"]["n"] for name, each in found.items()}
    assert count["supported"] + count["not_supported"] == count["all"]
    by_case = {name: found["all"][name] for name in ("complete", "incomplete", "pooled")}
    assert [each["volumes"] for each in by_case.values()] == [2, 1, 3]
    assert [each["n"] for each in by_case.values()] == [22, 9, 31]
    assert found["all"]["landmarks"]["larynx_centroid"]["n"] == 2


def test_the_mean_position_is_that_of_the_training_cases_where_the_card_knows_it(a_folder_of_cases, the_card):
    case = open_case(cases(a_folder_of_cases)[0])
    offsets = (case.landmarks_ras - middle(case.volume) + (0, 7.0, 0)).tolist()
    card = replace(the_card, measured={"mean_position_mm": dict(zip(LANDMARKS, offsets))})
    find = Oracle(a_folder_of_cases)
    found = evaluate([case_path(a_folder_of_cases, 1)], card, find, seed=0, crops=0, note=lambda _text: None)
    assert found["mean_position"]["learnt_on"] == "training cases"
    assert found["mean_position"]["all"]["mre_mm"] == pytest.approx(7.0, abs=1e-3)
    bare = replace(the_card, measured={})
    assert measured(a_folder_of_cases, bare, find)["mean_position"]["learnt_on"] == "these cases"


def test_radii_of_the_card_are_held_against_the_errors(a_folder_of_cases, the_card):
    radii = [4.0 if n < 5 else 6.0 for n in range(11)]
    card = replace(
        the_card, landmarks=tuple(replace(s, radius_mm=r) for s, r in zip(the_card.landmarks, radii))
    )
    found = measured(a_folder_of_cases, card, Oracle(a_folder_of_cases, off_mm=5.0))["errors"]["all"][
        "radius"
    ]
    assert found["n"] == 31 and found["inside"] == 31 - 15
    low, high = found["wilson95"]
    assert low < 16 / 31 < high


def test_a_seed_gives_the_same_numbers_again_and_another_other_fields_of_view(a_folder_of_cases, the_card):
    find = Oracle(a_folder_of_cases)
    one, same, third = (measured(a_folder_of_cases, the_card, find, seed=seed) for seed in (1, 1, 2))
    for found in (one, same, third):
        found.pop("seconds_per_case")
    assert one == same
    assert one["presence"]["absent_share"] != third["presence"]["absent_share"]


def test_the_product_path_gives_one_json_object(a_folder_of_cases, a_tiny_card, capsys):
    words = ["--data", a_folder_of_cases, "--card", a_tiny_card, "--weights-folder", a_tiny_card.parent]
    code, found = run([*words, "--crops", 1, "--seed", 5], capsys)
    assert code == 0
    weights = (a_tiny_card.parent / "tiny.safetensors").read_bytes()
    assert found["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert found["card_id"] == "h3denet_headneck" and found["recipe"] is None
    assert found["cases"]["names"] == ["pt_1", "pt_2", "pt_3"]
    assert found["presence"]["seed"] == 5 and found["presence"]["fields_of_view"] == 3
    assert found["errors"]["supported"]["pooled"]["mre_mm"] > 0
    assert set(found["errors"]["all"]["landmarks"]) == set(LANDMARKS)


def test_the_fingerprint_of_the_cases_knows_names_and_contents(a_folder_of_cases, tmp_path):
    folder = shutil.copytree(a_folder_of_cases, tmp_path / "copy")
    before = evaluate_landmarks.fingerprint(cases(folder))
    assert before == evaluate_landmarks.fingerprint(cases(a_folder_of_cases)[::-1])
    (folder / "pt_1.npz").rename(folder / "pt_9.npz")
    assert evaluate_landmarks.fingerprint(cases(folder)) != before


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "nowhere", "no .npz case"),
        (lambda folder: folder, "no .npz case"),
        (lambda folder: with_arrays(folder, image=np.zeros(3)), "no OpenKBP case"),
        (lambda folder: with_arrays(folder, ct=np.zeros((4, 4)), spacing=np.ones(3)), "no OpenKBP case"),
        (lambda folder: with_bytes(folder, b"PK\x03\x04 torn"), "can't be read"),
        (lambda folder: with_bytes(folder, b"no archive at all"), "can't be read"),
    ],
)
def test_a_folder_that_can_not_be_used_is_refused_in_words(make, words, tmp_path, a_tiny_card, capsys):
    options = ["--card", a_tiny_card, "--weights-folder", a_tiny_card.parent]
    code, found = run(["--data", make(tmp_path), *options], capsys)
    assert code == 2
    assert words in found["error"]["message"]


def test_missing_weights_and_a_card_of_other_landmarks_are_refused(
    a_folder_of_cases, a_tiny_card, tmp_path, capsys
):
    card = shutil.copy(a_tiny_card, tmp_path)
    code, found = run(["--data", a_folder_of_cases, "--card", card], capsys)
    assert code == 3 and "not on this machine" in found["error"]["message"]
    code, found = run(["--data", a_folder_of_cases, "--card", "anatomy_landmarks"], capsys)
    assert code == 2 and "no net of these landmarks" in found["error"]["message"]


def test_rows_of_scores_can_be_taken_apart():
    scores = Scores(*(np.arange(4) + n for n in range(len(fields(Scores)))))
    assert len(scores.of(np.array([True, False, True, False]))) == 2
    assert scores.of(np.array([3])).cases.tolist() == [3]


def case_path(folder, number):
    return folder / f"pt_{number}.npz"


def with_arrays(folder, **arrays):
    np.savez(folder / "pt_1.npz", **arrays)
    return folder


def with_bytes(folder, content):
    (folder / "pt_1.npz").write_bytes(content)
    return folder
