"""Captioners that teach another: their word probabilities beside the captions.

Hinton et al. 2015 (arXiv 1503.02531), section 2, at temperature 1.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from prefixcap.captioner import load_model
from prefixcap.embeddings import EmbeddingStore
from prefixcap.encoder import load_encoder
from prefixcap.errors import InputError
from prefixcap.loss_targets import Taught
from prefixcap.model import CaptionBatch, ClipCap
from prefixcap.recipe import Recipe, TeachersConfig, expand


class CaptionTeachers:
    """Captioners that see what their pupil sees; nothing of them is trained or saved.

    It is no module, so that neither optimizer nor checkpoints take the teachers' weights along.
    """

    def __init__(self, teachers: list[ClipCap], config: TeachersConfig) -> None:
        """`teachers` with their encoders, or without where embeddings come from a store."""
        self.teachers, self.config = teachers, config
        for teacher in teachers:
            teacher.eval().requires_grad_(False)

    @torch.no_grad()
    def taught(self, pixels: Tensor | None, captions: CaptionBatch) -> Taught:
        """What the teachers expect of `captions`, of photos `pixels` (B, 3, S, S) or a store."""
        total: Tensor | None = None
        for teacher in self.teachers:
            teacher.to(captions.ids.device)
            batch = captions
            if pixels is not None:
                batch = replace(captions, embeddings=teacher.encoder(pixels))
            found = teacher.expected(batch)  # (U, V)
            total = found if total is None else total.add_(found)
        return Taught(total.div_(len(self.teachers)), self.config.share)


def caption_teachers(recipe: Recipe, pupil: ClipCap) -> CaptionTeachers | None:
    """The teachers that a recipe names, where it names any.

    Raises:
        InputError: one of them is missing, has no language model, or was made for other words or
            other photos than the pupil.
    """
    if recipe.teachers is None:
        return None
    store = EmbeddingStore(expand(recipe.store)) if recipe.store else None
    teachers = [_teacher(expand(name), pupil, store) for name in recipe.teachers.models]
    return CaptionTeachers(teachers, recipe.teachers)


def _teacher(folder: Path, pupil: ClipCap, store: EmbeddingStore | None) -> ClipCap:
    """One teacher, found to fit the pupil."""
    teacher = load_model(folder)
    if not isinstance(teacher, ClipCap):
        raise InputError(f"{folder}: is an LSTM; teachers have a language model. Name another")
    if not teacher.tokenizer.has_words_of(pupil.tokenizer):
        raise InputError(
            f"{folder}: has another vocabulary than the model that it should teach; name a teacher "
            "whose language model came from the same run"
        )
    encoder = teacher.encoder or load_encoder(teacher.config.encoder)
    if store is not None:
        store.check_encoder(encoder)
        teacher.encoder = None  # the store has said what it would say
        return teacher
    own, given = encoder.config.preprocess, pupil.encoder.config.preprocess
    if own != given:
        raise InputError(
            f"{folder}: prepares photos in another way ({own}) than the model that it should teach "
            f"({given}); name a teacher with the same [encoder.preprocess]"
        )
    teacher.encoder = encoder
    return teacher
