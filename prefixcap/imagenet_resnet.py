"""ResNet-18 to ResNet-152 (He et al. 2016) from torchvision's or timm's published weights."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from prefixcap.errors import InputError


@dataclass(frozen=True)
class ResNetSizes:
    """Blocks of each of the four stages, whether they are bottlenecks, and width of the stem."""

    depths: tuple[int, ...]
    bottleneck: bool
    stem_width: int = 64


SIZES = {
    "resnet18": ResNetSizes((2, 2, 2, 2), bottleneck=False),
    "resnet34": ResNetSizes((3, 4, 6, 3), bottleneck=False),
    "resnet50": ResNetSizes((3, 4, 6, 3), bottleneck=True),
    "resnet101": ResNetSizes((3, 4, 23, 3), bottleneck=True),
    "resnet152": ResNetSizes((3, 8, 36, 3), bottleneck=True),
}
STAGES = 4
EXPANSION = 4  # of a bottleneck's last convolution


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3 and 1x1, and a shortcut; the 3x3 one has the stride.

    The paper's bottlenecks have it in the first 1x1 convolution; the published weights do not.
    """

    def __init__(self, in_width: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out_width = width * (EXPANSION if bottleneck else 1)
        if bottleneck:
            shapes = [(in_width, width, 1, 1), (width, width, 3, stride), (width, out_width, 1, 1)]
        else:
            shapes = [(in_width, width, 3, stride), (width, out_width, 3, 1)]
        for number, (before, after, kernel, step) in enumerate(shapes, start=1):
            conv = nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(after))
        self.count = len(shapes)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_width != out_width:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_width, out_width, 1, stride, bias=False), nn.BatchNorm2d(out_width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Feature map (B, out, H / stride, W / stride) from (B, in, H, W)."""
        shortcut = self.downsample(x)
        for number in range(1, self.count + 1):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x))
            x = (x if number < self.count else x + shortcut).relu()
        return x


class ImageNetResNet(nn.Module):
    """ResNet without its classifier; its last grid gives the patches, their mean is pooled."""

    def __init__(self, sizes: ResNetSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.stem_width
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        for stage, depth in enumerate(sizes.depths):
            inner = sizes.stem_width * 2**stage
            blocks = []
            for number in range(depth):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(Block(width, inner, stride, sizes.bottleneck))
                width = inner * (EXPANSION if sizes.bottleneck else 1)
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.width = width

    def embedding_dim(self, output: str) -> int:
        """Width of the pooled embedding and of a patch token: 512, or 2048 with bottlenecks."""
        return self.width

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled (B, D) and patches (B, N, D), row by row, from pixels (B, 3, S, S)."""
        x = self.maxpool(self.bn1(self.conv1(pixel_values)).relu())
        for stage in range(1, STAGES + 1):
            x = getattr(self, f"layer{stage}")(x)
        patches = x.flatten(2).transpose(1, 2)  # (B, N, D)
        return patches.mean(dim=1), patches

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], source: str) -> Self:
        """Network with weights under torchvision's names, which are timm's too.

        The classifier `fc` is left out; sizes follow from the tensors.

        Raises:
            InputError: a tensor is missing, left over or of another shape; the first is named.
        """
        network = cls(_sizes_of(tensors, source)).eval()
        wanted = network.state_dict()
        left_over = sorted(n for n in set(tensors) - set(wanted) if not n.startswith("fc."))
        for name, tensor in wanted.items():
            if name not in tensors:
                if name.endswith("num_batches_tracked"):
                    continue  # old files have none; it plays no part here
                raise InputError(
                    f"{source}: tensor {name} is missing; expected a ResNet as torchvision or timm "
                    f"publish them, one of {', '.join(SIZES)}"
                )
            if tensors[name].shape != tensor.shape:
                raise InputError(
                    f"{source}: tensor {name} is {tuple(tensors[name].shape)}, a plain ResNet has "
                    f"{tuple(tensor.shape)}; wide and grouped ones are not supported"
                )
            with torch.no_grad():
                tensor.copy_(tensors[name])
        if left_over:
            raise InputError(
                f"{source}: tensor {left_over[0]} is not in a plain ResNet; variants of it are not "
                "supported"
            )
        return network


def sizes_named(name: str) -> ResNetSizes:
    """Sizes of the ResNet that a file's, folder's or hub model's name has in it.

    Raises:
        InputError: there is none in it.
    """
    found = re.search(r"resnet(18|34|50|101|152)(?!\d)", name.lower())
    if found is None:
        raise InputError(
            f"encoder imagenet_resnet {name!r}: its sizes are known from its weights only; name it "
            f"after one of {', '.join(SIZES)}"
        )
    return SIZES[found[0]]


def _sizes_of(tensors: Mapping[str, Tensor], source: str) -> ResNetSizes:
    """Sizes that the names and shapes of weights tell."""
    depths = []
    for stage in range(1, STAGES + 1):
        numbers = {name.split(".")[1] for name in tensors if name.startswith(f"layer{stage}.")}
        depths.append(len(numbers))
    stem = tensors.get("conv1.weight")
    if stem is None or 0 in depths:
        missing = "conv1.weight" if stem is None else f"layer{depths.index(0) + 1}.0.conv1.weight"
        raise InputError(
            f"{source}: tensor {missing} is missing; expected a ResNet as torchvision or timm "
            f"publish them, one of {', '.join(SIZES)}"
        )
    return ResNetSizes(tuple(depths), "layer1.0.conv3.weight" in tensors, len(stem))
