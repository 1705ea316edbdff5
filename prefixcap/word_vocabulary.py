"""The LSTM captioners' vocabulary: whole words that occur often enough, and three special ones."""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from prefixcap.errors import InputError
from prefixcap.tokenizer import CaptionTokenizer

UNKNOWN, START, END = "<unk>", "<start>", "<end>"
SPECIAL = (UNKNOWN, START, END)
WORD = r"\w+(?:['\u2019]\w+)*|[^\w\s]"  # "man's" is one word, a full stop another


def count_words(captions: Iterable[str], min_count: int) -> CaptionTokenizer:
    """Tokenizer of the words that occur at least `min_count` times in `captions`, lower-cased.

    Its ids are those of the special words, then of the others, the most frequent first. The text of
    a caption never becomes `<start>` or `<end>`, whatever it says.

    Raises:
        InputError: no word occurs so often.
    """
    rules = _backend({word: number for number, word in enumerate(SPECIAL)})
    counts: Counter[str] = Counter()
    for caption in captions:
        text = rules.normalizer.normalize_str(caption)
        counts.update(word for word, _ in rules.pre_tokenizer.pre_tokenize_str(text))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = [word for word, count in ranked if count >= min_count]
    if not words:
        most = f"{ranked[0][0]!r} occurs {ranked[0][1]} times" if ranked else "there is no word"
        raise InputError(
            f"no word occurs lstm.min_count = {min_count} times in the captions ({most}); lower it"
        )
    ids = {word: number for number, word in enumerate((*SPECIAL, *words))}
    return CaptionTokenizer(_backend(ids), END)


def special_ids(tokenizer: CaptionTokenizer) -> tuple[int, int]:
    """Ids of `<unk>` and `<start>`.

    Raises:
        InputError: the tokenizer has none; it is not one of words.
    """
    found = [tokenizer.backend.token_to_id(word) for word in (UNKNOWN, START)]
    if None in found or tokenizer.end_token != END:
        raise InputError(
            f"the tokenizer has no {', '.join(SPECIAL)}; an LSTM captioner needs one of words, as "
            "word_vocabulary.count_words makes it"
        )
    return found[0], found[1]


def _backend(ids: dict[str, int]) -> Tokenizer:
    """Tokenizer of the words with these ids, in lower case."""
    backend = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=True)  # no space before punctuation
    return backend
