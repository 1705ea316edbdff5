"""Network of fused inverted residuals (Tan & Le 2021), whose stages can be learned one by one."""

from torch import Tensor, nn

from prefixcap.config import FusedMbConvConfig


class ConvNorm(nn.Sequential):
    """Convolution, batch-norm and, unless its output stays linear, ReLU."""

    def __init__(self, in_width: int, width: int, kernel: int, stride: int = 1, act=True) -> None:
        layers = [
            nn.Conv2d(in_width, width, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(width),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if act else []))


class FusedMbConv(nn.Module):
    """A 3x3 convolution to many channels, a linear 1x1 back to few, a shortcut between the few.

    EfficientNetV2's block (Tan & Le 2021, section 3.2): where few channels carry the features, as
    in MobileNetV2, and a dense convolution runs faster than a depthwise one with its expansion.
    """

    def __init__(self, in_width: int, width: int, hidden: int, stride: int) -> None:
        super().__init__()
        self.expand = ConvNorm(in_width, hidden, 3, stride)
        self.project = ConvNorm(hidden, width, 1, act=False)
        self.has_shortcut = stride == 1 and in_width == width

    def forward(self, x: Tensor) -> Tensor:
        """Feature map (B, width, H / stride, W / stride) from (B, in_width, H, W)."""
        out = self.project(self.expand(x))
        return x + out if self.has_shortcut else out


class FusedMbConvNet(nn.Module):
    """Stem, stages of fused inverted residuals, and a 1x1 convolution to the patch tokens.

    The first stage begins with the stem, the last ends with the 1x1 convolution; between two
    stages there are but `widths` channels, which another network's features can be compared with.
    """

    def __init__(self, config: FusedMbConvConfig) -> None:
        super().__init__()
        self.config = config
        width, stages = config.stem_width, []
        sizes = zip(config.widths, config.hidden, config.depths, config.strides, strict=True)
        for out_width, hidden, depth, first_stride in sizes:
            blocks: list[nn.Module] = []
            for block in range(depth):
                stride = first_stride if block == 0 else 1
                blocks.append(FusedMbConv(width, out_width, hidden, stride))
                width = out_width
            stages.append(blocks)
        stages[0].insert(0, ConvNorm(3, config.stem_width, 3, 2))
        stages[-1].append(ConvNorm(width, config.last_width, 1))
        self.layers = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages)

    def embedding_dim(self, output: str) -> int:
        """Width of the pooled embedding and of a patch token, which are the same here."""
        return self.config.last_width

    def stages(self) -> list[nn.Sequential]:
        """Its parts, from pixels to the patches."""
        return list(self.layers)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled embedding (B, D) and patch tokens (B, N, D), row by row, from (B, 3, S, S)."""
        x = pixel_values
        for stage in self.layers:
            x = stage(x)
        patches = x.flatten(2).transpose(1, 2)  # (B, N, D)
        return patches.mean(dim=1), patches
