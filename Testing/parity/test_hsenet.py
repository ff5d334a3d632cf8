"""HSENet beyond what its reference does: any grid, any language model, a prefix that is kept."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from ct3d.models.hsenet import (
    Encoder,
    EncoderConfig,
    GuidedEncoder,
    PackerConfig,
    SpatialPacker,
    build_packer,
)
from ct3d.models.hsenet_clip import ClipConfig, Contrastive, Stage2, contrastive_loss, logits_of
from ct3d.models.hsenet_vlm import Config, HSENet, greedy, pieces, sampler, visible

SMALL = EncoderConfig((4, 16, 16), (2, 4, 4), dim=24, depth=2, heads=3, mlp_dim=32)
TEXT = {"vocab_size": 30, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT |= {"intermediate_size": 32, "max_position_embeddings": 16}
SIZES = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
ENDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
LANGUAGES = {
    "Llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, **ENDS)),
    "Phi-3": lambda: Phi3ForCausalLM(Phi3Config(**SIZES, **ENDS, original_max_position_embeddings=128)),
}
QUESTIONS = [7, 3, 9], [4, 4], [21]


@pytest.fixture(params=LANGUAGES)
def a_model(request):
    torch.manual_seed(0)
    config = Config(SMALL, PackerConfig("spatial", (1, 2, 2), 24, 32))
    return HSENet(config, LANGUAGES[request.param]()).eval()


@pytest.fixture
def a_view():
    """A volume of the small size and its slices' features."""
    chance = torch.Generator().manual_seed(1)
    return torch.rand(1, 1, 4, 16, 16, generator=chance), torch.randn(1, 5, 24, generator=chance)


def told(model, prefix, question, draw=greedy, most=6):
    return list(model.write(prefix, question, draw, stop=None, most=most))


def read_whole(model, visual, question, most=6):
    """Greedy ids without any cache: everything is read anew for each token."""
    ids = [0] * (1 + visual.shape[1]) + question
    for _ in range(most):
        embeds = model.spliced(torch.tensor([ids]), visual)
        ids.append(int(model.language(inputs_embeds=embeds).logits[0, -1].argmax()))
    return ids[-most:]


@torch.no_grad()
def test_a_kept_prefix_answers_several_questions_as_if_each_were_read_whole(a_model, a_view):
    visual = a_model.visual_tokens(*a_view)
    prefix = a_model.prefix(visual, bos=0, batch=7)
    for question in QUESTIONS:
        assert told(a_model, prefix, question) == read_whole(a_model, visual, question)
        assert prefix.cache.get_seq_length() == prefix.length == 17


@torch.no_grad()
def test_writing_that_is_ended_between_tokens_leaves_the_prefix_as_it_was(a_model, a_view):
    prefix = a_model.prefix(a_model.visual_tokens(*a_view), bos=0)
    whole = told(a_model, prefix, QUESTIONS[0])
    broken = a_model.write(prefix, QUESTIONS[1], greedy, stop=None, most=6)
    next(broken)
    broken.close()
    assert told(a_model, prefix, QUESTIONS[0]) == whole


@torch.no_grad()
def test_a_token_that_is_masked_out_has_no_influence(a_model, a_view):
    visual = a_model.visual_tokens(*a_view)
    seen = torch.arange(16) % 3 > 0
    other = torch.where(seen[None, :, None], visual, torch.randn(visual.shape) * 9)
    logits = []
    for each in (visual, other):
        prefix = a_model.prefix(each, bos=0, seen=seen)
        a_model.write(prefix, [3], lambda found: logits.append(found) or 1, stop=None, most=1).__next__()
    torch.testing.assert_close(*logits)
    unmasked = a_model.prefix(other, bos=0)
    a_model.write(unmasked, [3], lambda found: logits.append(found) or 1, stop=None, most=1).__next__()
    assert not torch.allclose(logits[1], logits[2])


@torch.no_grad()
def test_reading_a_prefix_ends_with_what_is_raised_between_its_batches(a_model, a_view):
    def stop():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        a_model.prefix(a_model.visual_tokens(*a_view), bos=0, between=stop)


@torch.no_grad()
def test_sampling_is_that_of_its_seed_and_ends_at_the_stop_token(a_model, a_view):
    prefix = a_model.prefix(a_model.visual_tokens(*a_view), bos=0)
    one, again, other = (told(a_model, prefix, [3], sampler(1.5, seed), 12) for seed in (1, 1, 2))
    assert one == again != other
    assert told(a_model, prefix, [3], sampler(0.0, 1)) == told(a_model, prefix, [3])
    first = told(a_model, prefix, [3])[0]
    assert list(a_model.write(prefix, [3], greedy, stop=first, most=6)) == []


def test_text_comes_in_pieces_and_half_a_character_waits():
    spelled = {1: b"a", 2: b"\xc3", 3: b"\xa9", 4: b"b"}
    decode = lambda ids: b"".join(spelled[each] for each in ids).decode("utf-8", "replace")  # noqa: E731
    assert list(pieces(iter([1, 2, 3, 4]), decode)) == ["a", "é", "b"]


def test_visible_tokens_are_those_whose_window_holds_some_of_the_region():
    config = Config(SMALL, PackerConfig("spatial", (1, 2, 2), 24, 32))
    region = torch.zeros(4, 16, 16, dtype=torch.bool)
    region[1, 7, 8] = True  # window (0, 0, 1) of 2 x 2 x 2
    assert visible(region, config).nonzero().flatten().tolist() == [1, 9]  # one an encoder


@pytest.mark.parametrize("net", [Encoder, GuidedEncoder])
@torch.no_grad()
def test_an_encoder_sees_grids_and_numbers_of_slices_that_it_was_not_made_for(net):
    encoder = net(SMALL).eval()
    tokens = encoder(torch.rand(2, 1, 6, 24, 8), torch.randn(2, 9, 24))
    assert tokens.shape == (2, 1 + 3 * 6 * 2, 24)
    with pytest.raises(ValueError, match="no whole patches"):
        encoder(torch.rand(2, 1, 5, 24, 8), torch.randn(2, 9, 24))


@pytest.mark.parametrize("kind", ["spatial", "pool_mlp", "pool_linear", "sequence"])
def test_a_packer_gives_one_token_a_window_and_every_parameter_a_gradient(kind):
    packer = build_packer(PackerConfig(kind, (2, 1, 4), 24, 10))
    packed = packer(torch.randn(2, 4 * 3 * 8, 24), (4, 3, 8))
    assert packed.shape == (2, 12, 10)
    packed.square().sum().backward()
    without = [name for name, each in packer.named_parameters() if each.grad is None]
    assert not without


def test_a_window_that_does_not_divide_the_grid_is_refused():
    with pytest.raises(ValueError, match="no whole windows"):
        SpatialPacker(PackerConfig(window=(1, 4, 4), dim=8, out_dim=8))(torch.zeros(1, 24, 8), (2, 3, 4))


@pytest.mark.parametrize("towers", ["dual", "global", "guided"])
@pytest.mark.parametrize("is_packer_shared", [True, False])
def test_every_parameter_of_the_whole_model_gets_a_gradient(towers, is_packer_shared, a_view):
    torch.manual_seed(0)
    config = Config(SMALL, PackerConfig("spatial", (1, 2, 2), 24, 32), towers, is_packer_shared)
    model = HSENet(config, LANGUAGES["Llama"]())
    ids = torch.randint(50, (1, 1 + config.visual_tokens + 5))
    model(*a_view, ids).square().mean().backward()
    without = [name for name, each in model.named_parameters() if each.grad is None]
    assert not without


def test_the_teacher_is_frozen_and_never_trains(a_view):
    torch.manual_seed(0)
    teacher = Contrastive(ClipConfig(SMALL, False, TEXT))
    model = Stage2(Contrastive(ClipConfig(SMALL, True, TEXT)), teacher).train()
    assert model.student.training and not model.teacher.training
    volume, slices = (each.repeat(2, *[1] * (each.ndim - 1)) for each in a_view)
    ids = torch.randint(30, (2, 8))
    model(volume, slices, ids, torch.ones_like(ids), step=10).backward()
    assert all(each.grad is None for each in model.teacher.parameters())
    unread = [name for name, each in model.student.named_parameters() if each.grad is None]
    assert unread == ["text.pooler.dense.weight", "text.pooler.dense.bias"]  # published, never used


def test_pairs_that_agree_have_a_smaller_contrastive_loss():
    features = torch.eye(4)
    scale = torch.tensor(2.659)
    assert contrastive_loss(logits_of(features, features, scale)) < contrastive_loss(
        logits_of(features, features.flip(0), scale)
    )
