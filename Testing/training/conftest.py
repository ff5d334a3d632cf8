"""Small cases laid out as OpenKBP's, and a card whose net has random weights."""

import pytest
import torch
from synthetic_headneck import write_case
from tiny_card import write_tiny_card


@pytest.fixture(scope="session")
def a_folder_of_cases(tmp_path_factory):
    """Three cases; one lacks two landmarks."""
    folder = tmp_path_factory.mktemp("cases")
    for number in (1, 2, 3):
        write_case(folder, number, unknown=(6, 7) if number == 2 else ())
    return folder


@pytest.fixture(scope="session")
def a_tiny_card(tmp_path_factory):
    """File of the head-and-neck card with its tiny net; the weights lie beside it."""
    return write_tiny_card(tmp_path_factory.mktemp("card"))


@pytest.fixture(scope="module")
def one_thread():
    """So small a net crawls where two threads wait for a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
