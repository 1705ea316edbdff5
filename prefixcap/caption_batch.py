"""Captions of several images as a model's loss takes them."""

from dataclasses import dataclass

from torch import Tensor

from prefixcap.errors import InputError


@dataclass(frozen=True)
class CaptionBatch:
    """M captions of B images.

    Attributes:
        embeddings: (B, D) or (B, N, D) float.
        ids: (M, T) int64, right-padded with IGNORED; with the end token where one is trained.
        image_rows: (M,) int64, the image of each caption, ascending.
        weights: (M,) float32, what the loss of each caption is multiplied by; may be negative (a
            caption to unlearn). None: all 1.
    """

    embeddings: Tensor
    ids: Tensor
    image_rows: Tensor
    weights: Tensor | None = None


def check_weights(batch: CaptionBatch) -> None:
    """Nothing, where the batch has one weight per caption, or none at all.

    Raises:
        InputError: there are other weights.
    """
    weights, expected = batch.weights, (len(batch.ids),)
    if weights is not None and weights.shape != expected:
        raise InputError(
            f"weights have the shape {tuple(weights.shape)}, expected {expected}: one per caption"
        )
