"""A landmark net behind the wire: a real worker, the shipped weights, real scans."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pace import TooLong, assert_within, timed
from processes import CODE

from ct3d.cards import find_weights, load_card
from ct3d.client.client import Client
from ct3d.client.session_folder import SessionFolder
from ct3d.errors import TaskCancelled, TaskFailed, WeightsMissing
from ct3d.imaging.exchange import store_volume
from ct3d.imaging.files import read_volume
from ct3d.imaging.volume import Volume
from ct3d.protocol.tasks import LandmarkParams
from ct3d.training.openkbp import LandmarkCase, open_case

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
CARD = "h3denet_headneck"
HOLE_HU = -3024  # as scanners write what lies beyond a round field of view
FAR_MM = 40.0  # a supported landmark farther off than this isn't the one that was asked for


def has_torch(python) -> bool:
    """Whether an interpreter can import torch."""
    return subprocess.run([str(python), "-c", "import torch"], capture_output=True).returncode == 0


def a_worker_of(python, folder) -> Client:
    """A client of the real worker in this interpreter."""
    return Client([str(python), "-X", "utf8", "-m", "ct3d.worker"], folder, folder=CODE)


@pytest.fixture
def a_worker_with_torch(worker_python, a_session_folder):
    """A client of it; skipped while the card has no weights or that Python no torch."""
    card = load_card(CARD)
    try:
        weights = find_weights(card)
    except WeightsMissing as error:
        pytest.skip(str(error))
    if weights is None or not has_torch(worker_python):
        pytest.skip(f"{card.title}: no weights on its card, or no torch in the worker's Python")
    client = a_worker_of(worker_python, a_session_folder)
    yield client
    client.close()


@pytest.fixture
def a_patient() -> LandmarkCase:
    """A head-and-neck CT with points from contours, never trained on; holes where CT was withheld."""
    path = SHARED / "openkbp" / "validation" / "pt_202.npz"
    if not path.is_file():
        pytest.skip("the development data are not beside this checkout")
    return open_case(path)


def with_holes(case: LandmarkCase) -> Volume:
    return Volume(np.where(case.known, case.volume.array, np.int16(HOLE_HU)), case.volume.ijk_to_ras)


def test_a_worker_without_torch_says_what_to_install(tmp_path):
    if has_torch(sys.executable):
        pytest.skip("this Python has torch")
    with SessionFolder(tmp_path) as folder:
        client = a_worker_of(sys.executable, folder.path)
        volume = store_volume(Volume(np.zeros((5, 5, 5), np.int16), np.eye(4)), folder.path)
        with pytest.raises(TaskFailed, match=r"lacks the package torch.*requirements-torch\.txt"):
            client.wait(client.submit("landmarks", LandmarkParams(volume, card=CARD)))
        client.close()


def test_landmarks_of_a_patient_come_through_the_wire(a_worker_with_torch, a_session_folder, a_patient):
    volume = store_volume(with_holes(a_patient), a_session_folder)
    client = a_worker_with_torch
    result = client.wait(client.submit("landmarks", LandmarkParams(volume, card=CARD)))
    assert [each.id for each in result.landmarks] == [each.id for each in load_card(CARD).landmarks]
    assert result.saw.card == CARD
    supported = [
        np.linalg.norm(np.subtract(each.position_ras, truth))
        for each, truth, is_there in zip(result.landmarks, a_patient.landmarks_ras, a_patient.supported)
        if is_there and each.presence == "present"
    ]
    assert len(supported) >= 0.7 * a_patient.supported.sum()
    assert max(supported) < FAR_MM
    again = client.wait(client.submit("landmarks", LandmarkParams(volume, card=CARD)))
    assert again.landmarks == result.landmarks


@timed
def test_a_chest_has_none_and_a_stopped_run_leaves_the_worker_alive(
    a_worker_with_torch, a_session_folder, a_sample
):
    client = a_worker_with_torch
    volume = store_volume(read_volume(a_sample("lidc_idri_0001"))[0], a_session_folder)
    params = LandmarkParams(volume, card=CARD)
    result = client.wait(client.submit("landmarks", params))
    assert {each.presence for each in result.landmarks} == {"missing"}
    assert [flag.id for flag in result.flags] == ["landmarks_body_part"]
    stages = []
    job = client.submit("landmarks", params, on_progress=lambda progress: stages.append(progress.stage))
    while "heat maps" not in stages:
        client.poll(0.05)
    pid, began = client.worker.pid, time.monotonic()
    job.cancel()
    with pytest.raises(TaskCancelled):
        client.wait(job)
    assert_within(time.monotonic() - began, 1.0, "stopping")
    client.wait(client.submit("landmarks", params))
    if client.worker.pid != pid:
        raise TooLong("The worker took so long to stop that it was replaced.")
