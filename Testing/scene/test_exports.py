"""Files that leave the program."""

import csv
import re
import signal
from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel")

from phantoms import show_all  # noqa: E402
from PIL import Image  # noqa: E402

from ct3d.case import REPORT_REGIONS, RESEARCH_USE, Case  # noqa: E402
from ct3d.errors import DiskFull, InvalidRequest  # noqa: E402
from CT3DAssistantLib.exports.attributes import write_attributes  # noqa: E402
from CT3DAssistantLib.exports.bundle import export_case, make_folder  # noqa: E402
from CT3DAssistantLib.exports.figures import make_figures  # noqa: E402
from CT3DAssistantLib.exports.files import write_file  # noqa: E402
from CT3DAssistantLib.exports.html import report_html  # noqa: E402
from CT3DAssistantLib.exports.paper import footer_text, paper_html  # noqa: E402
from CT3DAssistantLib.exports.reviewed import exporting_page  # noqa: E402
from CT3DAssistantLib.pictures3d import NO_GL, picture_3d  # noqa: E402
from CT3DAssistantLib.review import (  # noqa: E402
    add_sentence,
    edit_sentence,
    is_open,
    keep_sentence,
    mark_reviewed,
    remove_sentence,
    sign,
)
from CT3DAssistantLib.scene import add_volume, save_case  # noqa: E402

FILES = {
    "case.json",
    "attributes.csv",
    "landmarks.mrk.json",
    "regions.seg.nrrd",
    "axial.png",
    "coronal.png",
    "sagittal.png",
    "report.html",
    "case.mrb",
}


@pytest.fixture(scope="module")
def a_page(a_phantom) -> str:
    figures = make_figures(a_phantom.case, a_phantom.volume, a_phantom.layers)
    return report_html(a_phantom.case, figures, notes=("No 3D picture: <none>.",))


def test_a_folder_gets_every_file_and_the_case_comes_back_equal(a_session, a_phantom, tmp_path):
    node = show_all(a_session.scene, a_phantom)
    exported = export_case(a_session.scene, node, tmp_path / "out put", with_3d=False)
    assert (
        {path.name for path in exported.files} == FILES == {p.name for p in (tmp_path / "out put").iterdir()}
    )
    assert Case.from_json((tmp_path / "out put" / "case.json").read_text(encoding="utf-8")) == a_phantom.case


def test_a_volume_without_a_case_exports_nothing(a_session, a_phantom, tmp_path):
    with pytest.raises(InvalidRequest, match="Analyse"):
        export_case(a_session.scene, add_volume(a_session.scene, a_phantom.volume), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file_is_said_and_the_file_stays(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(DiskFull, match="taken"):
        make_folder(tmp_path / "taken")
    with pytest.raises(DiskFull):
        write_file(tmp_path / "taken" / "case.json", "{}")
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_file_that_can_not_be_replaced_leaves_no_half_file(tmp_path):
    (tmp_path / "case.json").mkdir()
    with pytest.raises(DiskFull):
        write_file(tmp_path / "case.json", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["case.json"]


def test_measurements_keep_every_digit(a_phantom, tmp_path):
    with write_attributes(tmp_path / "a.csv", a_phantom.case).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["value"]) == a_phantom.case.attributes[0].value
    assert rows[0]["unit"] == "mL"
    assert (rows[2]["value"], rows[2]["words"]) == ("", "left lower zone")


def test_the_page_asks_nothing_of_the_network(a_page):
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:|#)[^"'\s)>]+""", a_page)
    assert "http" not in a_page.replace("http-equiv", "")
    assert "@import" not in a_page


def test_every_link_of_the_page_leads_to_something_on_it(a_page):
    ids = set(re.findall(r'id="([^"]+)"', a_page))
    targets = set(re.findall(r'href="#([^"]+)"', a_page))
    assert targets <= ids
    assert any(each.startswith("place-") for each in targets)


def test_evidence_opens_the_picture_of_its_own_place(a_phantom, a_page):
    (figure,) = re.findall(r'<a class="chip" data-figure href="#([^"]+)">longest axial diameter', a_page)[:1]
    assert re.search(rf'<figure id="{figure}".*?<figcaption>nodule 1</figcaption>', a_page)


def test_the_page_says_its_limits_above_and_below(a_page):
    assert a_page.count(RESEARCH_USE) >= 2
    assert a_page.index(RESEARCH_USE) < a_page.index("<h1>")


def test_all_six_sections_are_there_even_when_nothing_was_written(a_page):
    for title in REPORT_REGIONS.values():
        assert f"<h3>{title}</h3>" in a_page


def test_support_is_said_in_words_beside_the_color(a_page):
    assert re.search(r'class="sentence supported">.*?<span class="word">supported</span>', a_page)
    assert re.search(r'class="sentence unsupported">.*?<span class="word">unsupported</span>', a_page)


def test_what_a_model_wrote_can_not_become_markup(a_page):
    assert "No &lt;b&gt;airways&lt;/b&gt; were found." in a_page
    assert "<b>airways" not in a_page
    assert "&lt;none&gt;" in a_page


def test_a_chip_names_the_region_only_where_no_other_chip_does(a_page):
    assert ">longest axial diameter 6.4 mm</a>" in a_page
    assert ">nodule 1: longest axial diameter" not in a_page


def test_missing_landmarks_and_unassessed_findings_are_listed(a_page):
    assert "Not found" in a_page
    assert "Outside the field of view" in a_page
    assert "Not assessed" in a_page


def test_an_empty_case_still_makes_a_page(a_phantom):
    case = Case(a_phantom.case.input)
    page = report_html(case, make_figures(case, a_phantom.volume, {}))
    assert "Key pictures" in page
    assert "Provenance" not in page


def test_a_3d_picture_shows_the_parts_but_never_the_bodys_surface(a_phantom, tmp_path):
    note = picture_3d(a_phantom.case, a_phantom.layers, tmp_path / "3d.png")
    if note:
        assert note == NO_GL
        pytest.skip(note)
    with_lesion = np.asarray(Image.open(tmp_path / "3d.png").convert("RGB")).astype(int)
    green = with_lesion[..., 1] - with_lesion[..., [0, 2]].max(axis=2)
    assert (green > 25).sum() > 100  # the lesion
    only_body = replace(a_phantom.case, regions=a_phantom.case.regions[:1], landmarks=())
    assert picture_3d(only_body, a_phantom.layers, tmp_path / "body.png") is None
    empty = np.asarray(Image.open(tmp_path / "body.png").convert("RGB")).astype(int)[:500, :500]
    assert np.ptp(empty.reshape(-1, 3), axis=0).max() < 6


def test_drawing_that_the_system_ended_is_not_blamed_on_the_graphics_library(a_phantom, tmp_path):
    ends = tmp_path / "python"
    ends.write_text("#!/bin/sh\nkill -9 $$\n")
    ends.chmod(0o755)
    assert "memory" in picture_3d(a_phantom.case, a_phantom.layers, tmp_path / "3d.png", python=str(ends))


def test_drawing_that_breaks_says_its_last_words(a_phantom, tmp_path):
    breaks = tmp_path / "python"
    breaks.write_text("#!/bin/sh\necho ValueError: no such colour >&2\nexit 1\n")
    breaks.chmod(0o755)
    note = picture_3d(a_phantom.case, a_phantom.layers, tmp_path / "3d.png", python=str(breaks))
    assert note == "No 3D picture: ValueError: no such colour. All else is complete."


def test_a_graphics_library_that_crashes_costs_the_3d_picture_and_nothing_else(a_phantom, tmp_path):
    crashes = tmp_path / "python"
    crashes.write_text(f"#!/bin/sh\nkill -{signal.SIGSEGV.value} $$\n")
    crashes.chmod(0o755)
    note = picture_3d(a_phantom.case, a_phantom.layers, tmp_path / "3d.png", python=str(crashes))
    assert note == NO_GL
    assert "libegl1" in note
    assert not (tmp_path / "3d.png").exists()


# what a person made of the report


@pytest.fixture(scope="module")
def no_figures(a_phantom):
    return make_figures(Case(a_phantom.case.input), a_phantom.volume, {})


def reviewed_by_a_person(case):
    case = edit_sentence(case, "s1", "A nodule of 6.4 mm lies in the <left> lung.")
    case = remove_sentence(case, "s2")
    case = add_sentence(case, "bones", "No fracture.")
    for each in case.sentences:
        case = keep_sentence(case, each.id) if is_open(each) else case
    return case


def test_a_page_that_nobody_has_reviewed_is_watermarked(a_phantom, no_figures):
    page = report_html(a_phantom.case, no_figures)
    assert '<div class="watermark" aria-hidden="true">AI draft, not reviewed</div>' in page
    assert '<p class="review draft" role="status">AI draft, not reviewed.</p>' in page
    assert "What people did" not in page


def test_a_page_shows_what_was_changed_struck_and_added(a_phantom, no_figures):
    page = report_html(reviewed_by_a_person(a_phantom.case), no_figures)
    assert '<div class="watermark"' in page
    assert "A nodule of 6.4 mm lies in the &lt;left&gt; lung." in page
    assert "<del> left lower zone.</del><ins> &lt;left&gt; lung.</ins>" in page
    assert "<del>No &lt;b&gt;airways&lt;/b&gt; were found.</del>" in page
    assert '<span class="word">removed</span>' in page
    assert "written by a person" in page
    record = page[page.index('<section id="record">') :]
    for verb in ("edit", "remove", "add", "keep"):
        assert f"<td>{verb}</td>" in record


def test_a_signed_page_carries_name_time_and_hash_and_no_watermark(a_phantom, no_figures):
    case = sign(mark_reviewed(reviewed_by_a_person(a_phantom.case)), "A. <Reader>")
    page = report_html(case, no_figures)
    assert '<div class="watermark"' not in page
    assert "<h2>Signed report</h2>" in page
    assert f"Signed by A. &lt;Reader&gt;, {case.signature.signed_utc[:10]}" in page
    assert case.signature.sha256 in page
    assert RESEARCH_USE in page
    forged = replace(case, findings=())
    assert "the signature does not hold" in report_html(forged, no_figures)


def test_the_paper_says_the_same_as_the_page(a_phantom):
    case = reviewed_by_a_person(a_phantom.case)
    paper = paper_html(case, {"axial": "data:image/png;base64,AAAA"})
    assert paper.index(RESEARCH_USE) < paper.index("draft report, edited")
    assert "AI draft with a person&#x27;s changes, not reviewed." in paper
    assert "A nodule of 6.4 mm lies in the &lt;left&gt; lung." in paper
    assert re.search(r"<s [^>]*> left lower zone\.</s><u [^>]*> &lt;left&gt; lung\.</u>", paper)
    assert "<s>No &lt;b&gt;airways&lt;/b&gt; were found.</s>" in paper
    assert "<b>" not in re.sub(r"</?(b|p|span|u|s|table|tr|td|br|img|html|body)\b[^>]*>", "", paper)
    assert "Lung nodule: ● Present" in paper.replace("lung nodule", "Lung nodule")
    assert case.input.sha256 in paper
    assert footer_text(case) == f"AI draft, not reviewed. {RESEARCH_USE}"
    signed = sign(mark_reviewed(case), "A. Reader")
    assert footer_text(signed) == RESEARCH_USE
    assert "signed report" in paper_html(signed, {}) and signed.signature.sha256 in paper_html(signed, {})


def test_a_page_is_drawn_in_bites_and_named_by_the_scan_not_by_the_node(a_session, a_phantom, tmp_path):
    node = show_all(a_session.scene, a_phantom)
    node.SetName("Doe^Jane 1950")
    steps, shares = exporting_page(a_session.scene, node, tmp_path), []
    try:
        while True:
            shares.append(next(steps))
    except StopIteration as end:
        path = end.value
    shares = [each for each in shares if each is not None]
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) > 3
    assert path == tmp_path / f"report-{a_phantom.case.input.sha256[:8]}.html"
    page = path.read_text(encoding="utf-8")
    assert "Doe" not in page
    assert "No 3D picture" in page


def test_an_edit_while_pictures_are_drawn_reaches_the_page(a_session, a_phantom, tmp_path):
    node = show_all(a_session.scene, a_phantom)
    steps = exporting_page(a_session.scene, node, tmp_path)
    next(steps)
    save_case(a_session.scene, node, edit_sentence(a_phantom.case, "s1", "Changed meanwhile."))
    path = run_to_end(steps)
    assert "Changed meanwhile." in path.read_text(encoding="utf-8")


def run_to_end(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_a_stopped_page_leaves_no_file(a_session, a_phantom, tmp_path):
    node = show_all(a_session.scene, a_phantom)
    steps = exporting_page(a_session.scene, node, tmp_path)
    for _ in range(5):
        next(steps)
    steps.close()
    assert not list(tmp_path.iterdir())


def test_a_page_of_a_volume_without_a_case_is_refused(a_session, a_phantom, tmp_path):
    with pytest.raises(InvalidRequest, match="Analyse"):
        run_to_end(exporting_page(a_session.scene, add_volume(a_session.scene, a_phantom.volume), tmp_path))
