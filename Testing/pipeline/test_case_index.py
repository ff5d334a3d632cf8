"""The index of cases on disk: what it refuses, and that a case is there whole or not at all."""

from dataclasses import replace

import numpy as np
import pytest

from ct3d.cards import Weights, load_card
from ct3d.errors import DiskFull, InvalidRequest
from ct3d.pipeline.case_index import Entry, entries, entry_of, keep, key_of, refuse_others, start_index
from ct3d.protocol.tasks import ArrayRef, VolumeRef

GRID = tuple(tuple(float(x) for x in row) for row in np.eye(4))


@pytest.fixture
def a_card():
    return replace(load_card("hsenet_clip_stage1"), weights=Weights("a.safetensors", "a" * 64))


@pytest.fixture
def an_index(a_card, tmp_path):
    folder = tmp_path / "new" / "index"
    start_index(folder, a_card)
    return folder


def test_a_case_is_read_as_it_was_kept_and_replaced_by_its_key(an_index):
    entry = Entry("/cts/ä.nii.gz", "Kein Erguß.", np.arange(3, dtype=np.float32), np.ones(3, np.float32))
    keep(an_index, "k", replace(entry, text="", text_vector=None))
    keep(an_index, "k", entry)
    (found,) = entries(an_index)
    assert (found.source, found.text) == (entry.source, entry.text)
    np.testing.assert_array_equal(found.volume, entry.volume)
    np.testing.assert_array_equal(found.text_vector, entry.text_vector)
    assert entry_of(an_index, "other") is None


def test_a_half_written_case_is_none(an_index):
    (an_index / "cases" / "k.safetensors.part").write_bytes(b"half")
    assert entry_of(an_index, "k") is None
    with pytest.raises(InvalidRequest, match="is empty"):
        entries(an_index)
    keep(an_index, "k", Entry("a", "", np.ones(2, np.float32)))
    assert [path.name for path in (an_index / "cases").iterdir()] == ["k.safetensors"]


def test_other_weights_another_card_or_recipe_are_refused_by_what_differs(an_index, a_card):
    refuse_others(an_index, a_card)
    others = {
        "weights_sha256": replace(a_card, weights=Weights("a.safetensors", "b" * 64)),
        "card": replace(a_card, id="another"),
        "recipe": replace(a_card, input=replace(a_card.input, recipe="compat")),
    }
    for what, card in others.items():
        with pytest.raises(InvalidRequest, match=f"made with {what} .* Use --card hsenet_clip_stage1"):
            refuse_others(an_index, card)


def test_a_folder_of_other_files_a_damaged_head_and_a_file_in_the_way_are_refused(a_card, an_index, tmp_path):
    refuse_others(tmp_path / "nothing", a_card)
    with pytest.raises(InvalidRequest, match="other files"):
        refuse_others(tmp_path, a_card)
    (an_index / "index.json").write_text("{")
    with pytest.raises(InvalidRequest, match="damaged"):
        refuse_others(an_index, a_card)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskFull):
        start_index(tmp_path / "file", a_card)


def test_a_case_is_known_by_its_voxels_and_its_grid():
    volume = VolumeRef(ArrayRef("a" * 64, (1, 1, 1), "<i2"), GRID)
    moved = replace(volume, ijk_to_ras=((2.0, 0.0, 0.0, 0.0), *GRID[1:]))
    assert len({key_of(volume), key_of(moved), key_of(replace(volume))}) == 2
