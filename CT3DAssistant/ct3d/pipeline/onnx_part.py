"""A net as an ONNX file for one size of input, and that file at work in ONNX Runtime."""

import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import torch
from torch import Tensor, nn

from ct3d.errors import InvalidRequest

OPSET = 20  # the first whose Gelu is exact
OF_TORCH = "`isinstance\\(treespec, LeafSpec\\)` is deprecated"  # PyTorch's exporter, of itself
GPU, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
POLL_S = 0.1


def export(
    net: nn.Module, inputs: Mapping[str, Tensor], path: Path, *, longest: Mapping[str, int] | None = None
) -> None:
    """Write a net in float32; needs the packages onnx and onnxscript.

    Args:
        net: gives one tensor.
        inputs: name → example, in the order of the net's arguments; the file takes tensors of their shapes.
        path: of the file.
        longest: name of an input whose axis 1 may have any length up to this one.
    """
    free = {name: {1: torch.export.Dim(name, min=1, max=most)} for name, most in (longest or {}).items()}
    shapes = tuple(free.get(name, {}) for name in inputs)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", OF_TORCH, FutureWarning)
        program = torch.onnx.export(
            net.float().eval(),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=list(inputs),
            dynamic_shapes=shapes,
        )
    program.save(path)


class OnnxPart(nn.Module):
    """The net of such a file; needs the package onnxruntime.

    Runs on as many threads as PyTorch has when it is built. `check` is called ten times a second while it
    runs; what that raises ends the run.

    Raises:
        InvalidRequest: ONNX Runtime was told to use the GPU, and can't.
    """

    check: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, path: Path, device: str = "cpu"):
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.enable_cpu_mem_arena = False  # or what a run took stays taken; costs no time
        wanted = [GPU] if device == "cuda" and GPU in onnxruntime.get_available_providers() else []
        self.session = onnxruntime.InferenceSession(path, options, providers=[*wanted, CPU])
        if strange := set(wanted) - set(self.session.get_providers()):
            raise InvalidRequest(
                f"ONNX Runtime has {', '.join(strange)}, and it doesn't start. Install the onnxruntime-gpu "
                'that fits this CUDA, or take `runtime = "onnx"` out of the card.'
            )
        self.names = [each.name for each in self.session.get_inputs()]
        self.memory_bytes = Path(path).stat().st_size

    def forward(self, *given: object) -> Tensor:
        """As many of the arguments as the file has inputs: a net may be called with more than it looks at."""
        from onnxruntime import RunOptions

        tensors = [each for each in given[: len(self.names)] if isinstance(each, Tensor)]
        feed = {name: each.float().cpu().numpy() for name, each in zip(self.names, tensors)}
        options = RunOptions()
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self.session.run, None, feed, options)
            try:
                while not wait([running], POLL_S).done:
                    self.check()
            finally:
                options.terminate = not running.done()
        return torch.from_numpy(running.result()[0]).to(tensors[0].device)
