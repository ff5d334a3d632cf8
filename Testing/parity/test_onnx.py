"""A landmark net leaves for ONNX Runtime as it is: the card's tiny net, routing and all."""

import pytest
import torch

from ct3d.cards import load_card
from ct3d.models.h3denet import Config, HeatmapNet
from ct3d.pipeline.onnx_part import OnnxPart, export

pytest.importorskip("onnxscript", reason="the exporter is in requirements-train.txt")
pytest.importorskip("onnxruntime", reason="it is in requirements-train.txt")


def test_the_tiny_net_exported_to_onnx_gives_the_same_maps(tmp_path):
    torch.manual_seed(0)
    net = HeatmapNet(Config(**load_card("h3denet_headneck").tiny)).eval()
    export(net, {"x": torch.zeros(1, 2, 20, 24, 16)}, tmp_path / "net.onnx")
    again = OnnxPart(tmp_path / "net.onnx")
    for volume in torch.rand(2, 1, 2, 20, 24, 16):
        with torch.no_grad():
            torch.testing.assert_close(again(volume), net(volume), atol=2e-5, rtol=0.0)
