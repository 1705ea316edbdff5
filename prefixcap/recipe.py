"""Recipes: one TOML file that holds everything a training run needs."""

import os
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from prefixcap.config import (
    DecodeOptions,
    EncoderConfig,
    LanguageModelConfig,
    LstmConfig,
    MapperConfig,
    ModelConfig,
    Settings,
    parse,
    read_toml,
    with_overrides,
)
from prefixcap.errors import InputError
from prefixcap.model_settings import model_source, read_settings
from prefixcap.start_settings import completed, refuse_other_sizes


class SourceConfig(Settings):
    """One data set of a recipe: `format` as in `prefixcap.datasets.read`, or "photos": no captions.

    `path` may name environment variables, such as "$PREFIXCAP_DATA/flickr8k". `names` is a file
    of image names, one a line: the photos that are meant, in this order. `share` takes those whose
    place between 0 and 1, which follows from a photo's id alone, is from its first number up to,
    not including, its second; `rows` those from a row up to another; `first` only so many of the
    rest.
    """

    format: str
    path: str
    split: str | None = None
    images: str | None = None
    names: str | None = None
    share: tuple[float, float] | None = None
    rows: tuple[int, int] | None = None
    first: int | None = Field(None, ge=1)

    @field_validator("share")
    @classmethod
    def _is_a_share(cls, share: tuple[float, float] | None) -> tuple[float, float] | None:
        if share is not None and not 0 <= share[0] < share[1] <= 1:
            raise ValueError("expected two numbers of 0 to 1, the second above the first: [0, 0.1]")
        return share

    @field_validator("rows")
    @classmethod
    def _is_a_range(cls, rows: tuple[int, int] | None) -> tuple[int, int] | None:
        if rows is not None and not 0 <= rows[0] < rows[1]:
            raise ValueError("expected two numbers from 0, the second above the first: [0, 800]")
        return rows


class ViewConfig(Settings):
    """Random views of training photos: area of the crop, its aspect, mirror image, light."""

    min_area: float = Field(1.0, gt=0, le=1)
    max_aspect: float = Field(1.0, ge=1)
    mirror: bool = False
    light: float = Field(0.0, ge=0, lt=1)  # brightness and contrast, each by up to this share
    stored_px: int = Field(208, ge=8)  # side of the squashed photo that crops are cut from
    stored: int = Field(0, ge=0)  # crops of each photo that the store holds beside the whole one
    within: float = Field(1.0, gt=0, le=1)  # least area of a look at a stored crop (distillation)


class HintConfig(Settings):
    """Distillation stage by stage: the student's features between its stages are the teacher's.

    `forced` gives each stage what the teacher's stage before it gives, so that each learns by
    itself (Li et al. 2020, section 3.2); otherwise the stages are one network, each end of which
    has a hint (Romero et al. 2015, section 2.2). `shares` are those of a batch that each stage
    learns from; early stages have many places in each photo. Forced stages only.
    """

    forced: bool = False
    shares: tuple[float, ...] = ()
    pooled_weight: float = Field(0.0, ge=0)  # of the error of the pooled patches

    @model_validator(mode="after")
    def _shares_are_of_forced_stages(self) -> Self:
        if self.shares and not self.forced:
            raise ValueError("shares are for forced = true; a whole network sees the whole batch")
        if any(not 0 < share <= 1 for share in self.shares):
            raise ValueError(f"shares are above 0 and at most 1, found {self.shares}")
        if self.pooled_weight and self.forced:
            raise ValueError("pooled_weight is for forced = false; no forced stage sees them all")
        return self


class DistillConfig(Settings):
    """Weights of the losses that carry a teacher's knowledge into a small encoder."""

    teacher: EncoderConfig
    grid_weight: float = Field(1.0, ge=0)
    cosine_weight: float = Field(1.0, ge=0)
    classes_weight: float = Field(0.0, ge=0)
    temperature: float = Field(2.0, gt=0)
    words_weight: float = Field(0.0, ge=0)
    words: int = Field(1000, ge=1)
    components_weight: float = Field(0.0, ge=0)
    components: int = Field(96, ge=1)  # principal ones of the teacher's pooled vectors
    paste: float = Field(0.0, ge=0, le=1)  # share of looks into which part of another is pasted
    hints: HintConfig | None = None  # in place of all the above; the teacher runs in the loop

    @model_validator(mode="after")
    def _hints_leave_no_other_loss(self) -> Self:
        fields = type(self).model_fields
        ignored = [
            name
            for name in fields
            if name not in ("teacher", "hints") and getattr(self, name) != fields[name].default
        ]  # a run's recipe.json has every setting
        if self.hints and ignored:
            raise ValueError(f"hints take the place of {', '.join(ignored)}; drop those")
        return self


class TeachersConfig(Settings):
    """Captioners whose words a captioner learns beside the captions (Hinton et al. 2015).

    Each sees the same photos and the words before; `share` of the loss is the cross-entropy
    against the mean of their probabilities. A model may learn from itself and its like so
    (Furlanello et al. 2018), or from several what they say together.
    """

    models: tuple[str, ...] = Field(min_length=1)  # folders of the same vocabulary
    share: float = Field(0.5, gt=0, le=1)


class SelfCriticalConfig(Settings):
    """Training on the CIDEr-D of the model's own samples (Rennie et al. 2017)."""

    samples: int = Field(5, ge=1)  # captions drawn for an image
    baseline: Literal["mean", "greedy"] = "mean"  # of the image's other samples; its greedy caption
    temperature: float = Field(1.0, gt=0)  # 1: the model's own distribution, whose gradient it is
    frequencies: str = ""  # file of DocumentFrequencies.save; "": those of the training captions
    guard: bool = True  # the end is a word of the reward; without end or words it is 0

    @model_validator(mode="after")
    def _has_others(self) -> Self:
        if self.baseline == "mean" and self.samples < 2:
            raise ValueError("the mean of an image's other samples needs samples = 2 or more")
        return self


class TrainConfig(Settings):
    """How weights are found; what the paper does not do is off by default."""

    epochs: float = Field(10, gt=0)
    images_per_step: int = Field(8, ge=1)
    lr: float = Field(2e-5, gt=0)  # ClipCap, section 4
    lr_language_model: float | None = Field(None, gt=0)
    lr_encoder: float | None = Field(None, gt=0)
    warmup_steps: int = Field(5000, ge=0)  # ClipCap, section 4
    decay: Literal["linear", "cosine", "none"] = "linear"  # after the warm-up
    weight_decay: float = Field(0.0, ge=0)
    eps: float = Field(1e-6, gt=0)  # the original code's AdamW
    beta2: float = Field(0.999, gt=0, lt=1)
    clip_norm: float = Field(0.0, ge=0)  # 0: off
    ema: float = Field(0.0, ge=0, lt=1)  # 0: off
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    noise: float = Field(0.0, ge=0)  # standard deviation on the embedding (CapDec, 2022)
    captions_per_image: int = Field(0, ge=0)  # 0: all of them in each step
    caption_dropout: float = Field(0.0, ge=0, lt=1)  # share left out of a step; one always stays
    shuffle_captions: bool = False  # single captions of all images make a step, not whole images
    accumulate: int = Field(1, ge=1)  # batches to a step; the loss is per token of them all
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # bf16 where that is fast, else fp32
    seed: int = Field(0, ge=0)
    log_steps: int = Field(50, ge=1)
    checkpoint_minutes: float = Field(5.0, gt=0)
    keep_checkpoints: int = Field(2, ge=1)
    validate_epochs: float = Field(1.0, gt=0)
    best_by: Literal["cider", "loss"] = "cider"  # on dev; what `best` and `patience` go by
    patience: int = Field(0, ge=0)  # validations without a gain that end the run; 0: off
    threads: int = Field(0, ge=0)  # 0: torch's own choice
    device: str = ""  # such as "cpu" or "cuda"; "": a GPU where there is one
    tensorboard: bool = False  # the log and dev photos with captions for TensorBoard too
    shard: bool = False  # processes share weights, gradients and moments (FSDP), not only the work

    @model_validator(mode="after")
    def _single_captions_have_no_neighbours(self) -> Self:
        if self.shuffle_captions and (self.captions_per_image or self.caption_dropout):
            raise ValueError(
                "shuffle_captions draws single captions; captions_per_image and caption_dropout "
                "choose among an image's, leave them out"
            )
        return self

    @model_validator(mode="after")
    def _shards_have_no_average(self) -> Self:
        if self.shard and self.ema:
            raise ValueError("shard keeps no averaged weights; set ema = 0, or leave shard out")
        return self


class Recipe(Settings):
    """A whole recipe; `stage` says which training it describes."""

    name: str
    stage: Literal["distill", "language", "caption"]
    start_from: str = ""  # model whose weights, and settings left out here, are taken over
    language_model_from: str = ""  # model folder of which only the language model is
    encoder_from: str = ""  # run folder of a distillation whose encoder is taken over
    data: tuple[SourceConfig, ...] = Field(min_length=1)
    dev: tuple[SourceConfig, ...] = ()
    test: tuple[SourceConfig, ...] = ()  # scored after training by a study, never looked at in it
    store: str = ""  # embedding store (of the teacher where one is distilled); "": from pixels
    store_from: str = ""  # vectors of another program that the store is made of, as embed --from
    views: ViewConfig = ViewConfig()
    encoder: EncoderConfig
    mapper: MapperConfig = MapperConfig()
    language_model: LanguageModelConfig = LanguageModelConfig()
    lstm: LstmConfig | None = None  # in place of mapper and language model
    end_token: bool = True
    plain_captions: bool = False  # lower case, no full stop: for vocabularies made from them
    distill: DistillConfig | None = None
    self_critical: SelfCriticalConfig | None = None
    teachers: TeachersConfig | None = None
    train: TrainConfig = TrainConfig()
    decoding: DecodeOptions = DecodeOptions()

    @field_validator("name")
    @classmethod
    def _is_a_folder_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ValueError("expected letters, digits, '.', '_' and '-' only: it names a folder")
        return name

    @model_validator(mode="after")
    def _can_lose_patience(self) -> Self:
        if self.train.patience and not self.dev:
            raise ValueError("train.patience goes by validations on dev; give [[dev]], or drop it")
        if self.train.best_by == "loss" and not self.dev:
            raise ValueError('train.best_by = "loss" is the loss on dev; give [[dev]], or drop it')
        return self

    @model_validator(mode="after")
    def _ends_as_it_was_trained(self) -> Self:
        if self.decoding.stop == "end" and not self.end_token:
            raise ValueError(
                'decoding.stop = "end" waits for an end token that end_token = false does not '
                'train; set decoding.stop = "word"'
            )
        return self

    @field_validator("decoding")
    @classmethod
    def _has_nobody_to_vote(cls, decoding: DecodeOptions) -> DecodeOptions:
        if decoding.votes:
            raise ValueError(
                "votes need the n-gram counts that prefixcap export --votes stores with a trained "
                "model; leave them out here, and export with --set votes=N"
            )
        return decoding

    @model_validator(mode="after")
    def _has_one_way_to_write(self) -> Self:
        others = {name: getattr(self, name) for name in ("mapper", "language_model")}
        defaults = {name: type(self).model_fields[name].get_default() for name in others}
        if self.lstm and others != defaults:  # a run's recipe.json has every setting
            raise ValueError("[lstm] takes the place of [mapper] and [language_model]; drop those")
        if self.lstm and not self.lstm.attention and self.encoder.output == "patches":
            raise ValueError("an lstm without attention reads one vector; set lstm.attention")
        return self

    @model_validator(mode="after")
    def _can_be_taught(self) -> Self:
        if self.teachers is None:
            return self
        if self.stage != "caption" or self.lstm or self.self_critical or self.train.shard:
            raise ValueError(
                "[teachers] are for the captions of a captioner with a language model: stage "
                '"caption", without [lstm], [self_critical] and train.shard'
            )
        if self.teachers.share + self.train.label_smoothing > 1:
            raise ValueError(
                f"teachers.share = {self.teachers.share} and train.label_smoothing = "
                f"{self.train.label_smoothing} leave nothing of the loss; lower one of them"
            )
        return self

    @model_validator(mode="after")
    def _has_a_language_model_to_shard(self) -> Self:
        if self.train.shard and (self.lstm or self.distill or self.self_critical):
            raise ValueError(
                "train.shard is for captioners with a language model, trained on captions; leave "
                "it out with [lstm], [distill] and [self_critical]"
            )
        return self


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Recipe read from TOML, with the command line's `--set` assignments put in.

    What it leaves out of encoder, mapper and language model are those of the model in `start_from`.

    Raises:
        InputError: the file cannot be read, a key is unknown, a value has a wrong type or
            contradicts the model in `start_from`, or that model is missing and its settings needed.
    """
    tables, changes = read_toml(path), overrides or []
    start = _start_settings(with_overrides(tables, changes), path)
    if start is not None:
        tables = completed(tables, start)
    recipe = parse(Recipe, with_overrides(tables, changes), str(path))
    if start is not None and not recipe.lstm:
        refuse_other_sizes(recipe.mapper, recipe.language_model, start)
    return recipe


def _start_settings(tables: dict[str, Any], path: Path) -> ModelConfig | None:
    """Settings of the model in `start_from`; None without one.

    None too of a model that is no folder here, or in a variable that is not set, for a recipe that
    has all tables: it is whole without those settings, and the model may be still to be trained.
    """
    start, encoder = tables.get("start_from"), tables.get("encoder")
    if not isinstance(start, str) or not start or tables.get("stage") == "distill":
        return None
    is_whole = isinstance(encoder, dict) and "kind" in encoder
    is_whole &= "lstm" in tables or {"mapper", "language_model"} <= tables.keys()
    try:
        folder = expand(start, "start_from")
        if is_whole and not folder.is_dir():
            return None
        return read_settings(model_source(str(folder)))
    except InputError as error:
        if is_whole:
            return None  # said where its weights are read
        raise InputError(
            f"{path}: what it leaves out is the start_from model's; {error}"
        ) from error


def expand(path: str, key: str = "") -> Path:
    """Path with its environment variables filled in; `key` is what the recipe calls it.

    Raises:
        InputError: a variable that is not set.
    """
    expanded = os.path.expandvars(path)
    missing = re.search(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)", expanded)
    if missing:
        said = f"{key} = {path}" if key else path
        raise InputError(
            f"{said}: the environment variable {missing.group(1)} is not set. "
            f"Set it to the folder of the {'model' if key else 'data'}, or override the path with "
            f"--set{f' {key}=...' if key else ''}"
        )
    return Path(expanded).expanduser()
