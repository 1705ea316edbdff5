"""Frozen settings of models, decoding and training; read strictly from TOML recipes."""

import math
import tomllib
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prefixcap.errors import InputError

FORMAT_VERSION = 1

PublishedKind = Literal["clip", "siglip", "dinov2", "clip_resnet", "imagenet_resnet", "mobilenetv2"]
EncoderKind = PublishedKind | Literal["resnet", "mbconv"]  # nobody publishes weights of these
Stop = Literal["end", "word", "either"]
S = TypeVar("S", bound=BaseModel)


class Settings(BaseModel):
    """Immutable settings; an unknown key or a wrong type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class PreprocessConfig(Settings):
    """How a photo becomes pixels; stored with the model so that training and inference agree.

    `resize` "shortest" scales the shorter side to `resize_px` and cuts the centre `crop_px` square
    (CLIP); "squash" scales both sides to `crop_px`. `mean` and `std` are RGB in 0..1.
    """

    crop_px: int = Field(224, ge=8)
    resize_px: int = Field(224, ge=8)
    resize: Literal["shortest", "squash"] = "shortest"
    resample: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)  # CLIP's


class ResNetConfig(Settings):
    """Plain ResNet of basic blocks (He et al. 2016), the built-in model's encoder."""

    stem_width: int = Field(32, ge=1)
    widths: tuple[int, ...] = (48, 96, 192, 384)
    depths: tuple[int, ...] = (2, 2, 2, 2)

    @property
    def cell_px(self) -> int:
        """Pixels to a cell of the last grid, across and down: the stem halves twice."""
        return 4 * 2 ** (len(self.widths) - 1)

    @model_validator(mode="after")
    def _same_number_of_stages(self) -> Self:
        if len(self.widths) != len(self.depths):
            raise ValueError(
                f"{len(self.widths)} widths and {len(self.depths)} depths; give one of each a stage"
            )
        return self


class MbConvConfig(Settings):
    """Inverted residuals, fused or not, as EfficientNetV2 has them (Tan & Le 2021, section 3.2).

    For each stage: `widths` of its blocks' linear ends, `hidden` channels between them, `depths`,
    `strides` of its first block, and whether its blocks are `fused`: one dense 3x3 convolution,
    or else a 1x1 and a depthwise one. `last_width` is that of a patch token.
    """

    stem_width: int = Field(32, ge=1)
    widths: tuple[int, ...] = (24, 32, 64, 96, 160, 320)
    hidden: tuple[int, ...] = (128, 160, 320, 512, 960, 1920)
    depths: tuple[int, ...] = (3, 3, 4, 4, 4, 1)
    strides: tuple[int, ...] = (2, 2, 2, 1, 2, 1)
    fused: tuple[bool, ...] = (True, True, False, False, False, False)
    last_width: int = Field(1280, ge=1)

    @model_validator(mode="after")
    def _same_number_of_stages(self) -> Self:
        names = ("widths", "hidden", "depths", "strides", "fused")
        given = {name: len(getattr(self, name)) for name in names}
        if len(set(given.values())) > 1 or not self.widths:
            found = ", ".join(f"{count} {name}" for name, count in given.items())
            raise ValueError(f"{found}; give one of each a stage")
        return self


class EncoderConfig(Settings):
    """Which frozen image encoder, and what is taken from it.

    `name` is a hub name, a local folder or a weights file. With `stored` the weights are part of
    the model, and `name` is where they came from, if anywhere. `normalize` divides each vector by
    its L2 norm. `mirrored` takes the mean over a photo and its mirror image, at twice the cost; not
    in distillation.
    `stated_dim` is the width of its vectors where only a store of them is at hand, not its weights.
    """

    kind: EncoderKind
    name: str = ""
    revision: str | None = None
    output: Literal["pooled", "patches"] = "pooled"
    normalize: bool = False
    mirrored: bool = False
    stored: bool = False
    stated_dim: int | None = Field(None, ge=1)
    preprocess: PreprocessConfig | None = None  # None: what the encoder's own files say
    resnet: ResNetConfig | None = None
    mbconv: MbConvConfig | None = None

    @property
    def is_trained_here(self) -> bool:
        """Whether its weights are only ever in a run or a model, since nobody publishes any."""
        return self.kind in ("resnet", "mbconv")

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.is_trained_here and getattr(self, self.kind) is None:
            raise ValueError(
                f"an encoder of kind {self.kind!r} needs its [encoder.{self.kind}] sizes"
            )
        if self.stated_dim and (self.stored or self.output != "pooled" or not self.name):
            raise ValueError(
                "stated_dim is for pooled vectors of a named encoder whose weights are elsewhere; "
                "give its name, and leave stored and output away"
            )
        return self


LONGEST_PREFIX = 80  # of ClipCap's figure 7


class MapperConfig(Settings):
    """Mapping network from an embedding to a prefix (ClipCap, sections 3.1 and 3.2).

    `hidden_dim` None is the paper's half of prefix_length * lm_dim. `clip_length` is the number of
    tokens that a pooled embedding is projected to before the transformer. "patches" is not the
    paper's: each patch token becomes a vector of the prefix, which is as long as the grid.
    """

    kind: Literal["mlp", "transformer", "linear", "patches"] = "transformer"
    prefix_length: int = Field(10, ge=1, le=LONGEST_PREFIX)
    clip_length: int = Field(10, ge=1, le=256)
    layers: int = Field(8, ge=1)
    heads: int = Field(8, ge=1)
    hidden_dim: int | None = Field(None, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class LanguageModelConfig(Settings):
    """Which causal language model: a hub name or folder (`name`), or sizes for a fresh GPT-2.

    `frozen` keeps its weights; a frozen one is saved by name and revision unless `stored`.
    `lora_rank` above 0 trains adapters of this rank beside them (Hu et al. 2021), at the layers
    `lora_targets` or else those that peft takes for the model; saved with them added in, and plain.
    """

    name: str = ""
    revision: str | None = None
    frozen: bool = True
    stored: bool = False
    width: int = Field(256, ge=8)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    positions: int = Field(128, ge=8)
    vocabulary: int = Field(4000, ge=2)
    dropout: float = Field(0.0, ge=0, lt=1)
    lora_rank: int = Field(0, ge=0)  # 0: off
    lora_alpha: float = Field(16.0, gt=0)  # adapters are scaled by lora_alpha / lora_rank
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    lora_targets: tuple[str, ...] = ()

    @property
    def keeps_weights(self) -> bool:
        """Whether training leaves it as it was."""
        return self.frozen and not self.lora_rank

    @model_validator(mode="after")
    def _is_tuned_in_one_way(self) -> Self:
        if self.lora_rank and not self.frozen:
            raise ValueError(
                "lora_rank trains adapters beside frozen weights, frozen = false the weights "
                "themselves; leave one of them out"
            )
        if not self.lora_rank and (self.lora_targets or self.lora_dropout):
            raise ValueError("lora_targets and lora_dropout are for adapters; set lora_rank too")
        return self


class LstmConfig(Settings):
    """LSTM captioner in place of mapper and language model (Show and Tell; Show, Attend and Tell).

    `min_count`: words that occur fewer times in the captions become `<unk>`. `attention` looks at
    patch tokens anew for each word, with a `gate` and a penalty of weight `doubly_stochastic`
    (Xu et al. 2015, section 4.2.1); on a pooled vector it has one position only to look at.
    `standardize`: embeddings are read less the training images' mean, in units of their spread.
    """

    attention: bool = False
    embedding_size: int = Field(512, ge=1)
    hidden_size: int = Field(512, ge=1)
    layers: int = Field(1, ge=1, le=5)
    dropout: float = Field(0.0, ge=0, lt=1)
    min_count: int = Field(6, ge=1)
    attention_size: int = Field(512, ge=1)
    gate: bool = True
    doubly_stochastic: float = Field(1.0, ge=0)
    standardize: bool = True


class DecodeOptions(Settings):
    """How a caption is written.

    `method` "greedy", "beam" or "sample"; None takes "beam" when `beam_size` is above 1, else
    greedy. `order` "average" is the original ClipCap's beam (average log-probability at every step,
    finished beams keep their slot); "sum" is the usual one (summed log-probability, finished
    hypotheses kept apart, divided by length ** `length_penalty` at the end).
    With `votes`, so many samples choose among all captions of the beam (`consensus`).
    `stop` ends a caption at the end token, at `stop_word`, or at whichever comes first.
    """

    method: Literal["greedy", "beam", "sample"] | None = None
    beam_size: int = Field(1, ge=1, le=256)
    order: Literal["average", "sum"] = "average"
    captions_per_image: int = Field(1, ge=1, le=256)
    min_tokens: int = Field(0, ge=0)
    max_tokens: int = Field(67, ge=1)  # the original's entry_length
    length_penalty: float = 1.0
    block_ngrams: int = Field(0, ge=0)  # 0: off; n: no n-gram of tokens twice in a caption
    forced_words: str = ""  # the caption begins with these words
    stop: Stop = "either"
    stop_word: str = "."
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)  # 0: off
    seed: int = 0
    votes: int = Field(0, ge=0, le=1024)  # samples that choose among a beam's captions; 0: off
    vote_temperature: float = Field(0.7, gt=0)

    @property
    def voting(self) -> "DecodeOptions":
        """How the votes are drawn: samples without a beam."""
        changes = {"method": "sample", "beam_size": 1, "captions_per_image": self.votes, "votes": 0}
        return self.model_copy(update={**changes, "temperature": self.vote_temperature})

    @property
    def resolved_method(self) -> Literal["greedy", "beam", "sample"]:
        """The method that runs, after the rule for None."""
        return self.method or ("beam" if self.beam_size > 1 else "greedy")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}")
        if self.method in ("greedy", "sample") and self.beam_size > 1:
            raise ValueError(f"beam_size {self.beam_size} contradicts method {self.method!r}")
        if self.resolved_method == "beam" and self.captions_per_image > self.beam_size:
            raise ValueError(
                f"{self.captions_per_image} captions per image need a beam at least as wide, "
                f"found beam_size {self.beam_size}"
            )
        if self.resolved_method == "greedy" and self.captions_per_image > 1:
            raise ValueError("greedy decoding gives one caption; use a beam or method 'sample'")
        if self.votes and self.resolved_method != "beam":
            raise ValueError("votes choose among the captions of a beam; give a beam_size above 1")
        return self


class Calibration(Settings):
    """How often a caption is right, by its score s: 1 / (1 + exp(-(intercept + slope * s))).

    Found on `images` photos by `prefixcap calibrate`, with the decoding of the same settings; right
    is a caption whose CIDEr-D (0 to 10) against the references is `right_from` or more.
    """

    intercept: float
    slope: float
    right_from: float
    images: int

    def confidence(self, score: float) -> float:
        """Chance, 0 to 1, that a caption with this mean log-probability is right."""
        return 1 / (1 + math.exp(-(self.intercept + self.slope * score)))


class ModelConfig(Settings):
    """Everything `config.json` of a saved model holds, beside its format version.

    `embedding_tokens` is the number N of patch tokens, or None for a pooled embedding. A model has
    a `mapper` and a `language_model`, or else an `lstm`.
    """

    encoder: EncoderConfig
    embedding_dim: int = Field(ge=1)
    embedding_tokens: int | None = Field(None, ge=1)
    mapper: MapperConfig | None = None
    language_model: LanguageModelConfig | None = None
    lstm: LstmConfig | None = None
    end_token: bool = True  # False: the original's convention, no end token was trained
    decoding: DecodeOptions = DecodeOptions()
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _embedding_is_what_the_encoder_gives(self) -> Self:
        if (self.encoder.output == "patches") != (self.embedding_tokens is not None):
            raise ValueError(
                f"encoder.output is {self.encoder.output!r} and embedding_tokens "
                f"{self.embedding_tokens}; patch tokens need their number, a pooled vector none"
            )
        return self

    @model_validator(mode="after")
    def _has_one_way_to_write(self) -> Self:
        given = [self.mapper is not None, self.language_model is not None]
        if given != [self.lstm is None] * 2:
            raise ValueError("expected a mapper and a language_model, or an lstm and neither")
        if self.lstm and not self.lstm.attention and self.embedding_tokens is not None:
            raise ValueError(
                "an lstm without attention reads one vector; set encoder.output to 'pooled', or "
                "lstm.attention"
            )
        return self


def read_toml(path: Path, what: str = "a recipe, see recipes/") -> dict[str, Any]:
    """Tables of a TOML file; `what` it should be is said where it is missing.

    Raises:
        InputError: the file is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}). Give the path of {what}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not a TOML file ({error}). Mend that line.") from error


def with_overrides(tables: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Tables with every `a.b=value` of the command line's `--set` put in; values are TOML.

    Raises:
        InputError: an assignment without "=", or a path through a value that is not a table.
    """
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not key.strip():
            raise InputError(f"--set {assignment!r}: expected key=value, such as train.lr=2e-5")
        tables = _with_value(tables, key.strip().split("."), _toml_value(text.strip()), assignment)
    return tables


def _with_value(tables: dict[str, Any], path: list[str], value: Any, shown: str) -> dict[str, Any]:
    """Copy of nested `tables` in which the entry at `path` is `value`."""
    if len(path) == 1:
        return {**tables, path[0]: value}
    inner = tables.get(path[0], {})
    if not isinstance(inner, dict):
        raise InputError(f"--set {shown!r}: {path[0]!r} is a value, not a table")
    return {**tables, path[0]: _with_value(inner, path[1:], value, shown)}


def _toml_value(text: str) -> Any:
    """`text` read as a TOML value, or as a bare string where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse(kind: type[S], values: dict[str, Any], source: str) -> S:
    """Settings of type `kind` from `values`, which came from `source`.

    Raises:
        InputError: one line that names each unknown key, wrong type and impossible combination.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """One line out of a pydantic error: each key, what was wrong, and what was found."""
    parts = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]) or "settings"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "there is no such setting"
        if item["type"] == "tuple_type":
            message = "expected a list in brackets, such as [0, 1]"
        if item["type"] == "string_type" and isinstance(item["input"], int | float):
            text = str(item["input"]).lower()  # bare, TOML reads it as a number or a truth value
            message = f"{message}; text is put in quotes: --set '{key}=\"{text}\"'"
        found = "" if isinstance(item["input"], dict) else f" (found {item['input']!r})"
        parts.append(f"{key}: {message}{found}")
    return "; ".join(parts)
