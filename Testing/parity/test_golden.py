"""Every case of the reference's vectors, committed and beside the repository, is reproduced."""

import os

import pytest
from parity import h3denet_losses, h3denet_nets, hsenet_data, hsenet_nets  # noqa: F401  (they register)
from parity.golden import COMMITTED, WHOLE, Case, Comparison, cases_in, golden_folder, kind_of

CASES = cases_in(COMMITTED, "committed") + cases_in(golden_folder(), "golden")


def lines() -> list:
    """One line for each sub-case; a case of no known kind gets one too, and fails."""
    found = []
    for case in CASES:
        fitting = kind_of(case)
        parts = list(fitting.parts(case)) if fitting else [WHOLE]
        found += [pytest.param(case, part, id=f"{case.id}:{part}" if part else case.id) for part in parts]
    return found


@pytest.mark.parametrize(("case", "part"), lines())
def test_a_case_of_the_reference_is_reproduced(case: Case, part: str, record_property):
    fitting = kind_of(case)
    assert fitting, f"{case.id} is of no known kind: cls {case.cls!r}, arrays {sorted(case.arrays)}"
    compare = Comparison()
    fitting.check(case, part, compare)
    record_property("deviations", "  ".join(compare.deviations))
    assert compare.deviations, f"{case.id} compared nothing"
    assert not case.unread, f"{case.id} has files that nothing read: {case.unread}"


def test_the_vectors_beside_the_repository_are_there():
    if not golden_folder().is_dir() and "CT3D_GOLDEN" not in os.environ:
        pytest.skip(
            f"no vectors at {golden_folder()}: only the committed ones ran; set CT3D_GOLDEN to a folder"
        )
    assert cases_in(golden_folder(), "golden"), f"no case in {golden_folder()}"
