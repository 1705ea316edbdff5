"""A run in TensorBoard: its numbers, and dev photos with what is written about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prefixcap.errors import InputError


@dataclass(frozen=True)
class Sample:
    """A dev photo (H, W, 3) uint8, the caption written about it, and one of its own."""

    pixels: np.ndarray
    caption: str
    reference: str


class Board:
    """Event files of TensorBoard in a folder.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError(
                "train.tensorboard: TensorBoard is not installed: pip install "
                "'prefixcap[tensorboard]'"
            ) from error
        self.writer = SummaryWriter(str(folder))

    def scalars(self, step: int, values: dict[str, object]) -> None:
        """Every number of `values`, under its name."""
        for name, value in values.items():
            if isinstance(value, int | float):
                self.writer.add_scalar(name, value, step)

    def samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Photos with their captions, to be compared from one validation to the next."""
        for number, sample in enumerate(samples):
            self.writer.add_image(f"dev photo {number}", sample.pixels, step, dataformats="HWC")
            text = f"{sample.caption}\n\nreference: {sample.reference}"
            self.writer.add_text(f"dev photo {number}", text, step)
        self.writer.flush()
