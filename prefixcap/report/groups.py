"""Scores of a report put together: what may stand in one table, and what stands apart and why."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from prefixcap.published import PublishedRow, all_published_rows
from prefixcap.report.runs import Entry, Run

PAPERS_TOKENIZERS = ("ptb", "stanford")  # the second is the program that the papers ran


@dataclass(frozen=True)
class Group:
    """Scores that can be compared: the same images, references and tokenizer.

    Attributes:
        name: of its files: dataset, split and, from the second group on, a number.
        dataset: its format.
        split: "all" where none was named.
        entries: of the runs, best CIDEr first.
        published: the papers' rows that can be compared with them.
        apart: why the group does not stand in the split's first table; "" for that one.
        published_apart: the papers' rows that cannot be compared, with the reason.
    """

    name: str
    dataset: str
    split: str
    entries: Sequence[Entry]
    published: Sequence[PublishedRow] = ()
    apart: str = ""
    published_apart: Sequence[tuple[PublishedRow, str]] = field(default=())

    @property
    def title(self) -> str:
        """Dataset, split and size, and what else sets the group apart from the first."""
        marks = {
            "other images": "other images",
            "other reference captions": "other references",
            "tokenizer": f"tokenizer {self.tokenizer}",
        }
        apart = [mark for reason, mark in marks.items() if reason in self.apart]
        return ", ".join([f"{self.dataset} {self.split}", f"{self.images:,} images", *apart])

    @property
    def images(self) -> int:
        """How many images are scored."""
        return len(self.entries[0].sheet.captions)

    @property
    def tokenizer(self) -> str:
        """Name of the tokenizer that all scores come from."""
        return str(self.entries[0].sheet.facts.get("tokenizer", "unknown"))

    @property
    def metrics(self) -> list[str]:
        """Names of all scores that an entry or a published row has, as tables order them."""
        found = {name for entry in self.entries for name in entry.sheet.facts["scores"]}
        found |= {name for row in self.published for name in row.scores}
        order = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE")
        return [name for name in order if name in found] + sorted(found - set(order))


def score_groups(runs: Sequence[Run]) -> list[Group]:
    """Every score of the runs in one group, split by split in the order they are first met.

    The group with the most runs is the first of its split, and the one with the most images of
    equal ones; each other says in what it differs from it.
    """
    splits: dict[tuple[str, str], dict[tuple, list[Entry]]] = {}
    for run in runs:
        for sheet in run.sheets.values():
            entry, facts = Entry(run, sheet), sheet.facts
            split = (entry.dataset, entry.split)
            alike = (facts.get("tokenizer"), facts.get("references"), frozenset(sheet.captions))
            splits.setdefault(split, {}).setdefault(alike, []).append(entry)
    found = []
    for (dataset, split), parts in splits.items():
        ordered = sorted(parts.items(), key=lambda part: (-len(part[1]), -len(part[0][2])))
        first = ordered[0][0]
        for number, (alike, entries) in enumerate(ordered, 1):
            name = f"{dataset}-{split}" + (f"-{number}" if number > 1 else "")
            reason = "" if number == 1 else _difference(alike, first)
            found.append(_with_published(Group(name, dataset, split, _ranked(entries), (), reason)))
    return found


def _ranked(entries: Sequence[Entry]) -> list[Entry]:
    """Entries by CIDEr, the best first; those without it last."""
    return sorted(entries, key=lambda one: -one.sheet.facts["scores"].get("CIDEr", -1.0))


def _difference(alike: tuple, first: tuple) -> str:
    """In what a group differs from the first one of its split."""
    tokenizer, references, images = alike
    reasons = []
    if len(images) != len(first[2]):
        reasons.append(f"{len(images):,} images scored, not {len(first[2]):,}")
    elif images != first[2]:
        reasons.append(f"other images: {len(images - first[2]):,} of them are not in the first")
    elif references != first[1]:
        reasons.append("the same images, but other reference captions")
    if tokenizer != first[0]:
        reasons.append(f"tokenizer {tokenizer}, not {first[0]}")
    return "; ".join(reasons)


def _with_published(group: Group) -> Group:
    """The group with the papers' rows on its split, those apart that cannot be compared."""
    beside, apart = [], []
    for row in all_published_rows(group.dataset, group.split):
        reason = _published_difference(group, row)
        if reason:
            apart.append((row, reason))
        else:
            beside.append(row)
    return Group(group.name, group.dataset, group.split, group.entries, beside, group.apart, apart)


def _published_difference(group: Group, row: PublishedRow) -> str:
    """Why a paper's row cannot be compared with the group, "" where it can."""
    if group.tokenizer not in PAPERS_TOKENIZERS:
        return f"scored with tokenizer {group.tokenizer}, the paper with PTB's"
    if row.images is None:
        return "the paper's images cannot all be had any more"
    if row.images != group.images:
        return f"the paper scored {row.images:,} images, these are {group.images:,}"
    return ""
