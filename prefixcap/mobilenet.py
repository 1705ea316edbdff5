"""MobileNetV2 1.0 (Sandler et al. 2018), read from int8 weights with batch-norm folded in."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prefixcap.errors import InputError

# Expansion, output width, repeats, first stride (Sandler et al. 2018, table 2).
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LAST_WIDTH = 1280
CLASSES = 1000


class FoldedConv(nn.Module):
    """Convolution with bias (batch-norm folded in) and, unless it projects, ReLU6."""

    def __init__(
        self, in_width: int, width: int, kernel: int, stride: int = 1, groups: int = 1, act=True
    ) -> None:
        super().__init__()
        self.act = act
        # Stride 2 pads one pixel at the right and the bottom only, as TensorFlow's "same" does.
        self.pad = (0, 1, 0, 1) if stride == 2 else None
        padding = 0 if stride == 2 else kernel // 2
        self.conv = nn.Conv2d(in_width, width, kernel, stride, padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Feature map (B, width, H / stride, W / stride)."""
        x = self.conv(F.pad(x, self.pad) if self.pad else x)
        return F.relu6(x) if self.act else x


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; with a shortcut where the shape stays."""

    def __init__(self, in_width: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_width * expansion
        layers = [FoldedConv(in_width, hidden, 1)] if expansion != 1 else []
        layers.append(FoldedConv(hidden, hidden, 3, stride, groups=hidden))
        layers.append(FoldedConv(hidden, width, 1, act=False))
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and in_width == width

    def forward(self, x: Tensor) -> Tensor:
        """Feature map (B, width, H / stride, W / stride)."""
        return x + self.layers(x) if self.shortcut else self.layers(x)


class MobileNetV2(nn.Module):
    """MobileNetV2; its last feature map gives the patches, its mean the pooled embedding."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [FoldedConv(3, 32, 3, 2)]
        width = 32
        for expansion, out_width, repeats, first_stride in STAGES:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                layers.append(InvertedResidual(width, out_width, stride, expansion))
                width = out_width
        layers.append(FoldedConv(width, LAST_WIDTH, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(LAST_WIDTH, CLASSES)

    def embedding_dim(self, output: str) -> int:
        """Width of the pooled embedding and of a patch token, 1280."""
        return LAST_WIDTH

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled embedding (B, 1280) and patches (B, N, 1280) from pixels (B, 3, S, S) in -1..1."""
        patches = self.features(pixel_values).flatten(2).transpose(1, 2)  # (B, N, 1280)
        return patches.mean(dim=1), patches

    @classmethod
    def from_int8_npz(cls, path: Path) -> "MobileNetV2":
        """Network with the weights of an npz of NN.weight_int8, NN.scale and NN.bias, in order.

        Raises:
            InputError: the file is missing, or a layer is missing or of another shape.
        """
        model = cls()
        layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        try:
            with np.load(path, allow_pickle=False) as arrays:
                for index, layer in enumerate(layers):
                    _fill(layer, arrays, index, path)
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: expected an npz of MobileNetV2 weights ({error})") from error
        return model.eval()


def _fill(layer: nn.Conv2d | nn.Linear, arrays, index: int, path: Path) -> None:
    """Copy layer `index` of the file into `layer`; weight = int8 * scale per output channel."""
    names = [f"{index:02d}.{part}" for part in ("weight_int8", "scale", "bias")]
    absent = [name for name in names if name not in arrays]
    if absent:
        raise InputError(f"{path}: {absent[0]} is missing; expected MobileNetV2 1.0 in int8")
    quantised, scale, bias = (torch.from_numpy(arrays[name].astype(np.float32)) for name in names)
    weight = quantised * scale.view(-1, *[1] * (quantised.ndim - 1))
    expected = tuple(layer.weight.shape)
    if tuple(weight.shape) != expected:
        raise InputError(f"{path}: {names[0]} is {tuple(weight.shape)}, expected {expected}")
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
