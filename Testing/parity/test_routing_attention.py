"""Routing attention and the nets on any size: what padding means, and what configurations refuse."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ct3d.models.h3denet import AnchorNet, Config, HeatmapNet, convert
from ct3d.models.routing_attention import AttentionConfig, Block, BlockConfig, RoutingAttention

WINDOWS = (4, 4, 2)
TINY = {"dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "mlp_ratios": (1, 1, 1, 1), "landmarks": 3}


def odd_sizes(count: int) -> list[tuple[int, int, int]]:
    """Sizes of which at least one axis is no multiple of its windows, the same in each run."""
    rng = np.random.default_rng(4)
    found = []
    while len(found) < count:
        size = tuple(int(n) for n in rng.integers(1, 14, 3))
        if any(n % windows for n, windows in zip(size, WINDOWS)):
            found.append(size)
    return found


@pytest.fixture(
    scope="module", params=[{}, {"soft_routing": True, "qk_dim": 16}, {"kv_pool": "adaptive_max"}], ids=str
)
def an_attention(request) -> RoutingAttention:
    torch.manual_seed(0)
    config = AttentionConfig(dim=8, heads=2, windows=WINDOWS, topk=3, local_kernel=5, **request.param)
    return RoutingAttention(config).eval()


def test_padded_attention_is_attention_on_the_padded_volume_for_200_odd_sizes(an_attention):
    for size in odd_sizes(200):
        volume = torch.randn(2, *size, 8)
        exact = torch.zeros(2, *(-(-n // windows) * windows for n, windows in zip(size, WINDOWS)), 8)
        exact[:, : size[0], : size[1], : size[2]] = volume
        with torch.no_grad():
            padded, whole = an_attention(volume), an_attention(exact)
        assert padded.shape == volume.shape, size
        assert_close(padded, whole[:, : size[0], : size[1], : size[2]], atol=1e-6, rtol=0), size


def windowed_attention_in_words(attention: RoutingAttention, volume: torch.Tensor) -> torch.Tensor:
    """The same by loops over windows, for one volume (D, H, W, C) that the windows divide."""
    config = attention.config
    query, key, value = attention.qkv(volume).split((config.key_dim, config.key_dim, config.dim), dim=-1)
    steps = [n // windows for n, windows in zip(volume.shape, config.windows)]
    places = [
        tuple(slice(i * step, (i + 1) * step) for i, step in zip(place, steps))
        for place in np.ndindex(*config.windows)
    ]
    means = [torch.stack([each[place].flatten(0, 2).mean(0) for place in places]) for each in (query, key)]
    out = torch.zeros_like(value)
    for here, logits in zip(places, means[0] @ means[1].T):
        seen = logits.argsort(descending=True)[: config.topk]
        keys, values = (torch.cat([each[places[p]].flatten(0, 2) for p in seen]) for each in (key, value))
        heads = zip(*(each.flatten(0, -2).chunk(config.heads, -1) for each in (query[here], keys, values)))
        mixed = [((q @ k.T) * config.key_dim**-0.5).softmax(-1) @ v for q, k, v in heads]
        out[here] = torch.cat(mixed, -1).reshape(out[here].shape)
    local = attention.local(value.movedim(-1, 0)[None])[0].movedim(0, -1)
    return attention.output(out + local)


def test_attention_is_what_its_words_say_window_by_window():
    torch.manual_seed(1)
    attention = RoutingAttention(AttentionConfig(dim=12, heads=3, windows=(2, 3, 2), topk=4))
    volume = torch.randn(4, 6, 6, 12)
    with torch.no_grad():
        assert_close(
            attention(volume[None])[0], windowed_attention_in_words(attention, volume), atol=1e-6, rtol=0
        )


def test_written_out_attention_equals_the_fused_one():
    torch.manual_seed(2)
    volume = torch.randn(1, 5, 4, 3, 8)
    fused = RoutingAttention(AttentionConfig(dim=8, heads=1, windows=(2, 2, 1), topk=2))
    written = RoutingAttention(AttentionConfig(dim=8, heads=1, windows=(2, 2, 1), topk=2, fused=False))
    written.load_state_dict(fused.state_dict())
    assert_close(fused(volume), written(volume), atol=1e-6, rtol=0)


def test_a_projection_of_the_window_means_learns_from_soft_routing_and_not_from_a_hard_choice():
    torch.manual_seed(3)
    projected = {"dim": 8, "heads": 1, "windows": (2, 2, 1), "topk": 2, "projected_routing": True}
    soft, hard = (
        RoutingAttention(AttentionConfig(**projected, soft_routing=is_soft)) for is_soft in (True, False)
    )
    for each in (soft, hard):
        each(torch.randn(1, 4, 4, 2, 8)).square().mean().backward()
    assert soft.router.weight.grad.abs().max() > 0
    assert hard.router.weight.grad is None


@pytest.mark.parametrize("size", [(1, 1, 1), (5, 3, 2), (17, 33, 9), (40, 24, 31)], ids=str)
@pytest.mark.parametrize("options", [{}, {"attention": "none"}, {"fusion": True}], ids=str)
def test_both_nets_take_any_size_and_every_parameter_learns(size, options):
    config = Config(**TINY, **options, windows=(2, 2, 1), topks=(1, 2, 2, 4), in_channels=2)
    for net, shape in (
        (HeatmapNet(config), (2, 3, *size)),
        (AnchorNet(config), (2, *(-(-n // 4) for n in size), 4, 6)),
    ):
        out = net(torch.randn(2, 2, *size))
        assert out.shape == shape
        out.square().mean().backward()
        assert not [name for name, value in net.named_parameters() if value.grad is None]
        assert all(value.grad.isfinite().all() for value in net.parameters())


def test_the_papers_decoder_and_pyramid_can_be_had():
    config = Config(
        **TINY, windows=(2, 2, 1), topks=(1, 2, 2, 4), upsampling="super_resolution", pyramid_scales=(1, 2)
    )
    assert HeatmapNet(config)(torch.randn(2, 1, 19, 16, 9)).shape == (2, 3, 19, 16, 9)


def test_a_sample_is_blind_to_the_others_of_its_batch():
    torch.manual_seed(5)
    net = HeatmapNet(Config(**TINY, windows=(2, 2, 1), topks=(1, 2, 2, 4))).eval()
    volume = torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        assert_close(net(volume)[:1], net(volume[:1]), atol=1e-5, rtol=0)


def test_stochastic_depth_leaves_whole_samples_out_in_training_only():
    torch.manual_seed(6)
    block = Block(BlockConfig(dim=4, attention=None, position_kernel=0, drop_path=0.5))
    volume = torch.randn(64, 4, 2, 2, 2)
    changed = (block(volume) != volume).flatten(1).any(1)
    assert 16 < changed.sum() < 48
    assert (block.eval()(volume) != volume).flatten(1).any(1).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"topks": (1, 4, 16, 33)}, "topk is 33"),
        ({"head_dim": 7}, "heads don't divide"),
        ({"dims": (64, 128)}, "four values"),
        ({"attention": "some"}, "attention is 'some'"),
        ({"differentiable_routing": True}, "needs soft_routing"),
        ({"kv_pool": "fractal"}, "kv_pool is 'fractal'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_configuration_that_cannot_be_is_refused_in_words(wrong, said):
    with torch.device("meta"), pytest.raises(ValueError, match=said):
        HeatmapNet(Config(**wrong))


def test_a_name_that_the_reference_has_not_is_named_by_the_strict_load():
    net = HeatmapNet(Config(**TINY, windows=(2, 2, 1), topks=(1, 2, 2, 4)))
    weights = {"downsample_layers.0.0.weight": torch.zeros(4, 1, 3, 3, 3), "norm.weight": torch.zeros(1)}
    with pytest.raises(RuntimeError, match=r"(?s)Missing key.*Unexpected key.*extra\.weight"):
        net.load_state_dict(convert(weights | {"extra.weight": torch.zeros(1)}), strict=True)
