"""Options of the command line that say how captions are written, shared by several commands."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefixcap.errors import InputError

if TYPE_CHECKING:
    from prefixcap.config import DecodeOptions

PANEL = "How captions are written"


def _option(*names: str, text: str, **limits: float) -> Any:
    """A typer option of this panel; its default, None, leaves what the model was saved with."""
    return typer.Option(*names, help=text, rich_help_panel=PANEL, show_default=False, **limits)


Beam = Annotated[int | None, _option("--beam", text="Beam width; 1 is greedy.", min=1, max=256)]
Captions = Annotated[
    int | None, _option("--captions", text="Captions per photo, best first.", min=1, max=256)
]
Sample = Annotated[bool, typer.Option("--sample", help="Draw tokens.", rich_help_panel=PANEL)]
TopP = Annotated[
    float | None, _option("--top-p", text="Sample from the likeliest share.", min=0, max=1)
]
TopK = Annotated[int | None, _option("--top-k", text="Sample from the K likeliest tokens.", min=0)]
Temperature = Annotated[
    float | None, _option("--temperature", text="Above 1 more varied, below 1 surer.", min=0)
]
Seed = Annotated[int | None, _option("--seed", text="Of the samples.")]
MinTokens = Annotated[int | None, _option("--min-tokens", text="Shortest caption.", min=0)]
MaxTokens = Annotated[int | None, _option("--max-tokens", text="Longest caption.", min=1)]
LengthPenalty = Annotated[
    float | None,
    _option("--length-penalty", text="Beam by summed log-probability / length ** this."),
]
BlockNgrams = Annotated[
    int | None, _option("--block-ngrams", text="No run of N tokens twice; 0: off.", min=0)
]
Votes = Annotated[
    int | None,
    _option("--votes", text="Samples that choose among a beam's captions; 0: none.", min=0),
]
Begin = Annotated[str | None, _option("--begin", text="Words that every caption begins with.")]
StopWord = Annotated[str | None, _option("--stop-word", text="Word or mark that ends a caption.")]


@dataclass(frozen=True)
class DecodingWishes:
    """What the command line asks for; None keeps what the model was saved with."""

    beam: int | None = None
    captions: int | None = None
    sample: bool = False
    top_p: float | None = None
    top_k: int | None = None
    temperature: float | None = None
    seed: int | None = None
    min_tokens: int | None = None
    max_tokens: int | None = None
    length_penalty: float | None = None
    block_ngrams: int | None = None
    begin: str | None = None
    stop_word: str | None = None
    votes: int | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself, whatever the model.

        Raises:
            InputError: the two options, in one line.
        """
        if self.sample and self.beam is not None:
            raise InputError("--sample and --beam: give one; a sample has no beam")
        if self.sample and self.length_penalty is not None:
            raise InputError("--length-penalty: is for a beam; leave it or --sample away")
        if self.beam is not None and (self.captions or 1) > self.beam:
            raise InputError(
                f"--captions {self.captions} with --beam {self.beam}: a beam gives at most as many "
                f"captions as it is wide; use --beam {self.captions}"
            )
        if self.votes and (self.sample or self.beam == 1):
            given = "--sample" if self.sample else "--beam 1"
            raise InputError(f"--votes: chooses among the captions of a beam; leave {given} away")
        if self.beam == 1 and self.length_penalty is not None:
            raise InputError("--length-penalty: has no effect with --beam 1, which is greedy")
        if self.min_tokens is not None and (self.max_tokens or self.min_tokens) < self.min_tokens:
            raise InputError(f"--min-tokens {self.min_tokens} is above --max-tokens")

    def options(self, stored: "DecodeOptions") -> "DecodeOptions":
        """The model's `stored` options with the wishes put in.

        Raises:
            InputError: a wish contradicts a stored option.
        """
        from prefixcap.config import DecodeOptions, parse  # not above: --help needs no pydantic

        changes: dict[str, Any] = {
            "captions_per_image": self.captions,
            "min_tokens": self.min_tokens,
            "max_tokens": self.max_tokens,
            "length_penalty": self.length_penalty,
            "block_ngrams": self.block_ngrams,
            "forced_words": self.begin,
            "stop_word": self.stop_word,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "temperature": self.temperature,
            "seed": self.seed,
            "votes": self.votes,
            "order": None if self.length_penalty is None else "sum",
            "stop": "either" if self.stop_word is not None and stored.stop == "end" else None,
        }
        changes |= self._method(stored)
        asked = {name: value for name, value in changes.items() if value is not None}
        found = parse(DecodeOptions, {**stored.model_dump(), **asked}, "caption options")
        self._refuse_idle(found)
        return found

    def _refuse_idle(self, found: "DecodeOptions") -> None:
        """Refuse wishes about chance where nothing is drawn, by wish or as the model is stored."""
        sampled = found.resolved_method == "sample"
        for name in ("top_p", "top_k", "temperature"):
            if getattr(self, name) is not None and not sampled:
                raise InputError(f"--{name.replace('_', '-')}: has no effect without --sample")
        if self.seed is not None and not sampled and not found.votes:
            raise InputError("--seed: has no effect without --sample or --votes")

    def _method(self, stored: "DecodeOptions") -> dict[str, Any]:
        """Method and beam width: several captions without a word on how get a beam."""
        if self.sample:
            return {"method": "sample", "beam_size": 1, "votes": 0}
        if self.beam == 1:
            return {"method": "greedy", "beam_size": 1, "votes": 0}
        if self.beam is not None:
            return {"method": "beam", "beam_size": self.beam}
        if (self.captions or 1) > stored.beam_size and stored.resolved_method != "sample":
            return {"method": "beam", "beam_size": self.captions}
        return {}
