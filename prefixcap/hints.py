"""Distillation stage by stage: a student's features between its stages become its teacher's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from prefixcap.batches import PixelSource, epoch_order, steps_per_epoch
from prefixcap.encoder import ImageEncoder
from prefixcap.errors import InputError
from prefixcap.processes import ALONE, Processes
from prefixcap.recipe import HintConfig, TrainConfig

VARIANCE_PHOTOS = 128  # looks that the variance of the teacher's channels is taken from
LEAST_VARIANCE = 1e-3  # of a channel, so that one that hardly ever speaks does not count for much


@dataclass(frozen=True)
class PhotoBatch:
    """Views of photos: `pixels` (B, 3, S, S) float32, which both networks take."""

    pixels: Tensor


class PhotoBatches:
    """Random views of photos, each photo once an epoch."""

    def __init__(
        self, source: PixelSource, config: TrainConfig, processes: Processes = ALONE
    ) -> None:
        """Batches of the photos that can be read."""
        self.source, self.processes = source, processes
        self.images_per_step, self.seed = config.images_per_step, config.seed
        self.rows = np.flatnonzero(source.photos.readable)
        self.steps_per_epoch = steps_per_epoch(len(self.rows), config)

    def batch(self, step: int) -> PhotoBatch:
        """The batch of one step, the same at every call."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = epoch_order(len(self.rows), self.seed, epoch)
        chosen = order[place * self.images_per_step : (place + 1) * self.images_per_step]
        generator = np.random.default_rng((self.seed, 1, step))
        mine = self.processes.share(len(chosen))
        pixels, _ = self.source.images(self.rows[chosen], generator, mine)
        return PhotoBatch(pixels)

    def some(self, count: int) -> Tensor:
        """Pixels (count, 3, S, S) of one view each of photos evenly spread, always the same."""
        rows = self.rows[np.linspace(0, len(self.rows) - 1, min(count, len(self.rows))).astype(int)]
        return self.source.images(rows, np.random.default_rng((self.seed, 2)))[0]


class HintDistiller(nn.Module):
    """Student encoder beside the stages of its teacher; only `encoder.*` is learned and saved.

    Both networks have `stages()`, parts that take (B, C, H, W) one from the other. The error of a
    stage is the mean over channels of the squared error in units of the channel's variance in the
    teacher: 1 where the student says no more than the channel's mean.
    """

    def __init__(
        self, encoder: ImageEncoder, teacher: ImageEncoder, looks: Tensor, config: HintConfig
    ) -> None:
        """`looks` (M, 3, S, S) are views from which the variances are taken.

        Raises:
            InputError: the two networks have other stages, or see other pixels.
        """
        super().__init__()
        self.encoder, self.config = encoder, config
        check_preprocess(encoder, teacher)
        self._teacher = tuple(stages_of(teacher))  # a tuple: its weights are none of the task's
        ours = stages_of(encoder.eval())  # a look here is none that batch-norm learns from
        found, x = [], looks[:1]
        with torch.no_grad():
            for stage in ours:
                x = stage(x)
                found.append(x.shape)
        wanted = [part.shape for part in self._features(looks[:1])[1:]]
        if found != wanted:
            raise InputError(
                f"distill.hints: the student's stages give {_shapes(found)}, the teacher's "
                f"{_shapes(wanted)} (channels x cells x cells); set encoder.{encoder.config.kind}"
            )
        if config.shares and len(config.shares) != len(ours):
            raise InputError(
                f"distill.hints.shares: {len(config.shares)} for {len(ours)} stages; give one each"
            )
        for stage, part in enumerate(zip(*map(self._features, looks.split(32)), strict=True)):
            if stage:
                values = torch.cat(part).float().transpose(0, 1).flatten(1)  # (C, M * H * W)
                self.register_buffer(
                    f"variance_{stage}", values.var(1).clamp(min=LEAST_VARIANCE), persistent=False
                )

    @torch.no_grad()
    def _features(self, pixels: Tensor) -> list[Tensor]:
        """The pixels and what each stage of the teacher gives, (B, C, H, W)."""
        found, dtype = [pixels], next(self._teacher[0].parameters()).dtype
        x = pixels.to(dtype)
        for stage in self._teacher:
            x = stage.to(pixels.device)(x)
            found.append(x)
        return found

    def loss(self, batch: PhotoBatch) -> tuple[Tensor, int, dict[str, float]]:
        """Summed loss over the batch, the number of photos, and each part's mean for the log."""
        size, wanted = len(batch.pixels), self._features(batch.pixels)
        stages = stages_of(self.encoder)
        if self.config.forced:
            parts = self._forced(stages, wanted)
        else:
            parts = self._chained(stages, wanted)
        total = torch.stack(list(parts.values())).sum()
        return total * size, size, {name: float(part.detach()) for name, part in parts.items()}

    def _forced(self, stages: Sequence[nn.Module], wanted: Sequence[Tensor]) -> dict[str, Tensor]:
        """Errors of stages that see the teacher's features before them."""
        shares = self.config.shares or (1.0,) * len(stages)
        parts = {}
        for number, (stage, share) in enumerate(zip(stages, shares, strict=True), 1):
            count = max(1, round(share * len(wanted[0])))
            found = stage(wanted[number - 1][:count])
            parts[f"stage_{number}"] = self._error(number, found, wanted[number][:count])
        return parts

    def _chained(self, stages: Sequence[nn.Module], wanted: Sequence[Tensor]) -> dict[str, Tensor]:
        """Errors of stages that see what the stage before them gives, and of the pooled patches."""
        parts, x = {}, wanted[0]
        for number, stage in enumerate(stages, 1):
            x = stage(x)
            parts[f"stage_{number}"] = self._error(number, x, wanted[number])
        if self.config.pooled_weight:
            pooled = [part.float().mean((2, 3), keepdim=True) for part in (x, wanted[-1])]
            parts["pooled"] = self.config.pooled_weight * self._error(len(stages), *pooled)
        return parts

    def _error(self, number: int, found: Tensor, wanted: Tensor) -> Tensor:
        """Mean over channels of the squared error, in units of each one's variance."""
        squared = (found.float() - wanted.float()).square().mean((0, 2, 3))  # (C,)
        return (squared / self.get_buffer(f"variance_{number}")).mean()


def stages_of(encoder: ImageEncoder) -> list[nn.Module]:
    """Parts of an encoder's network, which give one another (B, C, H, W).

    Raises:
        InputError: a kind of encoder without them.
    """
    stages = getattr(encoder.network, "stages", None)
    if stages is None:
        raise InputError(
            f"distill.hints: an encoder of kind {encoder.config.kind!r} has no stages to compare; "
            "expected 'mobilenetv2' as the teacher and 'mbconv' as the student"
        )
    return stages()


def check_preprocess(encoder: ImageEncoder, teacher: ImageEncoder) -> None:
    """Raise where two encoders do not see the same pixels of a photo."""
    ours, theirs = encoder.config.preprocess, teacher.config.preprocess
    for name in type(ours).model_fields:
        if name == "resize_px" and ours.resize == "squash":
            continue  # no part of it
        if getattr(ours, name) != getattr(theirs, name):
            raise InputError(
                f"distill.hints: encoder.preprocess.{name} is {getattr(ours, name)}, the teacher's "
                f"{getattr(theirs, name)}; both see the same pixels, set one as the other"
            )


def _shapes(shapes: Sequence[Sequence[int]]) -> str:
    """Such as "24x48x48, 32x24x24"."""
    return ", ".join("x".join(map(str, shape[1:])) for shape in shapes)
