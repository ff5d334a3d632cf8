"""Sessions in which VTK must not complain, and two phantoms on different grids."""

import numpy as np
import pytest
from phantoms import Phantom, make_phantom, oblique


@pytest.fixture(autouse=True)
def no_vtk_errors(capfd):
    """VTK prints its errors and goes on; a test must not."""
    yield
    printed = capfd.readouterr()
    assert "ERR|" not in printed.err, printed.err


@pytest.fixture
def a_session():
    from CT3DAssistantLib.headless import boot

    session = boot()
    yield session
    session.close()


@pytest.fixture
def another_session():
    from CT3DAssistantLib.headless import boot

    session = boot()
    yield session
    session.close()


@pytest.fixture(scope="session")
def a_phantom() -> Phantom:
    return make_phantom(oblique(0.35, 0.2), shift=(31.0, -17.5, -250.0))


@pytest.fixture(scope="session")
def another_phantom() -> Phantom:
    return make_phantom(np.diag([-1.0, -1.0, 1.0]), shift=(-5.0, 8.0, 90.0))
