"""OpenAI CLIP's ResNet image encoders, RN50 to RN50x64, under OpenAI's weight names.

Radford et al. 2021, section 2.4: a ResNet with a stem of three convolutions, an average pool before
every strided convolution, and attention pooling in place of the average at the end.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prefixcap.errors import InputError

PREFIX = "visual."
EXPANSION = 4  # a bottleneck's output is 4 times as wide as its inner convolutions
STRIDE = 32  # pixels per cell of the last grid: 4 in the stem, 2 in each of three stages
HEAD_DIM = 64  # width of an attention-pooling head in all of OpenAI's models


@dataclass(frozen=True)
class ClipResNetSizes:
    """Sizes of a CLIP ResNet: blocks per stage, width of the stem, of the embedding, pixels."""

    layers: tuple[int, int, int, int]
    width: int
    heads: int
    image_size: int
    embedding_dim: int

    @property
    def grid_dim(self) -> int:
        """Width of a cell of the last grid."""
        return self.width * 8 * EXPANSION


OPENAI_SIZES = {  # Radford et al. 2021, table 19
    "RN50": ClipResNetSizes((3, 4, 6, 3), 64, 32, 224, 1024),
    "RN101": ClipResNetSizes((3, 4, 23, 3), 64, 32, 224, 512),
    "RN50x4": ClipResNetSizes((4, 6, 10, 6), 80, 40, 288, 640),
    "RN50x16": ClipResNetSizes((6, 8, 18, 8), 96, 48, 384, 768),
    "RN50x64": ClipResNetSizes((3, 15, 36, 10), 128, 64, 448, 1024),
}


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; an average pool does the striding."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * EXPANSION, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * EXPANSION)
        self.stride = stride
        self.downsample: nn.Module | None = None
        if stride > 1 or in_width != width * EXPANSION:
            self.downsample = nn.Sequential(  # named "0" and "1", as in OpenAI's weights
                nn.Conv2d(in_width, width * EXPANSION, 1, bias=False),
                nn.BatchNorm2d(width * EXPANSION),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Feature map (B, 4 * width, H / stride, W / stride) from (B, in_width, H, W)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self._pool(F.relu(self.bn2(self.conv2(out))))
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(self._pool(x))
        return F.relu(out + shortcut)

    def _pool(self, x: Tensor) -> Tensor:
        """Mean of every stride x stride square."""
        return F.avg_pool2d(x, self.stride) if self.stride > 1 else x


class AttentionPool(nn.Module):
    """Attention of the grid's mean over the mean itself and every cell."""

    def __init__(self, sizes: ClipResNetSizes) -> None:
        super().__init__()
        cells, dim = (sizes.image_size // STRIDE) ** 2, sizes.grid_dim
        self.heads = sizes.heads
        self.positional_embedding = nn.Parameter(torch.randn(cells + 1, dim) / dim**0.5)
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.c_proj = nn.Linear(dim, sizes.embedding_dim)

    def forward(self, grid: Tensor) -> Tensor:
        """Embedding (B, embedding_dim) from grid cells (B, N, D)."""
        tokens = torch.cat([grid.mean(dim=1, keepdim=True), grid], dim=1)  # (B, 1 + N, D)
        tokens = tokens + self.positional_embedding
        query, keys, values = self.q_proj(tokens[:, :1]), self.k_proj(tokens), self.v_proj(tokens)
        pooled = F.scaled_dot_product_attention(*map(self._split, (query, keys, values)))
        return self.c_proj(pooled.transpose(1, 2).flatten(1))  # (B, heads, 1, d) -> (B, D) -> out

    def _split(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) as heads (B, heads, N, D / heads)."""
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, D / heads)


class ClipResNet(nn.Module):
    """CLIP's ResNet; patch tokens are the cells of its last grid, before attention pooling."""

    def __init__(self, sizes: ClipResNetSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.image_size = sizes.image_size
        self.architecture = f"heads={sizes.heads}"  # the one size that no weight's shape tells
        width = sizes.width
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        in_widths = (width, width * 4, width * 8, width * 16)
        stages = [
            _stage(in_width, width * 2**stage, blocks, 1 if stage == 0 else 2)
            for stage, (in_width, blocks) in enumerate(zip(in_widths, sizes.layers, strict=True))
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.attnpool = AttentionPool(sizes)

    def embedding_dim(self, output: str) -> int:
        """Width of the pooled embedding, or of a patch token where `output` is "patches"."""
        return self.sizes.grid_dim if output == "patches" else self.sizes.embedding_dim

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled embedding (B, D) and patch tokens (B, N, grid_dim), from pixels (B, 3, S, S)."""
        # Channels last: a quarter faster on a CPU, and every layer hands the layout on.
        x = pixel_values.contiguous(memory_format=torch.channels_last)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.avg_pool2d(F.relu(self.bn3(self.conv3(x))), 2)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        patches = x.flatten(2).transpose(1, 2)  # (B, N, grid_dim)
        return self.attnpool(patches), patches

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], source: str, heads: int | None = None
    ) -> "ClipResNet":
        """Network with the weights `visual.*` of a CLIP model; other tensors are ignored.

        Args:
            tensors: weights under OpenAI's names, in any float type; they are read as float32.
            source: where they are from, for messages.
            heads: heads of the attention pooling; None is one per 64 of width, as in all of
                OpenAI's models.

        Raises:
            InputError: a tensor is missing, left over or of another shape.
        """
        visual = {
            name.removeprefix(PREFIX): tensor.float()
            for name, tensor in tensors.items()
            if name.startswith(PREFIX)
        }
        network = cls(sizes_from_tensors(visual, source, heads))
        fill(network, visual, source)
        return network.eval()


def sizes_from_tensors(
    visual: Mapping[str, Tensor], source: str, heads: int | None = None
) -> ClipResNetSizes:
    """Sizes that follow from the shapes of the weights, named without `visual.`.

    Raises:
        InputError: the weights are not those of a CLIP ResNet.
    """
    if "attnpool.positional_embedding" not in visual:
        found = "a CLIP ViT; load that by its hub name" if "class_embedding" in visual else "none"
        raise InputError(f"{source}: expected a CLIP ResNet's weights (visual.attnpool.*), {found}")
    for name in ("attnpool.c_proj.weight", "conv3.weight"):
        if name not in visual:
            raise InputError(f"{source}: tensor {PREFIX}{name} is missing")
    cells, dim = visual["attnpool.positional_embedding"].shape
    layers = tuple(_blocks(visual, stage) for stage in (1, 2, 3, 4))
    heads = heads or dim // HEAD_DIM
    if heads < 1 or dim % heads:
        raise InputError(f"{source}: {heads} attention heads do not divide a width of {dim}")
    return ClipResNetSizes(
        layers=layers,
        width=visual["conv3.weight"].shape[0],
        heads=heads,
        image_size=round((cells - 1) ** 0.5) * STRIDE,
        embedding_dim=visual["attnpool.c_proj.weight"].shape[0],
    )


def fill(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy tensors into a network; each has to be there, with the right shape, and no other.

    Raises:
        InputError: names the first tensor that is missing, left over or of another shape.
    """
    expected = network.state_dict()
    for name, tensor in expected.items():
        # Counts of training steps, which OpenAI's older files lack, play no part in inference.
        if name not in tensors and not name.endswith("num_batches_tracked"):
            raise InputError(f"{source}: tensor {PREFIX}{name} is missing")
        if name in tensors and tensors[name].shape != tensor.shape:
            found, wanted = tuple(tensors[name].shape), tuple(tensor.shape)
            raise InputError(f"{source}: tensor {PREFIX}{name} is {found}, expected {wanted}")
    extra = sorted(set(tensors) - set(expected))
    if extra:
        raise InputError(f"{source}: tensor {PREFIX}{extra[0]} is not part of a CLIP ResNet")
    network.load_state_dict({**expected, **tensors})


def _stage(in_width: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """Blocks at one resolution; the first halves it where `stride` is 2."""
    first = Bottleneck(in_width, width, stride)
    rest = [Bottleneck(width * EXPANSION, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def _blocks(visual: Mapping[str, Tensor], stage: int) -> int:
    """Number of blocks of a stage: one more than the highest that a weight names."""
    numbers = [int(n.split(".")[1]) for n in visual if n.startswith(f"layer{stage}.")]
    return max(numbers, default=0) + 1
