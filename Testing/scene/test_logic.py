"""The verbs of the assistant: chains of tasks over a client, and the whole analysis over a real worker."""

from collections import deque
from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel")

from phantoms import show_all  # noqa: E402

from ct3d.case import (  # noqa: E402
    Answer,
    AxisCheck,
    Case,
    ExpectedPlace,
    Flag,
    ScanCheck,
    Scope,
    Sentence,
    Step,
)
from ct3d.client.client import Client  # noqa: E402
from ct3d.client.session_folder import SessionFolder  # noqa: E402
from ct3d.errors import InvalidRequest, OutOfMemory, TaskCancelled, TaskFailed, WorkerLost  # noqa: E402
from ct3d.imaging.exchange import store_array  # noqa: E402
from ct3d.imaging.files import read_volume  # noqa: E402
from ct3d.imaging.volume import Volume  # noqa: E402
from ct3d.protocol.messages import Progress  # noqa: E402
from ct3d.protocol.tasks import (  # noqa: E402
    AnswerResult,
    CheckResult,
    EstimateResult,
    FindingsResult,
    LandmarkResult,
    LocateResult,
    MaskLayer,
    MeasureResult,
    ReportResult,
    SegmentResult,
)
from CT3DAssistantLib.archive import ARCHIVE  # noqa: E402
from CT3DAssistantLib.environment import PACKAGE_FOLDER, worker_command  # noqa: E402
from CT3DAssistantLib.logic import AssistantLogic  # noqa: E402
from CT3DAssistantLib.overview import range_words  # noqa: E402
from CT3DAssistantLib.ownership import node_of, nodes_of_class  # noqa: E402
from CT3DAssistantLib.profiles import profile_of  # noqa: E402
from CT3DAssistantLib.review import (  # noqa: E402
    edit_sentence,
    mark_reviewed,
    remove_sentence,
    sign,
    signature_holds,
)
from CT3DAssistantLib.scene import add_volume, case_of, layers_of, save_case  # noqa: E402


class ScriptedJob:
    """A job whose outcome the test chose; done in a later poll, as a client's."""

    def __init__(self, outcome):
        self.done, self.error, self._outcome, self._callbacks = False, None, outcome, []

    def add_done_callback(self, callback):
        self._callbacks.append(callback)

    def result(self):
        return self._outcome

    def cancel(self):
        self._outcome = TaskCancelled("Stopped.")

    def finish(self):
        self.done = True
        self.error = self._outcome if isinstance(self._outcome, Exception) else None
        for callback in self._callbacks:
            callback(self)


class ScriptedClient:
    """Answers each task as scripted, one per poll: for what no healthy worker shows."""

    def __init__(self, outcomes):
        self.outcomes, self.asked, self.waiting, self.deliveries = outcomes, [], deque(), deque()

    def submit(self, task, params, on_progress=None, _on_text=None):
        self.asked.append((task, params))
        if on_progress:
            on_progress(Progress(job=1, stage="half", fraction=0.5))
        self.waiting.append(ScriptedJob(self.outcomes[task]))
        return self.waiting[-1]

    def deliver(self, callback, *args):
        self.deliveries.append((callback, args))

    def poll(self):
        if self.deliveries:
            callback, args = self.deliveries.popleft()
            callback(*args)
        elif self.waiting:
            self.waiting.popleft().finish()

    def wait(self, job):
        while not job.done:
            self.poll()
        return job.result()


def step(task: str) -> Step:
    return Step(task, "a_card", "", "", "cpu", "float32", 1.0)


@pytest.fixture
def outcomes(a_phantom, tmp_path):
    case = a_phantom.case
    stored = {name: store_array(layer, tmp_path) for name, layer in a_phantom.layers.items()}
    layers = tuple(MaskLayer(name, array) for name, array in stored.items())
    return {
        "estimate": EstimateResult(900.0, 20.0, 8000.0, "cpu", True),
        "segment": SegmentResult(layers, case.regions, case.saw[0], step("segment")),
        "landmarks": LandmarkResult(case.landmarks, step("landmarks")),
        "measure": MeasureResult(case.attributes, step("measure")),
        "findings": FindingsResult(case.findings, step("findings")),
        "report": ReportResult(case.sentences, step("report")),
        "check": CheckResult((), step("check")),
        "answer": AnswerResult(Answer("x", "Where?", "Left.", (), "supported", "measured"), step("answer")),
    }


@pytest.fixture
def a_logic(a_session, outcomes, tmp_path):
    return AssistantLogic(a_session.scene, ScriptedClient(outcomes), tmp_path)


@pytest.fixture
def a_node(a_session, a_phantom):
    return add_volume(a_session.scene, a_phantom.volume, notes=("Sorted by position.",))


def test_an_analysis_brings_every_result_into_case_and_scene(a_logic, a_node, a_session, a_phantom):
    case = a_logic.client.wait(a_logic.analyze(a_node))
    assert case == case_of(a_session.scene, a_node)
    assert case.landmarks == tuple(replace(each, card="a_card") for each in a_phantom.case.landmarks)
    for part in ("regions", "attributes", "findings", "sentences", "saw"):
        assert getattr(case, part) == getattr(a_phantom.case, part), part
    assert [each.task for each in case.provenance] == [
        "segment",
        "landmarks",
        "measure",
        "findings",
        "report",
    ]
    assert case.input.notes[0] == "Sorted by position."
    assert np.array_equal(layers_of(a_session.scene, a_node)["organs"], a_phantom.layers["organs"])
    assert node_of(a_session.scene, a_node, "landmarks").GetNumberOfControlPoints() == 3
    assert "6.4 mm" in node_of(a_session.scene, a_node, "report").GetText()


def test_a_net_places_landmarks_without_an_analysis_before_it(a_logic, a_node, a_session):
    a_logic.profile = profile_of("headneck")
    case = a_logic.client.wait(a_logic.find_landmarks(a_node))
    ((task, asked),) = a_logic.client.asked
    assert task == "landmarks" and asked.card == "h3denet_headneck"
    assert asked.layers == () and asked.regions == ()
    assert case == case_of(a_session.scene, a_node) and len(case.landmarks) == 3 and not case.regions
    assert case.input.sha256 == asked.volume.array.sha256
    assert node_of(a_session.scene, a_node, "landmarks").GetNumberOfControlPoints() == 3


def test_rules_on_masks_place_no_landmarks_before_there_are_masks(a_logic, a_node):
    with pytest.raises(InvalidRequest, match="no analysis of this volume yet"):
        a_logic.find_landmarks(a_node)


def test_what_a_net_saw_is_kept_once_per_card(a_logic, a_node, a_phantom, outcomes):
    a_logic.client.wait(a_logic.analyze(a_node))
    saw = replace(a_phantom.case.saw[0], card="a_card")
    outcomes["landmarks"] = replace(outcomes["landmarks"], saw=saw)
    for _ in range(2):
        case = a_logic.client.wait(a_logic.find_landmarks(a_node))
    assert [each.card for each in case.saw] == ["anatomy_rules", "a_card"]


def test_the_name_of_a_node_does_not_reach_the_case(a_logic, a_node):
    a_node.SetName("Doe^Jane 1950")
    assert "Doe" not in a_logic.client.wait(a_logic.analyze(a_node)).to_json()


def test_progress_rises_over_the_whole_chain_from_0_to_1(a_logic, a_node):
    seen = []
    a_logic.client.wait(a_logic.analyze(a_node, on_progress=seen.append))
    fractions = [each.fraction for each in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert 0.85 < fractions[-1] <= 1.0
    assert seen[3].stage == "Finding regions: half"


@pytest.mark.parametrize("task", ["landmarks", "measure", "findings", "report"])
def test_what_was_found_stays_when_a_later_task_fails(task, a_logic, a_node, outcomes, a_session):
    outcomes[task] = WorkerLost("The worker ended with code 7. Try again.")
    chain = a_logic.analyze(a_node)
    case = a_logic.client.wait(chain)
    assert case.regions
    assert chain.errors == {task: outcomes[task]}
    (flag,) = case.flags
    assert (flag.id, flag.severity) == (f"{task}_failed", "error")
    assert "code 7" in flag.text
    assert case_of(a_session.scene, a_node) == case
    asked = [name for name, _ in a_logic.client.asked]
    assert asked[-1] == "report"  # the others went on


def test_the_note_of_a_failure_goes_when_the_task_works_again(a_logic, a_node, outcomes, a_phantom):
    working, outcomes["report"] = outcomes["report"], TaskFailed("Broken.")
    a_logic.client.wait(a_logic.analyze(a_node))
    outcomes["report"] = working
    case = a_logic.client.wait(a_logic.draft_report(a_node))
    assert case.flags == ()
    assert case.sentences == a_phantom.case.sentences


def test_nothing_follows_where_no_regions_were_found(a_logic, a_node, outcomes):
    outcomes["segment"] = TaskFailed("Broken.")
    chain = a_logic.analyze(a_node)
    with pytest.raises(TaskFailed, match="Broken"):
        a_logic.client.wait(chain)
    assert [name for name, _ in a_logic.client.asked] == ["estimate", "segment"]


def test_a_volume_too_big_for_the_machine_is_refused_before_work_begins(a_logic, a_node, outcomes):
    outcomes["estimate"] = EstimateResult(90_000.0, 900.0, 8_000.0, "cpu", False)
    with pytest.raises(OutOfMemory, match="90000 MB and 8000 MB"):
        a_logic.client.wait(a_logic.analyze(a_node))
    assert [name for name, _ in a_logic.client.asked] == ["estimate"]


def test_cancel_stops_the_whole_chain_and_keeps_what_was_found(a_logic, a_node, a_session):
    chain = a_logic.analyze(a_node)
    while "measure" not in dict(a_logic.client.asked):
        a_logic.client.poll()
    chain.cancel()
    with pytest.raises(TaskCancelled):
        a_logic.client.wait(chain)
    kept = case_of(a_session.scene, a_node)
    assert kept.regions
    assert kept.landmarks
    assert not kept.attributes
    assert "findings" not in dict(a_logic.client.asked)


def test_a_callback_hears_of_the_end_once_and_also_when_it_comes_late(a_logic, a_node):
    heard = []
    chain = a_logic.analyze(a_node)
    chain.add_done_callback(heard.append)
    a_logic.client.wait(chain)
    chain.add_done_callback(heard.append)
    assert heard == [chain, chain]


def test_answers_gather_in_the_case(a_logic, a_node):
    a_logic.client.wait(a_logic.analyze(a_node))
    scope = Scope("region", "left_lung")
    a_logic.client.wait(a_logic.ask(a_node, "Where?", scope=scope))
    case = a_logic.client.wait(a_logic.ask(a_node, "Where?"))
    assert [each.id for each in case.answers] == ["answer_1", "answer_2"]
    asked = [params for name, params in a_logic.client.asked if name == "answer"]
    assert asked[0].scope == scope
    assert asked[1].case.answers == case.answers[:1]


def test_a_section_written_again_replaces_only_itself(a_logic, a_node, outcomes, a_phantom):
    a_logic.client.wait(a_logic.analyze(a_node))
    new = Sentence("s9", "lungs", "New.", (), "supported", "measured", "New.")
    outcomes["report"] = ReportResult((new,), step("report"))
    case = a_logic.client.wait(a_logic.draft_report(a_node, sections=("lungs",)))
    assert case.sentences == (new, a_phantom.case.sentences[1])
    assert dict(a_logic.client.asked)["report"].sections == ("lungs",)


def test_a_check_asks_for_the_sentences_it_is_given_and_a_new_measurement_for_all(a_logic, a_node):
    a_logic.client.wait(a_logic.analyze(a_node))
    a_logic.client.wait(a_logic.check(a_node, ("s1",)))
    assert a_logic.client.asked[-1][1].sentences == ("s1",)
    a_logic.client.wait(a_logic.measure(a_node))
    assert a_logic.client.asked[-1][1].sentences == ()


def test_the_text_in_the_scene_follows_what_a_person_writes(a_logic, a_node, a_session):
    case = a_logic.client.wait(a_logic.analyze(a_node))
    node = node_of(a_session.scene, a_node, "report")
    save_case(a_session.scene, a_node, remove_sentence(case, "s1"))
    a_logic.write_report(a_node)
    assert node_of(a_session.scene, a_node, "report") is node
    assert "6.4 mm" not in node.GetText()


def archived(session, node):
    every = nodes_of_class(session.scene, "vtkMRMLTextNode")
    return [each for each in every if each.GetNodeReference(ARCHIVE) is node]


def test_a_new_analysis_puts_a_case_with_a_persons_work_away_and_says_so(a_logic, a_node, a_session):
    case = sign(mark_reviewed(a_logic.client.wait(a_logic.analyze(a_node))), "A. Reader")
    save_case(a_session.scene, a_node, case)
    fresh = a_logic.client.wait(a_logic.analyze(a_node))
    (node,) = archived(a_session, a_node)
    assert Case.from_json(node.GetText()) == case
    assert signature_holds(Case.from_json(node.GetText()))
    assert node.GetName().startswith("CT case 20")
    assert (fresh.report_state, fresh.actions) == ("draft", ())
    (flag,) = [each for each in fresh.flags if each.id == "earlier_case"]
    assert node.GetName() in flag.text
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_session.scene)
    parents = {
        hierarchy.GetItemParent(hierarchy.GetItemByDataNode(each))
        for each in (node, node_of(a_session.scene, a_node, "report"))
    }
    assert len(parents) == 1


def test_a_case_that_nobody_worked_on_is_replaced(a_logic, a_node, a_session):
    a_logic.client.wait(a_logic.analyze(a_node))
    assert a_logic.client.wait(a_logic.analyze(a_node)).flags == ()
    assert not archived(a_session, a_node)


@pytest.mark.parametrize("task", ["estimate", "segment"])
def test_an_analysis_that_breaks_at_once_leaves_the_earlier_case(task, a_logic, a_node, a_session, outcomes):
    case = edit_sentence(a_logic.client.wait(a_logic.analyze(a_node)), "s1", "Mine.")
    save_case(a_session.scene, a_node, case)
    outcomes[task] = outcomes["segment"] = WorkerLost("The worker ended with code 7. Try again.")
    with pytest.raises(WorkerLost):
        a_logic.client.wait(a_logic.analyze(a_node))
    kept = case_of(a_session.scene, a_node)
    assert (kept.sentences, kept.actions) == (case.sentences, case.actions)
    assert not archived(a_session, a_node)


def test_what_a_person_does_during_a_new_analysis_is_put_away_too(a_logic, a_node, a_session):
    case = a_logic.client.wait(a_logic.analyze(a_node))
    chain = a_logic.analyze(a_node)
    case = edit_sentence(case, "s1", "Mine.")
    save_case(a_session.scene, a_node, case)
    a_logic.client.wait(chain)
    (node,) = archived(a_session, a_node)
    assert Case.from_json(node.GetText()) == case


def test_a_question_about_a_volume_without_a_case_says_what_to_do(a_logic, a_node):
    with pytest.raises(InvalidRequest, match="Analyse it first"):
        a_logic.ask(a_node, "Where?")


def test_a_volume_that_is_no_ct_is_refused_before_anything_is_sent(a_logic, a_session, a_phantom):
    flat = Volume(np.full_like(a_phantom.volume.array, 7), a_phantom.volume.ijk_to_ras)
    with pytest.raises(InvalidRequest, match="every voxel|Every voxel"):
        a_logic.analyze(add_volume(a_session.scene, flat))
    assert a_logic.client.asked == []


def test_masks_that_a_person_painted_are_the_ones_measured(a_logic, a_node, a_session, tmp_path):
    a_logic.client.wait(a_logic.analyze(a_node))
    before = layers_of(a_session.scene, a_node)["lesions"]
    image = slicer.vtkOrientedImageData()
    segmentation = node_of(a_session.scene, a_node, "segmentation")
    segmentation.GetBinaryLabelmapRepresentation("nodule_1", image)
    image.GetPointData().GetScalars().Fill(1)
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(image, segmentation, "nodule_1")
    a_logic.client.wait(a_logic.measure(a_node))
    measured = dict(a_logic.client.asked)["measure"]
    sent = {layer.name: layer.array for layer in measured.layers}["lesions"]
    painted = np.load(tmp_path / f"{sent.sha256}.npy")
    assert painted.sum() > before.sum()


def test_a_verb_finds_a_place_for_evidence(a_logic, a_session, a_phantom):
    node = show_all(a_session.scene, a_phantom)
    assert a_logic.place(node, "finding/lung_nodule").segment == "nodule_1"
    assert a_logic.place(node, "landmark/carina") is None
    assert a_logic.place(add_volume(a_session.scene, a_phantom.volume), "region/lungs") is None


def test_a_real_worker_takes_a_real_chest_from_volume_to_findings(a_session, a_sample, worker_python):
    volume, notes = read_volume(a_sample("slicerio"))
    node = add_volume(a_session.scene, volume, notes=notes)
    folder = SessionFolder()
    command = worker_command(worker_python)
    with Client(command, folder.path, folder=PACKAGE_FOLDER) as client:
        logic = AssistantLogic(a_session.scene, client, folder.path)
        client.wait(logic.segment(node))
        case = client.wait(logic.measure(node))
    folder.close()
    volumes = {each.region: each.value for each in case.attributes if each.name == "volume"}
    assert 500 < volumes["right_lung"] < 5000
    assert 500 < volumes["left_lung"] < 5000
    assert len(case.findings) == 18
    assert case == case_of(a_session.scene, node)
    organs, labels = layers_of(a_session.scene, node)["organs"], {r.id: r.label for r in case.regions}
    voxel_ml = np.prod(volume.spacing_kji_mm) / 1000
    assert (organs == labels["right_lung"]).sum() * voxel_ml == pytest.approx(volumes["right_lung"], rel=1e-3)
    right, left = (logic.place(node, f"region/{side}_lung").ras[0] for side in ("right", "left"))
    assert right > left  # R grows toward the patient's right


CHECK = ScanCheck(
    "threedme_tiny",
    (AxisCheck("right", "untold", 0.0), AxisCheck("front", "agrees", 0.2), AxisCheck("up", "mirrored", -0.9)),
    ("neck", "chest"),
    (
        ExpectedPlace("larynx_centroid", "larynx", (0.0, 0.0, 90.0), 30.0, "C5"),
        ExpectedPlace("carina", "carina", (0.0, 0.0, -60.0), 30.0, "T5"),
    ),
)
UPSIDE_DOWN = Flag("position_orientation", "warning", "Upside down.")


def test_a_profile_with_an_encoder_checks_the_scan_and_tells_landmarks_where_to_be(
    a_logic, a_node, outcomes, a_session
):
    outcomes["locate"] = LocateResult(CHECK, step("locate"), (UPSIDE_DOWN,))
    a_logic.profile = profile_of("headneck")
    case = a_logic.client.wait(a_logic.analyze(a_node))
    assert case.qc == CHECK
    assert UPSIDE_DOWN in case.flags
    asked = dict(a_logic.client.asked)
    assert asked["locate"].card == "threedme_tiny"
    assert asked["landmarks"].expected == CHECK.places
    outcomes["locate"] = LocateResult(replace(CHECK, axes=()), step("locate"))
    case = a_logic.client.wait(a_logic.locate(a_node))
    assert UPSIDE_DOWN not in case.flags
    assert Case.from_json(case.to_json()).qc == replace(CHECK, axes=())


def test_without_an_encoder_nothing_is_checked_and_asking_for_it_is_refused(a_logic, a_node):
    case = a_logic.client.wait(a_logic.analyze(a_node))
    assert case.qc is None and "locate" not in dict(a_logic.client.asked)
    with pytest.raises(InvalidRequest, match="Choose a profile"):
        a_logic.locate(a_node)


def test_a_check_of_the_scan_is_said_in_one_line():
    told = range_words(CHECK)
    assert told.startswith("Shows neck and chest, with about C5 to T5 in it.")
    assert "up–down: CONTRADICTS the header" in told
    assert "left–right: can't be told" in told
    assert "no part that it knows" in range_words(replace(CHECK, parts=(), places=()))
