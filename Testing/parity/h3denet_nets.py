"""Kinds of H3DE-Net's vectors that its networks and their parts made.

Constructor arguments of the reference are read by name; an unknown one fails its case, which names it.
Whole networks are compared twice. With the attention written out, which sums in the reference's order, at the
README's tolerance; and as they ship, with fused attention, at twice that: two single-precision results, each
with rounding of its own, which an instance norm over a handful of voxels magnifies.
"""

from collections.abc import Mapping

import torch
from parity.golden import Case, Comparison, kind, made_by
from torch import Tensor, nn

from ct3d.models.h3denet import AnchorNet, Config, HeatmapNet, PyramidPooling, SuperResolution, convert
from ct3d.models.routing_attention import AttentionConfig, Block, BlockConfig, RoutingAttention

NET, FUSED_NET, MODULE, GRADIENT = 2e-5, 4e-5, 1e-5, 1e-3
NO_GRADIENT = 1e-6  # of the largest: rounding, as for a bias that an instance norm then takes away
NETS = {"BiFormer_Unet": HeatmapNet, "PBiFormer_Unet": AnchorNet, "FFMNet": AnchorNet}
POOLS = {
    "identity": "identity",
    "avgpool": "avg",
    "maxpool": "max",
    "ada_avgpool": "adaptive_avg",
    "ada_maxpool": "adaptive_max",
}
INPUT_TRANSFORM = "input_u8.float()/255"
GRADIENTS_OF = {
    "mean(out**2)": lambda out: (out**2).mean(),
    "mean(output.double()**2)": lambda out: (out.double() ** 2).mean(),
}
PARAMETERS_OF_BATCH_NORM = ("norm.weight", "norm.bias")
STATISTICS = ("mean", "std", "absmax", "sum", "sumsq")


class Arguments:
    """The reference's constructor arguments; each is taken once, and what is left at the end is unknown."""

    def __init__(self, arguments: Mapping):
        self.left = dict(arguments)

    def take(self, *names: str, default=None):
        """The value of whichever of these names is there, None counting as not there."""
        values = [self.left.pop(name) for name in names if name in self.left]
        return next((value for value in values if value is not None), default)

    def ignore(self, *names: str) -> None:
        """Arguments that don't change what is computed at inference, or that here always hold."""
        for name in names:
            self.left.pop(name, None)

    def end(self) -> None:
        """Fails if an argument was not understood."""
        assert not self.left, f"unknown constructor arguments: {self.left}"


def triple(value) -> tuple[int, int, int]:
    """One number stands for all three axes."""
    return (value,) * 3 if isinstance(value, int) else tuple(value)


def quad(value) -> tuple | None:
    """One value stands for all four stages."""
    if value is None or (isinstance(value, list | tuple) and set(value) == {None}):
        return None
    return tuple(value) if isinstance(value, list | tuple) else (value,) * 4


def options_of_routing(arguments: Arguments) -> dict:
    """What nets, blocks and attention layers call alike."""
    param = arguments.take("param_attention", default="qkvo")
    assert param in ("qkvo", "qkv"), f"unknown param_attention {param!r}"
    arguments.ignore("auto_pad", "kv_downsample_kernel", "kv_downsample_kernels")
    return {
        "soft_routing": arguments.take("soft_routing", default=False),
        "differentiable_routing": arguments.take("diff_routing", default=False),
        "projected_routing": arguments.take("param_routing", default=False),
        "output_projection": param == "qkvo",
        "swap_axes": True,
    }


def options_of_block(arguments: Arguments) -> dict:
    """What nets and blocks call alike."""
    return {
        "mlp_convolution": arguments.take("mlp_dwconv", default=False),
        "position_kernel": arguments.take("before_attn_dwconv", default=3),
        "pre_norm": arguments.take("pre_norm", default=True),
        "layer_scale": max(0.0, arguments.take("layer_scale_init_value", default=-1)),
    }


def pool_of(arguments: Arguments, mode: str) -> tuple[str, object]:
    """Our name of the pooling of keys and values, and its size or sizes."""
    mode = arguments.take("kv_downsample_mode", default=mode)
    assert mode in POOLS, f"unknown kv_downsample_mode {mode!r}"
    per_window = arguments.take("kv_per_win", "kv_per_wins", default=4)
    ratio = arguments.take("kv_downsample_ratio", "kv_downsample_ratios", default=4)
    return POOLS[mode], per_window if mode.startswith("ada") else ratio


def attention_config(arguments: Arguments, pool_mode: str, **options) -> AttentionConfig:
    """One attention layer's configuration, of its own or its block's arguments."""
    pool, size = pool_of(arguments, pool_mode)
    dim, topk = arguments.take("dim"), arguments.take("topk", default=4)
    windows = triple(arguments.take("n_win", default=7))
    return AttentionConfig(
        dim=dim,
        heads=arguments.take("num_heads", default=8),
        windows=windows,
        topk=topk,
        qk_dim=arguments.take("qk_dim"),
        scale=arguments.take("qk_scale"),
        kv_pool=pool,
        kv_pool_size=size,
        **options_of_routing(arguments),
        **options,
    )


def block_config(kwargs: Mapping) -> BlockConfig:
    """The block of the reference's arguments."""
    arguments = Arguments(kwargs)
    arguments.ignore("drop_path")
    mlp_ratio = arguments.take("mlp_ratio", default=4)
    branches = options_of_block(arguments)
    attention = attention_config(
        arguments, "ada_avgpool", local_kernel=arguments.take("side_dwconv", default=5)
    )
    arguments.end()
    return BlockConfig(dim=attention.dim, attention=attention, mlp_ratio=mlp_ratio, **branches)


def net_config(kwargs: Mapping, **options) -> Config:
    """The network of the reference's arguments."""
    arguments = Arguments(kwargs)
    arguments.ignore("drop_path_rate", "use_checkpoint_stages", "pretrained")
    pool, sizes = pool_of(arguments, "identity")
    config = Config(
        landmarks=arguments.take("n_class", "num_classes", default=14),
        in_channels=arguments.take("in_chans", default=1),
        dims=quad(arguments.take("embed_dim", "embed_dims", default=Config.dims)),
        depths=quad(arguments.take("depth", "depths", default=Config.depths)),
        qk_dims=quad(arguments.take("qk_dims", "qk_dim")),
        head_dim=arguments.take("head_dim", default=8),
        windows=triple(arguments.take("n_win", default=Config.windows)),
        topks=quad(arguments.take("topks", "topk", default=Config.topks)),
        mlp_ratios=quad(arguments.take("mlp_ratios", "mlp_ratio", default=4)),
        local_kernel=arguments.take("side_dwconv", default=5),
        attention_scale=arguments.take("qk_scale"),
        anchors=arguments.take("n_anchor", default=4),
        kv_pool=pool,
        kv_pool_sizes=quad(sizes),
        **options_of_routing(arguments),
        **options_of_block(arguments),
        **options,
    )
    arguments.end()
    return config


def loaded(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """The module with the reference's weights, each key of theirs and ours used, ready for inference."""
    module.load_state_dict(convert(dict(weights)), strict=True)
    return module.eval()


def compare_gradients(case: Case, module: nn.Module, compare: Comparison) -> None:
    """The length of each parameter's gradient, where the case tells them; None: not on the graph."""
    if "grad_l2" not in case.settings:
        return
    lengths, names = case.settings["grad_l2"], our_names(case.weights)
    ours = {name: value.grad for name, value in module.named_parameters()}
    assert {names[name] for name in lengths if name in names} == ours.keys()
    used = {name for name, ours_too in names.items() if name in lengths and ours[ours_too] is not None}
    assert used == {name for name, length in lengths.items() if length is not None}
    noise = NO_GRADIENT * max(lengths[name] for name in used)
    off = {name: change(ours[names[name]].norm().item(), lengths[name], noise) for name in used}
    worst = max(off, key=off.get)
    compare(f"grad_l2, worst {worst}", off[worst], 0.0, atol=GRADIENT)


def change(found: float, wanted: float, noise: float) -> float:
    """Relative difference; below the noise, 0 where both are."""
    return abs(found / wanted - 1) if wanted >= noise else float(found >= noise)


def our_names(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """The reference's name → ours, for what the converter keeps."""
    ours = {id(value): name for name, value in convert(dict(weights)).items()}
    return {name: ours[id(value)] for name, value in weights.items() if id(value) in ours}


def backward(case: Case, module: nn.Module, x: Tensor) -> Tensor:
    """The output at x, after the gradients of the scalar that the case names."""
    assert case.settings["grad_of"] in GRADIENTS_OF, f"unknown gradients of {case.settings['grad_of']!r}"
    module.zero_grad()
    out = module(x)
    GRADIENTS_OF[case.settings["grad_of"]](out).backward()
    return out


def tensor(case: Case, name: str) -> Tensor:
    """An array of the case."""
    return torch.from_numpy(case.arrays[name])


@kind("network", fits=made_by(*NETS))
def check_network(case: Case, _part: str, compare: Comparison) -> None:
    assert case.settings["input_transform"] == INPUT_TRANSFORM
    x = tensor(case, "input_u8").float() / 255
    for label, fused, allowed in (("", False, NET), ("fused ", True, FUSED_NET)):
        options = {"fusion": case.cls == "FFMNet", "fused": fused}
        net = loaded(NETS[case.cls](net_config(case.settings["kwargs"], **options)), case.weights)
        compare_outputs(case, net, x, compare, label=label, allowed=allowed)
        if "grad_l2" in case.settings:
            backward(case, net, x)
            compare_gradients(case, net, compare)


def compare_outputs(
    case: Case, net: nn.Module, x: Tensor, compare: Comparison, *, label: str, allowed: float
) -> None:
    """The encoder's maps, the output where the case kept it, and its statistics."""
    with torch.no_grad():
        maps, out = net.backbone.encoder(x), net(x)
    for i, found in enumerate(maps):
        compare(f"{label}feat{i}", found, case.arrays[f"feat{i}"], atol=allowed)
    assert tuple(out.shape) == tuple(case.settings["output_shape"])
    stride = case.settings.get("output_stride") or 1
    strided = (..., *(slice(None, None, stride),) * 3)
    assert case.holds("output") or case.holds("output_strided"), "no output to compare with"
    if case.holds("output"):
        compare(f"{label}output", out, case.arrays["output"], atol=allowed)
    if case.holds("output_strided"):
        compare(f"{label}output_strided", out[strided], case.arrays["output_strided"], atol=allowed)
    compare_statistics(case.settings["output_stats"], out.double(), compare, label=label, allowed=allowed)


def compare_statistics(
    wanted: Mapping, out: Tensor, compare: Comparison, *, label: str, allowed: float
) -> None:
    """Statistics of the whole output; sums as means, so that one tolerance holds for all."""
    assert wanted.keys() <= set(STATISTICS), f"unknown statistics {wanted.keys() - set(STATISTICS)}"
    count = out.numel()
    found = {
        "mean": out.mean(),
        "std": out.std(),
        "absmax": out.abs().max(),
        "sum": out.sum() / count,
        "sumsq": (out**2).sum() / count,
    }
    want = {name: value / count if name.startswith("sum") else value for name, value in wanted.items()}
    off = torch.stack([found[name] - value for name, value in want.items()])
    compare(f"{label}output_stats", off, torch.zeros(len(off)), atol=allowed)


@kind("routing attention", fits=made_by("BiLevelRoutingAttention"))
def check_attention(case: Case, _part: str, compare: Comparison) -> None:
    arguments = Arguments(case.settings["kwargs"])
    kernel = arguments.take("side_dwconv", default=3)
    config = attention_config(arguments, "identity", local_kernel=kernel)
    arguments.end()
    attention = loaded(RoutingAttention(config), case.weights)
    x = tensor(case, "x").requires_grad_()
    compare("out", backward(case, attention, x), case.arrays["out"], atol=MODULE)
    compare("grad_x", x.grad, case.arrays["grad_x"], atol=MODULE)
    compare_gradients(case, attention, compare)
    routed = attention.routed(x)
    compare.same("r_idx", routed.index, case.arrays["r_idx"])
    compare("r_weight", routed.weight, case.arrays["r_weight"], atol=MODULE)
    if case.holds("attn_weight"):
        compare("attn_weight", routed.attention, case.arrays["attn_weight"], atol=MODULE)


@kind("block", fits=made_by("Block"))
def check_block(case: Case, _part: str, compare: Comparison) -> None:
    compare_module(case, Block(block_config(case.settings["kwargs"])), compare)


@kind("super-resolution", fits=made_by("SRB"))
def check_super_resolution(case: Case, _part: str, compare: Comparison) -> None:
    arguments = Arguments(case.settings["kwargs"])
    module = SuperResolution(arguments.take("in_channels"), arguments.take("up_factor", default=2))
    arguments.end()
    compare_module(case, module, compare)


@kind("pyramid pooling", fits=made_by("PPB"))
def check_pyramid_pooling(case: Case, _part: str, compare: Comparison) -> None:
    arguments = Arguments(case.settings["kwargs"])
    channels = arguments.take("in_channels"), arguments.take("out_channels")
    module = PyramidPooling(*channels, tuple(arguments.take("pool_scales", default=(1, 2, 3, 6))))
    arguments.end()
    compare_module(case, module, compare)


def compare_module(case: Case, module: nn.Module, compare: Comparison) -> None:
    """The output of one part, x → out; gradients where the case has them."""
    module = loaded(module, case.weights)
    x = tensor(case, "x").requires_grad_(case.holds("grad_x"))
    out = backward(case, module, x) if "grad_of" in case.settings else module(x)
    compare("out", out, case.arrays["out"], atol=MODULE)
    if case.holds("grad_x"):
        compare("grad_x", x.grad, case.arrays["grad_x"], atol=MODULE)
    compare_gradients(case, module, compare)


def manifested(case: Case) -> list[str]:
    """The networks that a manifest of full-size networks describes."""
    described = case.settings if isinstance(case.settings, Mapping) else {}
    return [name for name, each in described.items() if isinstance(each, Mapping) and "state_dict" in each]


@kind("manifest", fits=lambda case: bool(manifested(case)), parts=manifested)
def check_manifest(case: Case, part: str, compare: Comparison) -> None:
    described = case.settings[part]
    assert part in NETS, f"unknown network {part!r}"
    with torch.device("meta"):
        weights = {name: torch.empty(shape) for name, shape in described["state_dict"].items()}
        net = NETS[part](net_config(described["kwargs_default"]))
    ours = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in convert(weights).items()} == ours
    dropped = weights.keys() - our_names(weights).keys()
    assert dropped == set(described["unused_in_forward"])
    buffers = [name for name in dropped if name.startswith("norm.") and name not in PARAMETERS_OF_BATCH_NORM]
    unused = sum(weights[name].numel() for name in dropped.difference(buffers))
    parameters = sum(value.numel() for value in net.parameters())
    compare.same("keys", len(weights), described["n_keys"])
    compare.same("parameters", parameters + unused, described["n_params"])
