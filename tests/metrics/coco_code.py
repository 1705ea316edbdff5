"""The COCO code's scorers, as an independent reference, and random captions to score."""

import contextlib
import io
import random

import numpy as np
import pytest

WORDS = ["a", "a", "the", "dog", "cat", "runs", "on", "grass", "red", "ball"]


def random_case(images: int, seed: int) -> tuple[list[str], list[list[str]]]:
    """Candidates and references of random words, some without any word."""
    generator = random.Random(seed)

    def caption() -> str:
        return " ".join(generator.choices(WORDS, k=generator.randint(0, 12)))

    references = [[caption() for _ in range(generator.randint(1, 5))] for _ in range(images)]
    return [caption() for _ in range(images)], references


def coco_scores(
    name: str, candidates: list[str], references: list[list[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Corpus and per-image values of "bleu", "rouge" or "cider" by pycocoevalcap."""
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    scorer = {"bleu": Bleu, "rouge": Rouge, "cider": Cider}[name]()
    truth = dict(enumerate(references))
    found = {row: [text] for row, text in enumerate(candidates)}
    with contextlib.redirect_stdout(io.StringIO()):
        corpus, per_image = scorer.compute_score(truth, found)
    return np.array(corpus), np.array(per_image)


def words(captions: list[str]) -> list[list[str]]:
    """Words of each caption."""
    return [caption.split() for caption in captions]


def word_groups(references: list[list[str]]) -> list[list[list[str]]]:
    """Words of each reference of each image."""
    return [words(group) for group in references]
