"""Free text of a model that reads the scan: split, sorted into sections, judged; stopped between words."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pace import assert_within, timed
from pipeline.hsenet_home import SAID, make_home

from ct3d.cards import load_card
from ct3d.case import Case, Scope
from ct3d.errors import InvalidRequest, TaskCancelled
from ct3d.imaging.exchange import store_volume
from ct3d.imaging.volume import Volume, ras_from_ijk
from ct3d.pipeline.ct_rate import see
from ct3d.pipeline.hsenet_sight import part_of, seen_of
from ct3d.pipeline.job import LocalJob
from ct3d.pipeline.read_scan import asked, judged_sentences, section_of
from ct3d.pipeline.report import run
from ct3d.protocol.tasks import ReportParams, Turn

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "case_made_up.json"


@pytest.fixture(scope="module")
def a_home(tmp_path_factory):
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def a_case():
    return Case.from_json(GOLDEN.read_text(encoding="utf-8"))


@pytest.fixture
def a_scan():
    array = np.full((24, 40, 44), -1000, np.int16)
    array[2:22, 5:35, 4:40] = np.random.default_rng(0).integers(-900, 100, (20, 30, 36))
    return Volume(array, np.diag([-2.0, 2.0, 3.0, 1.0]))


def test_a_free_text_becomes_judged_sentences_under_the_headings_and_organs_it_names(a_case):
    text = "Findings: The right lung has a volume of 2340 mL.\nThe left lung is not there. Ribs are normal."
    text += " A second view was taken.\nImpression: Emphysema of 3.5 cm. "
    found = judged_sentences(text, a_case)
    assert [(each.section, each.support) for each in found] == [
        ("lungs", "supported"),
        ("lungs", "contradicted"),
        ("bones", "unsupported"),
        ("bones", "unsupported"),  # names nothing: stands with the one before
        ("impression", found[-1].support),
    ]
    assert found[-1].text == "Emphysema of 3.5 cm." and found[-1].support != "supported"
    assert all(each.origin == "model" and each.floor == "" for each in found)
    assert found[1].reasons and "region/left_lung" in found[1].evidence
    assert judged_sentences(" \n ", a_case) == ()


def test_every_name_in_the_sections_is_one_of_the_vocabulary():
    from ct3d.pipeline.read_scan import prompts
    from ct3d.pipeline.words import vocabulary

    known = {value for kind, value in vocabulary().values() if kind in ("organ", "finding", "landmark")}
    assert {name for names in prompts()["sections"].values() for name in names} <= known
    assert section_of("The heart and the lung are large.") == "heart_great_vessels"
    assert section_of("Hello.") == ""


def test_a_question_stands_behind_the_latest_turns():
    turns = tuple(Turn(f"q{n} ?", f"a{n}") for n in range(5))
    assert asked("and ?", turns) == "q2 ? a2 q3 ? a3 q4 ? a4 and ?"
    assert asked("what ?", ()) == "what ?"


def test_a_stop_is_heeded_before_the_next_word(a_home, a_case, a_scan, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(a_home))
    ref = store_volume(a_scan, tmp_path)
    params = ReportParams(
        replace(a_case, input=replace(a_case.input, sha256="")), "hsenet_ct_rate", volume=ref
    )

    class Stopping(LocalJob):
        def on_text(self, piece):
            super().on_text(piece)
            self.cancelled = len(self.text.split()) == 3

    job = Stopping(tmp_path)
    with pytest.raises(TaskCancelled):
        run(params, job)
    assert SAID.startswith(job.text) and len(job.text.split()) == 3


@timed
def test_a_stop_is_heeded_while_a_large_scan_is_prepared(tmp_path):
    array = np.random.default_rng(0).integers(-1000, 200, (120, 256, 256), np.int16)
    ref = store_volume(Volume(array, np.diag([0.7, 0.7, 2.5, 1.0])), tmp_path)

    class Stopping(LocalJob):
        def on_progress(self, *_):
            self.cancelled = True

    job, began = Stopping(tmp_path), time.monotonic()
    with pytest.raises(TaskCancelled):
        seen_of(ref, load_card("hsenet_clip_stage1"), job)
    assert job.stages and job.stages[0][0] == "prepare the scan"
    assert_within(time.monotonic() - began, 0.5, "stopping")


@pytest.mark.parametrize("recipe", ["clean", "compat"])
def test_the_way_to_ras_leads_back_to_the_voxel_that_is_seen(recipe, a_scan):
    array = np.full_like(a_scan.array, -1000)
    array[2:22, 5:35, 4:40] = -800
    array[14:17, 20:23, 10:13] = 200
    seen = see(Volume(array, a_scan.ijk_to_ras), "a_card", recipe, (20, 32, 32))
    bright = np.argwhere(seen.volume > 0.9).mean(axis=0)
    ras = ras_from_ijk(bright[None], seen.zxy_to_ras)[0]
    assert np.allclose(ras, (-2.0 * 11, 2.0 * 21, 3.0 * 15), atol=1.0)


def test_a_box_holds_the_voxels_it_touches_and_nothing_elsewhere(a_case, a_scan, tmp_path):
    seen = see(a_scan, "a_card", shape=(10, 30, 36))
    box = Scope("box", "", (-40.0, -36.0, 20.0, 24.0, 30.0, 31.0))
    part = part_of(box, a_case, (), seen, LocalJob(tmp_path))
    ras = ras_from_ijk(np.argwhere(part), seen.zxy_to_ras)
    reach = np.abs(seen.zxy_to_ras[:3, :3]).sum(axis=1)
    assert (np.abs(ras - (-38.0, 22.0, 30.5)) <= reach / 2 + (2.0, 2.0, 0.5)).all()
    assert 4 <= part.sum() <= 24
    assert part_of(Scope(), a_case, (), seen, LocalJob(tmp_path)) is None
    with pytest.raises(InvalidRequest, match="Choose another"):
        part_of(Scope("slices", "", (500.0, 510.0)), a_case, (), seen, LocalJob(tmp_path))
