"""The plain ResNet's grid, pooling and start."""

import pytest
import torch
from torch import nn

from prefixcap.config import ResNetConfig
from prefixcap.resnet import BasicBlock, ResNet, StridedPointwise

TINY = ResNetConfig(stem_width=16, widths=(16, 24, 32), depths=(1, 2, 1))


def test_pooled_is_the_mean_of_the_patches():
    model = ResNet(TINY).eval()
    pooled, patches = model(torch.randn(2, 3, 64, 64))
    assert patches.shape == (2, 16, 32)  # stride 4 of the stem, 4 of two later stages
    torch.testing.assert_close(pooled, patches.mean(1))


def test_patches_stand_row_by_row():
    torch.manual_seed(0)
    model = ResNet(TINY).eval()
    pixels = torch.zeros(1, 3, 64, 64)
    still = model(pixels)[1]
    pixels[:, :, :16, -16:] = 1.0  # top right corner: cell 3 of the first row
    moved = (model(pixels)[1] - still).abs().sum(-1)[0]
    assert int(moved.argmax()) == 3


@pytest.mark.parametrize(("side", "layout"), [(8, "channels_last"), (9, "contiguous_format")])
def test_a_narrow_strided_convolution_is_what_torch_computes(side, layout):
    torch.manual_seed(0)
    layer, plain = StridedPointwise(4, 8, 2), nn.Conv2d(4, 8, 1, 2, bias=False)
    plain.load_state_dict(layer.state_dict())
    x, memory_format = torch.randn(4, 4, side, side), getattr(torch, layout)
    found = layer.to(memory_format=memory_format)(x.to(memory_format=memory_format))
    torch.testing.assert_close(found, plain(x))
    found.square().sum().backward()  # where torch's own does so, channels last, memory is damaged
    plain(x).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad)


def test_a_new_block_is_its_shortcut():
    block = BasicBlock(4, 4, 1).eval()
    x = torch.rand(1, 4, 8, 8)
    torch.testing.assert_close(block(x), x)
