"""The caption stages of a recipe: language model alone, or the whole captioner."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from prefixcap.batches import (
    BlankSource,
    CaptionBatches,
    CaptionStep,
    ImageSource,
    PixelSource,
    StoreSource,
    read_dev_sources,
    read_sources,
)
from prefixcap.caption_teachers import CaptionTeachers, caption_teachers
from prefixcap.captioner import Captioner, CaptionModel, load_model, model_class
from prefixcap.checkpoint import checkpoints
from prefixcap.config import ModelConfig
from prefixcap.datasets.records import CaptionRecord
from prefixcap.datasets.trainable import refuse_untrainable
from prefixcap.dev_split import DevSplit
from prefixcap.embeddings import EmbeddingStore
from prefixcap.encoder import ImageEncoder, StatedEncoder
from prefixcap.errors import InputError
from prefixcap.lora import load_plain
from prefixcap.loss_targets import Taught
from prefixcap.lstm import LstmCaptioner
from prefixcap.mapper import resized_positions
from prefixcap.model import ClipCap
from prefixcap.packed_loss import check_positions
from prefixcap.recipe import Recipe, TrainConfig, expand
from prefixcap.recipe_encoder import recipe_encoder
from prefixcap.run_data import files_digest, frozen_digest
from prefixcap.run_folder import RunFolder
from prefixcap.self_critical import SelfCriticalBatches, self_critical_task
from prefixcap.shared_photos import refuse_shared_photos
from prefixcap.stages import (
    Watch,
    count_trained,
    load_photos,
    log_skipped,
    not_stored,
    prepare,
    tell_long_warmup,
)
from prefixcap.tokenizer import CaptionTokenizer, train_bpe
from prefixcap.train import Validation, ending, fit
from prefixcap.word_vocabulary import count_words

SAMPLE, SAMPLE_BATCH = 1000, 64  # images that an LSTM takes mean and spread of; at a time


class CaptionTask(nn.Module):
    """A captioner as `train.fit` trains it; the encoder learns only where it has a rate."""

    def __init__(
        self, model: CaptionModel, config: TrainConfig, teachers: CaptionTeachers | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.teachers = teachers
        self.trains_encoder = config.lr_encoder is not None
        if model.encoder is not None:
            model.encoder.requires_grad_(self.trains_encoder)

    def loss(self, batch: CaptionStep) -> tuple[Tensor, int, dict[str, float]]:
        """Summed cross-entropy of the captions' tokens, and their number."""
        said: dict[str, Taught] = {}
        if self.teachers is not None:
            said["taught"] = self.teachers.taught(batch.pixels, batch.captions)
        embeddings = batch.captions.embeddings
        if batch.pixels is not None:
            self.model.encoder.eval()  # batch-norm statistics stay those of the distillation
            with torch.set_grad_enabled(self.trains_encoder):
                embeddings = self.model.encoder(batch.pixels)
        if self.config.noise and self.training:
            embeddings = embeddings + self.config.noise * torch.randn_like(embeddings)
        captions = replace(batch.captions, embeddings=embeddings)
        smoothing = self.config.label_smoothing
        loss, count = self.model.loss(captions, label_smoothing=smoothing, **said)
        return loss, count, {"tokens": count, "captions": len(captions.ids)}


def caption_recipe(recipe: Recipe, run: RunFolder, watch: Watch) -> str:
    """Train the recipe's captioner, and say how that ended; the best weights on dev are in `best`.

    Raises:
        InputError: settings that contradict each other, or data that cannot be trained on.
    """
    if recipe.store and recipe.train.lr_encoder is not None:
        raise InputError(
            f"recipe {recipe.name}: train.lr_encoder would change the encoder, but `store` holds "
            "what it said before; leave one of them out"
        )
    prepare(recipe)
    records, dev = _read(recipe)
    earlier = _earlier_model(recipe)
    tokenizer = _tokenizer(recipe, records, earlier)
    encoder = recipe_encoder(recipe, earlier.encoder if earlier and recipe.start_from else None)
    config = _model_config(recipe, encoder)
    model = model_class(config).build(config, tokenizer)
    model.encoder = encoder
    if earlier is not None:
        _take_over(model, earlier, mapper=bool(recipe.start_from))
    source, readable = _image_source(recipe, records, encoder, run, watch)
    trained_on = [record for record, is_there in zip(records, readable, strict=True) if is_there]
    if isinstance(model, LstmCaptioner) and earlier is None and not checkpoints(run.path):
        model.see(_sample(source, np.flatnonzero(readable), encoder, recipe.train.seed))
    run.hold_data(data=_listed(trained_on), dev=_listed(r for part in dev for r in part))
    if isinstance(source, StoreSource):
        run.hold_rest(stored_embeddings=source.digest())
    if isinstance(source, PixelSource):
        log_skipped(source.photos, run)
    validation = _validation(recipe, run, dev, model, watch)
    ids = CaptionIds(tokenizer, recipe)
    if recipe.self_critical is None:
        task = CaptionTask(model, recipe.train, caption_teachers(recipe, model))
        tokens = [ids(record) for record in records]
        _check_lengths(model, tokens)
        usable = np.flatnonzero(readable & np.array([bool(captions) for captions in tokens]))
        batches = CaptionBatches(tokens, usable, source, recipe.train, run.processes)
    else:
        task = self_critical_task(recipe, recipe.self_critical, model, records)
        usable = np.flatnonzero(readable)
        batches = SelfCriticalBatches(usable, source, recipe.train, run.processes)
    opened = [] if recipe.store or recipe.stage == "language" else trained_on
    run.hold_rest(
        frozen_weights=frozen_digest(task), photo_files=files_digest(r.path for r in opened)
    )
    count_trained(task, run, watch)
    ids.report(run, watch)
    _tell_unused_rate(recipe, model, watch)
    tell_long_warmup(batches, recipe.train, watch)
    state = fit(task, batches, recipe.train, run, validation, watch.step)
    if run.processes.is_main:
        model.save_pretrained(run.path / "model")
    return ending(state, batches, recipe.train)


def _read(recipe: Recipe) -> tuple[list[CaptionRecord], list[list[CaptionRecord]]]:
    """Records to train on, and those of each dev source.

    Raises:
        InputError: data that cannot be trained or validated on, or photos in both.
    """
    records = read_sources(recipe.data)
    refuse_untrainable(records, recipe.name)
    dev = read_dev_sources(recipe.dev)
    for part in dev:
        refuse_untrainable(part, f"{recipe.name}, [[dev]]", "validate on")
    refuse_shared_photos(records, [record for part in dev for record in part], recipe.name)
    return records, dev


def _validation(
    recipe: Recipe,
    run: RunFolder,
    dev: Sequence[Sequence[CaptionRecord]],
    model: CaptionModel,
    watch: Watch,
) -> Validation | None:
    """How the model is judged as it is trained, None without dev sources."""
    if not recipe.dev:
        return None
    split = DevSplit(recipe, run, dev, CaptionIds(model.tokenizer, recipe), watch.note)
    return Validation(
        lambda step: split.scores(Captioner(model), step),
        lambda: model.save_pretrained(run.path / "best"),
        trained_before=bool(recipe.start_from),
    )


def _check_lengths(model: CaptionModel, tokens: Sequence[Sequence[Sequence[int]]]) -> None:
    """Raise where the longest caption has no room behind its prefix."""
    longest = max((len(caption) for captions in tokens for caption in captions), default=0)
    if isinstance(model, ClipCap) and longest:
        check_positions(model.lm, model.config.mapper.prefix_length + longest - 1)


def _tell_unused_rate(recipe: Recipe, model: CaptionModel, watch: Watch) -> None:
    """Say that a rate was given for a language model that stays as it is."""
    if not recipe.train.lr_language_model or not isinstance(model, ClipCap):
        return
    is_trained = any(parameter.requires_grad for parameter in model.lm.parameters())
    if watch.note and not is_trained:
        watch.note(
            "train.lr_language_model is not used: the language model stays frozen; "
            "language_model.frozen = false trains it"
        )


def _listed(records: Iterable[CaptionRecord]) -> list[tuple[str, Sequence[str]]]:
    """Image ids and captions, as a run holds on to them."""
    return [(record.image_id, record.captions) for record in records]


def plain(caption: str) -> str:
    """Caption in lower case, without a full stop at its end."""
    return re.sub(r"[\s.]+$", "", caption.lower())


def _embedding_shape(encoder: ImageEncoder) -> tuple[int, ...]:
    """Shape (D,) or (N, D) of what the encoder gives for one image."""
    if isinstance(encoder, StatedEncoder):
        return (encoder.embedding_dim,)
    side = encoder.config.preprocess.crop_px
    with torch.inference_mode():
        return tuple(encoder.eval()(torch.zeros(1, 3, side, side)).shape[1:])


def _model_config(recipe: Recipe, encoder: ImageEncoder) -> ModelConfig:
    """Settings of the model that the recipe describes, with the encoder's own filled in."""
    shape = _embedding_shape(encoder)
    return ModelConfig(
        encoder=encoder.config,
        embedding_dim=shape[-1],
        embedding_tokens=shape[0] if len(shape) == 2 else None,
        mapper=None if recipe.lstm else recipe.mapper,
        language_model=None if recipe.lstm else recipe.language_model,
        lstm=recipe.lstm,
        end_token=recipe.end_token,
        decoding=recipe.decoding,
    )


def _earlier_model(recipe: Recipe) -> CaptionModel | None:
    """The captioner whose weights this recipe starts from, if any.

    Raises:
        InputError: the recipe names two.
    """
    if recipe.start_from and recipe.language_model_from:
        raise InputError(
            f"recipe {recipe.name}: start_from and language_model_from both name a language model; "
            "keep one of them"
        )
    folder = recipe.start_from or recipe.language_model_from
    key = "start_from" if recipe.start_from else "language_model_from"
    earlier = load_model(expand(folder, key)) if folder else None
    if earlier and (recipe.lstm is None) != isinstance(earlier, ClipCap):
        raise InputError(
            f"recipe {recipe.name}: {folder} holds a {type(earlier).__name__}, which this recipe "
            "does not train; name another model, or change its [lstm]"
        )
    lm = recipe.language_model
    if not folder and recipe.lstm is None and lm.frozen and not lm.name:
        raise InputError(
            f"recipe {recipe.name}: its language model would stay random; name one in "
            "language_model.name, take one over with language_model_from or start_from, or train "
            "it: language_model.frozen = false"
        )
    if recipe.lstm and recipe.language_model_from:
        raise InputError(
            f"recipe {recipe.name}: an LSTM has no language model apart from it; give the earlier "
            "model in start_from"
        )
    return earlier


def _take_over(model: CaptionModel, earlier: CaptionModel, *, mapper: bool) -> None:
    """Copy an LSTM, or a language model and the mapper if asked, of an earlier model of its sizes.

    A mapper that never saw an image (stage "language") is not worth taking: its outputs grow to a
    large constant in which images then drown. One of patch tokens fits another resolution too.
    """
    parts = list(zip(model.caption_parts, earlier.caption_parts, strict=True))
    try:
        for part, earlier_part in parts if mapper else parts[-1:]:
            tensors = earlier_part.state_dict()
            if "positions" in tensors and model.config.embedding_tokens:  # a mapper of patch tokens
                tensors["positions"] = resized_positions(
                    tensors["positions"], model.config.embedding_tokens
                )
            load_plain(part, tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"the model to start from has other sizes ({reason})") from error


def _tokenizer(
    recipe: Recipe, records: Sequence[CaptionRecord], earlier: CaptionModel | None
) -> CaptionTokenizer:
    """The earlier model's tokenizer, the named language model's, or one made from the captions."""
    if earlier is not None:
        return earlier.tokenizer
    captions = (_text(caption, recipe) for record in records for caption in record.captions)
    if recipe.lstm:
        return count_words(captions, recipe.lstm.min_count)
    if recipe.language_model.name:
        lm = recipe.language_model
        return CaptionTokenizer.from_pretrained(lm.name, lm.revision)
    return train_bpe(captions, recipe.language_model.vocabulary)


class CaptionIds:
    """Captions as ids, with the end token where one is trained.

    Attributes:
        cut: captions so far that were longer than `decoding.max_tokens`; they keep so many tokens,
            and no end.
        empty: captions so far of which nothing was left; they are left out.
    """

    def __init__(self, tokenizer: CaptionTokenizer, recipe: Recipe) -> None:
        self.tokenizer, self.recipe = tokenizer, recipe
        self.cut = self.empty = 0

    def __call__(self, record: CaptionRecord) -> list[list[int]]:
        """Ids of a record's captions."""
        most = self.recipe.decoding.max_tokens
        end = [self.tokenizer.end_id] if self.recipe.end_token else []
        texts = [_text(caption, self.recipe) for caption in record.captions]
        encoded = [ids for ids in self.tokenizer.encode_batch(texts) if ids]
        self.empty += len(texts) - len(encoded)
        self.cut += sum(len(ids) > most for ids in encoded)
        return [ids + end if len(ids) <= most else ids[:most] for ids in encoded]

    def report(self, run: RunFolder, watch: Watch) -> None:
        """Log how many captions were cut or left out, and say so, where there are any."""
        if not self.cut and not self.empty:
            return
        run.log(captions_cut=self.cut, captions_empty=self.empty)
        if watch.note:
            watch.note(
                f"{self.cut:,} captions are cut after {self.recipe.decoding.max_tokens} tokens "
                f"(decoding.max_tokens), {self.empty:,} hold no word and are left out"
            )


def _text(caption: str, recipe: Recipe) -> str:
    return plain(caption) if recipe.plain_captions else caption


def _image_source(
    recipe: Recipe,
    records: Sequence[CaptionRecord],
    encoder: ImageEncoder,
    run: RunFolder,
    watch: Watch,
) -> tuple[ImageSource, np.ndarray]:
    """Where the steps' images come from, and which records have one (M,) bool."""
    if recipe.stage == "language":
        config = _model_config(recipe, encoder)
        tokens, width = config.embedding_tokens, config.embedding_dim
        shape = (width,) if tokens is None else (tokens, width)
        return BlankSource(shape), np.ones(len(records), bool)
    if recipe.store:
        store = EmbeddingStore(expand(recipe.store))
        store.check_encoder(encoder)
        source = StoreSource(store, records, recipe.views)
        source.leave_out(not_stored(store, records, source.rows < 0, run, watch))
        return source, source.rows >= 0
    photos = load_photos(records, recipe, run, watch)
    return PixelSource(photos, recipe.views, encoder.config.preprocess), photos.readable


def _sample(
    source: ImageSource, usable: np.ndarray, encoder: ImageEncoder, seed: int
) -> Iterator[Tensor]:
    """Embeddings (B, D) or (B, N, D) of training images drawn at random, part by part."""
    generator = np.random.default_rng((seed, 2))
    chosen = generator.permutation(usable)[:SAMPLE]
    for first in range(0, len(chosen), SAMPLE_BATCH):
        pixels, embeddings = source.images(chosen[first : first + SAMPLE_BATCH], generator)
        if pixels is not None:
            with torch.no_grad():
                embeddings = encoder.eval()(pixels)
        yield embeddings
