"""A landmark net as an ONNX file of one input size, and that file at work in ONNX Runtime."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

OPSET = 20  # the first whose Gelu is exact
OF_TORCH = "`isinstance\\(treespec, LeafSpec\\)` is deprecated"  # PyTorch's exporter, of itself


def export(net: nn.Module, example: Tensor, path: Path) -> None:
    """Write the net, for inputs of the example's shape."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", OF_TORCH, FutureWarning)
        program = torch.onnx.export(net.eval(), (example,), dynamo=True, opset_version=OPSET, verbose=False)
    program.save(path)


class OnnxNet(nn.Module):
    """The net of such a file, on one thread of the processor."""

    def __init__(self, path: Path):
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input_name = self.session.get_inputs()[0].name

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(None, {self.input_name: x.numpy()})[0])
