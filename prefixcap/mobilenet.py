"""MobileNetV2 1.0 (Sandler et al. 2018) from int8 weights, torchvision's or timm's."""

from collections.abc import Mapping
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
NORM, NORM_EPS = ("weight", "bias", "running_mean", "running_var"), 1e-5  # of batch-norm
CLASSES = 1000


class FoldedConv(nn.Module):
    """Convolution with bias (batch-norm folded in) and, unless it projects, ReLU6."""

    def __init__(
        self, in_width: int, width: int, kernel: int, stride: int = 1, groups: int = 1, act=True
    ) -> None:
        super().__init__()
        self.act = act
        self.pad: tuple[int, int, int, int] | None = None
        self.conv = nn.Conv2d(in_width, width, kernel, stride, kernel // 2, groups=groups)

    def pad_at_the_end(self) -> None:
        """With stride 2, pad one pixel at the right and the bottom only: TensorFlow's "same"."""
        if self.conv.stride == (2, 2):
            self.pad, self.conv.padding = (0, 1, 0, 1), (0, 0)

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

    def __init__(self, *, symmetric: bool = False) -> None:
        """Random weights.

        Args:
            symmetric: pad on all sides before stride 2, as torchvision and timm do; else as
                TensorFlow does, from which the int8 weights come.
        """
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
        self.architecture = "symmetric" if symmetric else ""
        if not symmetric:
            for layer in self._convolutions():
                layer.pad_at_the_end()

    def _convolutions(self) -> list[FoldedConv]:
        """Its 52 convolutions in order."""
        return [layer for layer in self.modules() if isinstance(layer, FoldedConv)]

    def embedding_dim(self, output: str) -> int:
        """Width of the pooled embedding and of a patch token, 1280."""
        return LAST_WIDTH

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled embedding (B, 1280) and patches (B, N, 1280) from pixels (B, 3, S, S) in -1..1."""
        patches = self.features(pixel_values).flatten(2).transpose(1, 2)  # (B, N, 1280)
        return patches.mean(dim=1), patches

    def stages(self) -> list[nn.Sequential]:
        """Its layers, cut where the features are narrow: at the ends of all stages but the first.

        The last is the one to the patches. From pixels one after the other they give 24, 32, 64,
        96, 160 and 1280 channels, at 4, 8, 16, 16, 32 and 32 pixels to a cell.
        """
        ends = [1 + sum(repeats for _, _, repeats, _ in STAGES[: n + 1]) for n in range(1, 6)]
        starts = [0, *ends]
        return [self.features[start:end] for start, end in zip(starts, [*ends, None], strict=True)]

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], source: str) -> "MobileNetV2":
        """Network with weights under torchvision's names or timm's, batch-norm beside or folded in.

        The classifier is taken where it is one of ImageNet's 1,000 classes; no embedding needs it.

        Raises:
            InputError: a tensor is missing, left over or of another shape; the first is named.
        """
        model = cls(symmetric=True)
        is_timm = "conv_stem.weight" in tensors
        names, classifier = _timm_names() if is_timm else _torchvision_names()
        used = {f"{classifier}.weight", f"{classifier}.bias"}
        for layer, (conv, norm) in zip(model._convolutions(), names, strict=True):
            used |= _fold(layer.conv, conv, norm, tensors, source)
        left_over = sorted(set(tensors) - used)
        if left_over:
            raise InputError(
                f"{source}: tensor {left_over[0]} is not in MobileNetV2 1.0; variants of it are "
                "not supported"
            )
        with torch.no_grad():
            for part, parameter in model.classifier.named_parameters():
                found = tensors.get(f"{classifier}.{part}")
                is_imagenets = found is not None and found.shape == parameter.shape
                parameter.copy_(found if is_imagenets else torch.zeros_like(parameter))
        return model.eval()

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


def _torchvision_names() -> tuple[list[tuple[str, str]], str]:
    """Names of each convolution and its batch-norm, and of the classifier."""
    names, block = [("features.0.0", "features.0.1")], 0
    for expansion, _, repeats, _ in STAGES:
        for _ in range(repeats):
            block += 1
            parts = [("0.0", "0.1"), ("1.0", "1.1"), ("2", "3")]
            if expansion == 1:
                parts = [("0.0", "0.1"), ("1", "2")]
            names += [
                (f"features.{block}.conv.{c}", f"features.{block}.conv.{n}") for c, n in parts
            ]
    last = f"features.{block + 1}"
    return [*names, (f"{last}.0", f"{last}.1")], "classifier.1"


def _timm_names() -> tuple[list[tuple[str, str]], str]:
    """The same as timm has them."""
    names = [("conv_stem", "bn1")]
    for stage, (expansion, _, repeats, _) in enumerate(STAGES):
        convs = ("conv_dw", "conv_pw") if expansion == 1 else ("conv_pw", "conv_dw", "conv_pwl")
        for repeat in range(repeats):
            block = f"blocks.{stage}.{repeat}"
            names += [(f"{block}.{c}", f"{block}.bn{n}") for n, c in enumerate(convs, start=1)]
    return [*names, ("conv_head", "bn2")], "classifier"


def _fold(
    layer: nn.Conv2d, conv: str, norm: str, tensors: Mapping[str, Tensor], source: str
) -> set[str]:
    """Fill `layer` from a convolution and the batch-norm after it; names of the tensors read.

    Without batch-norm it is folded in already, and the convolution has a bias.
    """
    wanted = {f"{conv}.weight": layer.weight.shape}
    folded = f"{conv}.bias" in tensors
    parts = [f"{conv}.bias"] if folded else [f"{norm}.{part}" for part in NORM]
    wanted |= dict.fromkeys(parts, layer.bias.shape)
    for name, shape in wanted.items():
        if name not in tensors:
            raise InputError(
                f"{source}: tensor {name} is missing; expected MobileNetV2 1.0 as torchvision "
                "(mobilenet_v2) or timm (mobilenetv2_100) publish it"
            )
        if tensors[name].shape != shape:
            raise InputError(
                f"{source}: tensor {name} is {tuple(tensors[name].shape)}, MobileNetV2 1.0 has "
                f"{tuple(shape)}; other widths are not supported"
            )
    weight, *rest = (tensors[name].double() for name in wanted)
    with torch.no_grad():
        if folded:
            layer.weight.copy_(weight)
            layer.bias.copy_(rest[0])
        else:
            gain, bias, mean, variance = rest
            gain = gain / (variance + NORM_EPS).sqrt()
            layer.weight.copy_(weight * gain[:, None, None, None])
            layer.bias.copy_(bias - mean * gain)
    return {*wanted, f"{norm}.num_batches_tracked"}


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
