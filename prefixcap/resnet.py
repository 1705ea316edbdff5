"""Plain ResNet of basic blocks (He et al. 2016, section 3), small enough to be trained here."""

from torch import Tensor, nn

from prefixcap.config import ResNetConfig


class StridedPointwise(nn.Conv2d):
    """1x1 convolution with a stride, without bias.

    The places that it looks at are taken out first: with fewer than 8 channels, channels last, the
    weight's gradient of oneDNN's own strided one writes past its memory on processors with AVX2
    (uxlfoundation/oneDNN issue 6035).
    """

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__(in_width, width, 1, bias=False)
        self.step = stride

    def forward(self, x: Tensor) -> Tensor:
        """Feature map (B, width, H / stride, W / stride) from (B, in_width, H, W)."""
        return super().forward(x[:, :, :: self.step, :: self.step])


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the first convolution may halve the resolution."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_width != width:
            self.shortcut = nn.Sequential(
                StridedPointwise(in_width, width, stride), nn.BatchNorm2d(width)
            )
        nn.init.zeros_(self.norm2.weight)  # each block starts as its shortcut (Goyal et al. 2017)

    def forward(self, x: Tensor) -> Tensor:
        """Feature map (B, width, H / stride, W / stride) from (B, in_width, H, W)."""
        out = self.act(self.norm1(self.conv1(x)))
        return self.act(self.norm2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet whose last grid, one cell per 32 pixels (4 stages), gives the patch tokens."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        stem = config.stem_width
        # Two strided 3x3 convolutions: 7x7 and a max pool would see too little of 128 pixels.
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 3, 2, padding=1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
            nn.Conv2d(stem, config.widths[0], 3, 2, padding=1, bias=False),
            nn.BatchNorm2d(config.widths[0]),
            nn.ReLU(inplace=True),
        )
        blocks, width = [], config.widths[0]
        for stage, (out_width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            for block in range(depth):
                stride = 2 if block == 0 and stage > 0 else 1
                blocks.append(BasicBlock(width, out_width, stride))
                width = out_width
        self.blocks = nn.Sequential(*blocks)

    def embedding_dim(self, output: str) -> int:
        """Width of the pooled embedding and of a patch token, which are the same here."""
        return self.config.widths[-1]

    def grid(self, pixel_values: Tensor) -> Tensor:
        """Last feature map (B, D, S/32, S/32) from pixels (B, 3, S, S)."""
        return self.blocks(self.stem(pixel_values))

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled embedding (B, D) and patch tokens (B, N, D), row by row, from (B, 3, S, S)."""
        patches = self.grid(pixel_values).flatten(2).transpose(1, 2)  # (B, N, D)
        return patches.mean(dim=1), patches
