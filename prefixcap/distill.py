"""Distillation: a small encoder learns a larger one's grid, classes and the captions' words."""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prefixcap.encoder import ImageEncoder
from prefixcap.recipe import DistillConfig

RARE = -5.0  # log-odds of a word in a caption before anything is learned; most are this rare


@dataclass(frozen=True)
class DistillBatch:
    """Views of photos beside what the teacher says of the whole photo.

    `pixels` (B, 3, S, S) float32; `grid` (B, G, G, D) the teacher's patches of the whole photo;
    `boxes` (B, 4) float32, left, top, right, bottom of each view as shares of the photo;
    `mirrored` (B,) bool; `words` (B, W) float32, 1 for a word that one of the captions has;
    `captioned` (B,) bool, False where a photo has no captions; `pasted` (B, N) bool, the cells of
    the student's grid that show the view before in the batch (None: no cell), see `paste`.
    """

    pixels: Tensor
    grid: Tensor
    boxes: Tensor
    mirrored: Tensor
    words: Tensor
    captioned: Tensor
    pasted: Tensor | None = None


@dataclass(frozen=True)
class TeacherStatistics:
    """How a teacher's patches vary over photos.

    Attributes:
        mean: (D,) of its patches.
        std: (D,) of its patches.
        components: (D, K), the pooled vectors' principal components, each of a variance in
            proportion to its standard deviation, of mean 1: what photos differ in most counts most,
            but not so much that the rest is not learned.
    """

    mean: Tensor
    std: Tensor
    components: Tensor

    @classmethod
    def of(cls, grids: Tensor, components: int) -> Self:
        """Of the patches (M, N, D) of many photos; at most `components` of them."""
        patches = grids.flatten(0, 1)  # (M * N, D)
        pooled = grids.mean(1)  # (M, D)
        variances, directions = torch.linalg.eigh((pooled - pooled.mean(0)).T.cov())
        deviations = variances.flip(0)[:components].clamp(min=1e-12).sqrt()  # (K,)
        scale = (deviations.mean() * deviations).rsqrt()
        return cls(
            patches.mean(0),
            patches.std(0).clamp(min=1e-3),
            directions.flip(1)[:, :components] * scale,
        )


class Distiller(nn.Module):
    """Student encoder with throw-away heads; only `encoder.*` is wanted afterwards."""

    def __init__(
        self,
        encoder: ImageEncoder,
        classifier: nn.Linear | None,
        teacher: TeacherStatistics,
        config: DistillConfig,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = config
        width = encoder.embedding_dim
        self.to_grid = nn.Linear(width, len(teacher.mean))
        self.to_components = nn.Linear(width, teacher.components.shape[1])
        self.to_words = nn.Linear(width, config.words)
        nn.init.constant_(self.to_words.bias, RARE)
        self.classifier = classifier.requires_grad_(False) if classifier is not None else None
        self.register_buffer("grid_mean", teacher.mean, persistent=False)
        self.register_buffer("grid_std", teacher.std, persistent=False)
        self.register_buffer("components", teacher.components, persistent=False)

    def loss(self, batch: DistillBatch) -> tuple[Tensor, int, dict[str, float]]:
        """Summed loss over the batch, the number of photos, and each part's mean for the log."""
        pixels = batch.pixels if batch.pasted is None else paste(batch.pixels, batch.pasted)
        _, patches = self.encoder.network(pixels)  # (B, N, D)
        side = int(patches.shape[1] ** 0.5)
        target = cut_grid(batch.grid.float(), batch.boxes, batch.mirrored, side)  # (B, N, G)
        if batch.pasted is not None:
            target = torch.where(batch.pasted[..., None], target.roll(1, 0), target)
        told = self.to_grid(patches)  # (B, N, G), standardised
        patches, told = patches.float(), told.float()
        standard = (target - self.grid_mean) / self.grid_std
        parts = {
            "grid": self.config.grid_weight * F.mse_loss(told, standard),
            "cosine": self.config.cosine_weight
            * (1 - F.cosine_similarity(told.mean(1), standard.mean(1), dim=-1)).mean(),
        }
        if self.classifier is not None and self.config.classes_weight:
            parts["classes"] = self.config.classes_weight * self._class_loss(told, target)
        if self.config.components_weight:
            said = self.to_components(patches.mean(1)).float()  # (B, K)
            wanted = (target.mean(1) - self.grid_mean) @ self.components
            parts["components"] = self.config.components_weight * F.mse_loss(said, wanted)
        if self.config.words_weight:
            logits = self.to_words(patches.mean(1))  # (B, W)
            parts["words"] = self.config.words_weight * self._word_loss(logits, batch)
        total = torch.stack(list(parts.values())).sum()
        size = len(batch.pixels)
        return total * size, size, {name: float(part.detach()) for name, part in parts.items()}

    def _class_loss(self, told: Tensor, target: Tensor) -> Tensor:
        """Divergence of softened class distributions (Hinton et al. 2015, section 2)."""
        heat = self.config.temperature
        pooled = (told * self.grid_std + self.grid_mean).mean(1)  # (B, G)
        student = F.log_softmax(self.classifier(pooled).float() / heat, dim=-1)
        teacher = F.log_softmax(self.classifier(target.mean(1)).float() / heat, dim=-1)
        return heat**2 * F.kl_div(student, teacher, log_target=True, reduction="batchmean")

    def _word_loss(self, logits: Tensor, batch: DistillBatch) -> Tensor:
        """Binary cross-entropy of the captions' words, summed over words, captioned photos only.

        Of two photos in one picture, the words count by the area that each has.
        """
        words, captioned = batch.words, batch.captioned
        if batch.pasted is not None:
            area = batch.pasted.float().mean(1, keepdim=True)  # (B, 1)
            words = torch.lerp(words, words.roll(1, 0), area)
            captioned = captioned & (captioned.roll(1, 0) | (area[:, 0] == 0))
        each = F.binary_cross_entropy_with_logits(logits.float(), words, reduction="none")
        captioned = captioned.float()
        return (each.sum(1) * captioned).sum() / captioned.sum().clamp(min=1)


def paste(pixels: Tensor, pasted: Tensor) -> Tensor:
    """Pixels (B, 3, S, S) with the cells `pasted` (B, N) bool taken from the picture before.

    CutMix (Yun et al. 2019) along the cells of the student's grid, so that the teacher's cells of
    both pictures are the target. The first picture's cells come from the last one.
    """
    side = int(pasted.shape[1] ** 0.5)
    cell = pixels.shape[-1] // side
    mask = pasted.view(-1, 1, side, side).repeat_interleave(cell, 2).repeat_interleave(cell, 3)
    return torch.where(mask, pixels.roll(1, 0), pixels)


def cut_grid(grid: Tensor, boxes: Tensor, mirrored: Tensor, side: int) -> Tensor:
    """Teacher's patches (B, side * side, D) of the views, from (B, G, G, D) of whole photos.

    Each cell is the mean of 2x2 bilinear samples in its part of `boxes` (B, 4), in shares of the
    photo; `mirrored` (B,) views are read from right to left.
    """
    left, top, right, bottom = boxes.unbind(1)
    left, right = torch.where(mirrored, right, left), torch.where(mirrored, left, right)
    across = _bilinear_weights(left, right, side, grid.shape[2])  # (B, side, G)
    down = _bilinear_weights(top, bottom, side, grid.shape[1])
    rows = torch.einsum("bsg,bgwd->bswd", down, grid)  # (B, side, G, D)
    return torch.einsum("btw,bswd->bstd", across, rows).flatten(1, 2)  # (B, side * side, D)


def _bilinear_weights(start: Tensor, end: Tensor, side: int, cells: int) -> Tensor:
    """Weight (B, side, G) of each of G cells in `side` equal parts of start..end, both (B,)."""
    centres = (torch.arange(side * 2, dtype=torch.float32, device=start.device) + 0.5) / (side * 2)
    place = (start[:, None] + (end - start)[:, None] * centres) * cells - 0.5  # (B, 2 * side)
    place = place.clamp(0, cells - 1)  # beyond the outermost centres the edge cell goes on
    distance = place[..., None] - torch.arange(cells, device=start.device)
    return (1 - distance.abs()).clamp(min=0).unflatten(1, (side, 2)).mean(2)  # (B, side, G)
