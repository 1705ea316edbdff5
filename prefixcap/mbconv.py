"""Network of inverted residuals (Tan & Le 2021), whose stages can be learned one by one."""

import torch
from torch import Tensor, nn

from prefixcap.config import MbConvConfig


class ConvNorm(nn.Sequential):
    """Convolution, batch-norm and, unless its output stays linear, ReLU."""

    def __init__(
        self, in_width: int, width: int, kernel: int, stride: int = 1, groups: int = 1, act=True
    ) -> None:
        layers = [
            nn.Conv2d(in_width, width, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(width),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if act else []))


class MbConv(nn.Module):
    """From few channels to many, a 3x3 convolution, a linear 1x1 back to few, and a shortcut.

    An inverted residual (Sandler et al. 2018, section 3.3). `fused`, one dense 3x3 convolution
    takes the place of the 1x1 expansion and the depthwise one (Tan & Le 2021, section 3.2): faster
    where few channels lie on a fine grid.
    """

    def __init__(self, in_width: int, width: int, hidden: int, stride: int, *, fused: bool) -> None:
        super().__init__()
        if fused:
            expand = [ConvNorm(in_width, hidden, 3, stride)]
        else:
            expand = [
                ConvNorm(in_width, hidden, 1),
                ConvNorm(hidden, hidden, 3, stride, groups=hidden),
            ]
        self.layers = nn.Sequential(*expand, ConvNorm(hidden, width, 1, act=False))
        self.has_shortcut = stride == 1 and in_width == width

    def forward(self, x: Tensor) -> Tensor:
        """Feature map (B, width, H / stride, W / stride) from (B, in_width, H, W)."""
        out = self.layers(x)
        return x + out if self.has_shortcut else out


class MbConvNet(nn.Module):
    """Stem, stages of inverted residuals, and a 1x1 convolution to the patch tokens.

    The first stage begins with the stem, the last ends with the 1x1 convolution; between two
    stages there are but `widths` channels, which another network's features can be compared with.
    """

    def __init__(self, config: MbConvConfig) -> None:
        super().__init__()
        self.config = config
        width, stages = config.stem_width, []
        sizes = (config.widths, config.hidden, config.depths, config.strides, config.fused)
        for out_width, hidden, depth, first_stride, fused in zip(*sizes, strict=True):
            blocks: list[nn.Module] = []
            for block in range(depth):
                stride = first_stride if block == 0 else 1
                blocks.append(MbConv(width, out_width, hidden, stride, fused=fused))
                width = out_width
            stages.append(blocks)
        stages[0].insert(0, ConvNorm(3, config.stem_width, 3, 2))
        stages[-1].append(ConvNorm(width, config.last_width, 1))
        self.parts = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages)

    def embedding_dim(self, output: str) -> int:
        """Width of the pooled embedding and of a patch token, which are the same here."""
        return self.config.last_width

    def stages(self) -> list[nn.Module]:
        """Its parts, from pixels to the patches."""
        return list(self.parts)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled embedding (B, D) and patch tokens (B, N, D), row by row, from (B, 3, S, S)."""
        x = pixel_values.contiguous(memory_format=torch.channels_last)
        for part in self.parts:
            x = part(x)
        patches = x.flatten(2).transpose(1, 2)  # (B, N, D)
        return patches.mean(dim=1), patches
