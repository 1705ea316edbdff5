"""Captions as token ids and back: the language model's byte-pair encoding, or one of our own."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from prefixcap import atomic
from prefixcap.errors import InputError
from prefixcap.hub import model_file

IGNORED = -100  # a target that no loss is computed for; no token has this id
END_TOKEN = "<|endoftext|>"  # GPT-2's
TOKENIZER_FILE = "tokenizer.json"
SETTINGS_FILE = "tokenizer_config.json"
TOKENIZER_FILES = (
    TOKENIZER_FILE,
    SETTINGS_FILE,
    "config.json",  # its model_type chooses the tokenizer's class
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "special_tokens_map.json",
)
NO_SPACE_BEFORE = (".", ",", "!", "?", ";", ":", "'s")
WORD_FORMS = ("", "Ġ", "▁")  # bare, after a space in byte-level BPE, after a space in SentencePiece


class CaptionTokenizer:
    """A fast tokenizer together with its end token.

    Args:
        backend: tokenizer of the `tokenizers` library.
        end_token: the token that ends a caption, or None where the vocabulary has none.
    """

    def __init__(self, backend: Tokenizer, end_token: str | None) -> None:
        self.backend = backend
        self.end_token = end_token
        self.end_id = None if end_token is None else backend.token_to_id(end_token)
        self.vocabulary_size = backend.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without special tokens."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of every text, without special tokens; much faster than one by one."""
        return [item.ids for item in self.backend.encode_batch(texts, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Caption text of `ids` up to the end token, on one line and without outer spaces."""
        ids = list(ids)
        if self.end_id in ids:
            ids = ids[: ids.index(self.end_id)]
        return " ".join(self.backend.decode(ids, skip_special_tokens=True).split())

    def word_id(self, word: str) -> int | None:
        """Id of the single token that is `word` (GPT-2: "." is 13), or None where there is none."""
        found = (self.backend.token_to_id(form + word) for form in WORD_FORMS)
        return next((token for token in found if token is not None), None)

    def has_words_of(self, other: "CaptionTokenizer") -> bool:
        """Whether every id means the same token as in `other`."""
        return self.backend.get_vocab() == other.backend.get_vocab()

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and the settings that transformers' AutoTokenizer reads."""
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": self.end_token}
        atomic.write_text(Path(folder) / TOKENIZER_FILE, self.backend.to_str(pretty=True) + "\n")
        atomic.write_json(Path(folder) / SETTINGS_FILE, settings)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Tokenizer that `save` wrote, or any folder with a fast tokenizer's two files.

        Raises:
            InputError: a file is missing or unreadable.
        """
        path, settings = Path(folder) / TOKENIZER_FILE, Path(folder) / SETTINGS_FILE
        return cls(_read_backend(path), _read_end_token(settings))

    @classmethod
    def from_pretrained(cls, name: str, revision: str | None = None) -> Self:
        """Tokenizer of the model with this hub name or in this folder.

        A folder may also hold GPT-2's two published files alone, vocab.json and merges.txt.

        Raises:
            InputError: it cannot be found, or the model has no fast tokenizer.
        """
        vocabulary, merges = Path(name) / "vocab.json", Path(name) / "merges.txt"
        if vocabulary.is_file() and merges.is_file() and not (Path(name) / TOKENIZER_FILE).exists():
            return cls(_gpt2_backend(vocabulary, merges), END_TOKEN)
        folder = _fetched(name, revision)
        try:
            found = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{name}: holds no tokenizer that can be read; give a folder with tokenizer.json"
            ) from error
        if not found.is_fast:
            raise InputError(
                f"tokenizer of {name!r}: has no tokenizer.json; convert it to one first"
            )
        return cls(found.backend_tokenizer, found.eos_token)


def train_bpe(captions: Iterable[str], vocabulary: int) -> CaptionTokenizer:
    """Byte-level BPE of at most `vocabulary` tokens, trained on lower-cased `captions`.

    Lower case, single spaces and no space before punctuation are part of the tokenizer, so any
    spelling of a caption gets the ids it was trained with. Every byte has a token, so no word is
    unknown.

    Raises:
        InputError: `vocabulary` is too small for the 256 bytes and the end token.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocabulary <= len(alphabet):
        raise InputError(f"vocabulary {vocabulary}: give at least 257, 256 bytes and the end token")
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
            *(normalizers.Replace(f" {mark}", mark) for mark in NO_SPACE_BEFORE),
        ]
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_TOKEN],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator(captions, trainer)
    return CaptionTokenizer(backend, END_TOKEN)


def _read_backend(path: Path) -> Tokenizer:
    """Tokenizer in `path`; the library raises a bare Exception for whatever is wrong with it."""
    if not path.is_file():
        raise InputError(f"{path}: not found; a model folder needs its tokenizer file")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise InputError(
            f"{path}: is not a whole tokenizer file ({error}); copy it again"
        ) from error


def _fetched(name: str, revision: str | None) -> Path:
    """Local folder with the tokenizer files of a folder or hub repository."""
    found = [model_file(name, file, revision) for file in TOKENIZER_FILES]
    folder = next((path.parent for path in found if path is not None), None)
    if folder is None:
        raise InputError(f"{name}: has no tokenizer; give a folder with tokenizer.json")
    return folder


def _gpt2_backend(vocabulary: Path, merges: Path) -> Tokenizer:
    """GPT-2's byte-level BPE from the two files it was published in."""
    backend = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END_TOKEN])
    return backend


def _read_end_token(path: Path) -> str | None:
    """The `eos_token` in transformers' tokenizer settings; older files hold it as a table."""
    try:
        token = json.loads(path.read_text(encoding="utf-8")).get("eos_token")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: cannot be read as tokenizer settings ({error}); copy it again"
        ) from error
    return token["content"] if isinstance(token, dict) else token
