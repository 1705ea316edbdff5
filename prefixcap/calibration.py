"""How often a caption with a certain score is right, found on a dev split."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prefixcap import atomic
from prefixcap.captioner import Captioner
from prefixcap.config import Calibration
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError
from prefixcap.evaluate import BATCH, open_photos
from prefixcap.images import Skipped
from prefixcap.metrics import score
from prefixcap.model_files import CONFIG_FILE, open_model

LEAST_IMAGES = 50  # fewer say too little about two numbers
NEWTON_STEPS = 30
RIDGE = 1e-3  # keeps the curve finite where one score parts right from wrong


@dataclass(frozen=True)
class Calibrated:
    """A calibration and what it was found on.

    Attributes:
        calibration: the curve.
        scores: (M,) float64, mean log-probability of each caption.
        right: (M,) bool, whether it agrees with its references as people's captions do.
        skipped: photos that could not be read.
    """

    calibration: Calibration
    scores: np.ndarray
    right: np.ndarray
    skipped: list[Skipped]

    def bins(self, count: int = 5) -> list[tuple[float, float, int]]:
        """(mean confidence, share that is right, captions) of equally full bins, least sure first.

        They agree where the calibration holds.
        """
        sure = np.array([self.calibration.confidence(value) for value in self.scores])
        parts = np.array_split(np.argsort(sure, kind="stable"), count)
        return [(sure[part].mean(), self.right[part].mean(), len(part)) for part in parts]

    def kept(self, confidence: float) -> tuple[float, float]:
        """Share of captions at least that sure, and the share of these that is right (or nan)."""
        chosen = np.array([self.calibration.confidence(s) >= confidence for s in self.scores])
        return float(chosen.mean()), float(self.right[chosen].mean()) if chosen.any() else np.nan


def calibrate(
    captioner: Captioner,
    records: Sequence[CaptionRecord],
    on_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Calibrated:
    """Calibration of a model with the decoding that it was saved with.

    A caption is taken for right where its CIDEr-D against the references reaches what one human
    caption has, on average, against the others of its photo.

    Raises:
        InputError: too few photos that can be read and have two captions or more.
    """
    usable = [record for record in records if len(record.captions) > 1]
    scores, texts, skipped = {}, {}, []
    for start in range(0, len(usable), BATCH):
        batch, images, unread = open_photos(usable[start : start + BATCH])
        skipped += unread
        for record, caption in zip(batch, captioner.caption(images), strict=True):
            scores[record.image_id], texts[record.image_id] = caption.score, caption.text
        on_progress("photos", min(start + BATCH, len(usable)), len(usable))
    if len(scores) < LEAST_IMAGES:
        raise InputError(
            f"{len(scores)} photos can be read and have two captions or more; a calibration needs "
            f"{LEAST_IMAGES}, better 1,000"
        )
    references = {r.image_id: r.captions for r in usable if r.image_id in texts}
    level = human_level(references)
    per_image = score(texts, references, ("cider",)).per_image["CIDEr"]
    values = np.array([scores[image_id] for image_id in references])
    right = np.array([per_image[image_id] >= level for image_id in references])
    intercept, slope = logistic(values, right)
    curve = Calibration(intercept=intercept, slope=slope, right_from=level, images=len(values))
    return Calibrated(curve, values, right, skipped)


def human_level(references: dict[str, Sequence[str]]) -> float:
    """Mean CIDEr-D (0 to 10) of each image's first caption against its others."""
    first = {image_id: captions[0] for image_id, captions in references.items()}
    others = {image_id: captions[1:] for image_id, captions in references.items()}
    return score(first, others, ("cider",)).corpus["CIDEr"]


def logistic(values: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Intercept and slope of the logistic regression of `right` (M,) on `values` (M,)."""
    columns = np.stack([np.ones_like(values), values], axis=1)  # (M, 2)
    weights = np.zeros(2)
    for _ in range(NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-columns @ weights))
        gradient = columns.T @ (chance - right) + RIDGE * weights
        curvature = (columns * (chance * (1 - chance))[:, None]).T @ columns + RIDGE * np.eye(2)
        weights -= np.linalg.solve(curvature, gradient)
    return float(weights[0]), float(weights[1])


def store_calibration(folder: Path, calibration: Calibration) -> None:
    """Put the calibration into the settings of the model in `folder`, in one moment.

    Raises:
        InputError: the folder holds no model.
    """
    open_model(str(folder))
    config = folder / CONFIG_FILE
    values = json.loads(config.read_text(encoding="utf-8"))
    atomic.write_json(config, {**values, "calibration": calibration.model_dump(mode="json")})
