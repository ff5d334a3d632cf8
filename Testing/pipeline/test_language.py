"""Both runtimes with the real weights."""

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from ct3d.cards import find_weights, load_card, weights_folder
from ct3d.models.language import VISUAL_MARK, unpacked
from ct3d.pipeline.job import LocalJob, build_model
from ct3d.pipeline.report import beginning
from ct3d.pipeline.warm_up import run
from ct3d.protocol.tasks import WarmUpParams

CARDS = ("smollm2_135m", "smollm2_135m_transformers")
CHAT = [
    {"role": "system", "content": "You are a radiologist."},
    {"role": "user", "content": "Describe a normal chest CT in two sentences."},
]


def quiet(_piece):
    """A listener that lets everything pass."""


@pytest.fixture(scope="module")
def the_models():
    """card id → model, each built once."""
    card = load_card(CARDS[0])
    if not (weights_folder() / card.weights.file).is_file():
        pytest.skip(f"{card.weights.file} is not here; run `ct3d-assistant doctor --install`")
    return {name: build_model(load_card(name)) for name in CARDS}


@pytest.fixture(params=CARDS)
def a_model(request, the_models):
    return the_models[request.param]


def test_greedy_text_is_the_same_every_time(a_model):
    texts = {a_model.write(CHAT, on_piece=quiet, max_tokens=12) for _ in range(2)}
    assert len(texts) == 1
    assert len(texts.pop().split()) >= 5


def test_the_streamed_pieces_are_the_text(a_model):
    pieces = []
    text = a_model.write(CHAT, on_piece=pieces.append, max_tokens=12)
    assert "".join(pieces) == text
    assert len([piece for piece in pieces if piece]) >= 8


def test_a_seed_gives_the_same_sample_and_another_seed_another(a_model):
    def sample(seed):
        return a_model.write(CHAT, on_piece=quiet, max_tokens=16, temperature=1.0, seed=seed)

    first = sample(1)
    assert sample(1) == first
    assert {sample(2), sample(3)} != {first}


def test_what_the_listener_raises_stops_the_model_within_a_token(a_model):
    seen = []

    def stop(piece):
        seen.append(piece)
        if len("".join(seen).split()) >= 3:
            raise KeyError("stopped")

    with pytest.raises(KeyError, match="stopped"):
        a_model.write(CHAT, on_piece=stop, max_tokens=64)
    assert len(seen) < 16


def test_the_listener_can_stop_while_a_long_prompt_is_read(a_model):
    def stop(_piece):
        raise KeyError("stopped")

    long_chat = [{"role": "user", "content": "The lungs were measured again. " * 60}]
    with pytest.raises(KeyError):
        a_model.write(long_chat, on_piece=stop, max_tokens=4)
    assert a_model.write(CHAT, on_piece=quiet, max_tokens=4)


def test_earlier_turns_of_a_chat_are_followed(a_model):
    pairs = [("left", "left SIDE."), ("right", "right SIDE."), ("upper", "upper SIDE.")]
    before = [
        {"role": role, "content": text} for pair in pairs for role, text in zip(("user", "assistant"), pair)
    ]
    question = [{"role": "user", "content": "lower"}]
    assert "SIDE" in a_model.write([*before, *question], on_piece=quiet, max_tokens=8)
    assert "SIDE" not in a_model.write(question, on_piece=quiet, max_tokens=8)


def test_a_chat_read_before_gives_the_same_text_as_one_read_fresh(a_model):
    fresh = a_model.write(CHAT, on_piece=quiet, max_tokens=8)
    a_model.write([CHAT[0], {"role": "user", "content": "Say hello."}], on_piece=quiet, max_tokens=4)
    assert a_model.write(CHAT, on_piece=quiet, max_tokens=8) == fresh


def test_both_runtimes_count_the_same_tokens(the_models):
    assert {model.count_tokens(CHAT) for model in the_models.values()} == {29}


def test_a_grammar_is_obeyed(the_models):
    grammar = 'root ::= "The " ("left" | "right") " lung measures " ("2340" | "1980") " mL."'
    text = the_models["smollm2_135m"].write(CHAT, on_piece=quiet, grammar=grammar, temperature=1.0)
    assert text in {f"The {side} lung measures {mL} mL." for side in ("left", "right") for mL in (2340, 1980)}


def test_a_broken_grammar_is_refused_and_the_model_goes_on(the_models):
    model = the_models["smollm2_135m"]
    with pytest.raises(ValueError, match="grammar"):
        model.write(CHAT, on_piece=quiet, grammar='root ::= "The')
    assert model.write(CHAT, on_piece=quiet, max_tokens=2)


def test_visual_tokens_that_are_words_read_as_these_words(the_models):
    model = the_models["smollm2_135m_transformers"]
    words = " the left lung and the heart"
    ids = model.torch.tensor(model.tokenizer(words, add_special_tokens=False).input_ids)
    seen = model.model.get_input_embeddings()(ids).detach()  # (M, dim)
    spoken = [{"role": "user", "content": f"Tell me about{words} please."}]
    shown = [{"role": "user", "content": f"Tell me about{VISUAL_MARK} please."}]
    expected = model.write(spoken, on_piece=quiet, max_tokens=4)  # later ones differ by rounding in bfloat16
    assert "left lung" in expected
    assert model.write(shown, on_piece=quiet, max_tokens=4, visual=seen) == expected
    with pytest.raises(ValueError, match="Put it where they belong"):
        model.write(spoken, on_piece=quiet, visual=seen)


def test_the_unpacked_weights_remember_the_file_they_came_from(the_models):
    card = load_card("smollm2_135m_transformers")
    path = find_weights(card)
    source = (unpacked(path, card.weights.sha256) / "source.json").read_text(encoding="utf-8")
    assert card.weights.sha256 in source
    assert not list(path.parent.glob(".unpacking-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_llama_cpp_opens_no_port_and_leaves_no_socket_file(the_models):
    socket_file = the_models["smollm2_135m"].server.listening_address.removeprefix("unix://")
    assert socket_file.endswith(".sock")
    assert not Path(socket_file).parent.exists()
    mine = set()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own descriptor is gone by now
            mine.add(str(each.readlink()))
    for table in ("tcp", "tcp6"):
        rows = [row.split() for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
        assert not [row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in mine]


def test_both_cards_name_the_same_weights():
    first, second = (load_card(name) for name in CARDS)
    assert first.weights == replace(second.weights)
    assert first.license == second.license == "Apache-2.0"


def test_after_a_warm_up_the_model_has_read_what_every_wording_begins_with(the_models, tmp_path):
    a_model = the_models[CARDS[0]]
    job = LocalJob(tmp_path)
    job.model = lambda _card: a_model

    def calls_while_reading():
        pieces = []
        line = {"role": "user", "content": "left lung | volume 1980 mL"}
        a_model.write([*beginning(), line], on_piece=pieces.append, max_tokens=1)
        return pieces.count("")

    a_model.write(CHAT, on_piece=quiet, max_tokens=1)
    cold = calls_while_reading()
    a_model.write(CHAT, on_piece=quiet, max_tokens=1)
    assert run(WarmUpParams(CARDS[0]), job).step.card == CARDS[0]
    assert calls_while_reading() < cold  # one call per batch of the prompt
