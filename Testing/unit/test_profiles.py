"""Profiles name cards that exist, each for its role."""

import pytest

from ct3d.cards import load_cards
from ct3d.errors import InvalidRequest
from CT3DAssistantLib.profiles import profile_of, profiles


@pytest.mark.parametrize("profile", profiles().values(), ids=lambda profile: profile.id)
def test_a_profile_names_cards_of_the_right_roles_and_says_when_to_use_it(profile):
    assert {role: card.role for role, card in profile.cards.items()} == {role: role for role in profile.cards}
    assert set(profile.cards) >= {"segment", "landmarks", "findings"}
    assert profile.title and profile.when.endswith(".")


def test_every_card_is_in_a_profile_but_those_for_other_commands():
    named = {card.id for profile in profiles().values() for card in profile.cards.values()}
    assert named == {card.id for card in load_cards() if card.role != "retrieve"}


def test_a_profile_whose_models_read_scans_names_them_for_report_and_answer():
    hsenet, standard = profile_of("hsenet"), profile_of("")
    assert (hsenet.card_of("report"), hsenet.card_of("answer")) == ("hsenet_ct_rate", "hsenet_radgenome")
    assert hsenet.reads_scan("report") and not standard.reads_scan("report")
    assert not hsenet.reads_scan("segment")
    mixed = standard.reading(report="hsenet_ct_rate")
    assert (mixed.card_of("report"), mixed.card_of("answer")) == ("hsenet_ct_rate", "smollm2_135m")
    with pytest.raises(InvalidRequest, match="role 'report'.*hsenet_ct_rate"):
        standard.reading(report="hsenet_radgenome")


def test_the_default_needs_no_torch_and_the_floor_no_weights():
    assert profile_of("").id == "standard" and not profile_of("").gpu
    assert all(card.weights is None for card in profile_of("floor").cards.values())
    assert profile_of("floor").card_of("report") == "" and profile_of("").card_of("report") == "smollm2_135m"
    assert profile_of("").card_of("measure") == ""


def test_a_profile_with_a_net_says_what_the_worker_needs_for_it():
    assert profile_of("headneck").card_of("landmarks") == "h3denet_headneck"
    assert set(profile_of("headneck").needs) == {"torch", "monai"}
    assert "torch" in profile_of("transformers").needs and not profile_of("").needs


def test_an_unknown_profile_is_refused_with_the_names_there_are():
    with pytest.raises(InvalidRequest, match="'nothing'.*standard, floor"):
        profile_of("nothing")
