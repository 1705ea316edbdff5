"""Captions per CPU second and captions that come out alike: our tokenizer beside Stanford's.

    python benchmarks/tokenizer.py

The captions are the 616,767 of COCO 2014, in the order of image ids, which `pycocoevalcap` carries;
so does it carry Stanford's tokenizer, which needs Java. Ours runs on one core; of Java's, all
threads count.
"""

import argparse
import resource
import time
from collections.abc import Callable, Sequence

from coco_captions import coco_captions

from prefixcap.metrics import ptb, stanford

SHOWN = 10  # differing captions that are printed


def main() -> None:
    """Measure, and print one table and what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, help="captions to take; default: all")
    limit = parser.parse_args().limit
    captions = [
        caption
        for split in ("train", "val")
        for texts in coco_captions(split).values()
        for caption in texts
    ][:limit]
    theirs = measured("Stanford (Java)", stanford.tokenize_lines, captions)
    ours = measured("prefixcap", ptb.tokenize_lines, captions)
    alone = measured("prefixcap, one by one", one_by_one, captions)
    print()
    report("in file order", captions, ours, theirs)
    report("one by one, not seeing the next caption", captions, alone, theirs)


def one_by_one(captions: Sequence[str]) -> list[str]:
    """Tokens of each caption as if it were alone in its file."""
    return [ptb.tokenize(caption) for caption in captions]


def measured(
    name: str, tokenize: Callable[[Sequence[str]], list[str]], captions: Sequence[str]
) -> list[str]:
    """Tokens of the captions; prints the captions per second of CPU and of the clock."""
    cpu, clock = cpu_seconds(), time.perf_counter()
    tokens = tokenize(captions)
    cpu, clock = cpu_seconds() - cpu, time.perf_counter() - clock
    rates = f"{len(captions) / cpu:10,.0f} a CPU second {len(captions) / clock:10,.0f} a second"
    print(f"{name:24}{rates}", flush=True)
    return tokens


def cpu_seconds() -> float:
    """CPU time of this process and of the programs it has run."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def report(name: str, captions: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> None:
    """Print the share of captions that come out alike, and the first that do not."""
    rows = zip(captions, ours, theirs, strict=True)
    differing = [row for row in rows if row[1] != row[2]]
    print(f"{1 - len(differing) / len(captions):.4%} alike {name}: {len(differing)} differ")
    for caption, mine, stanfords in differing[:SHOWN]:
        print(f"  {caption!r}\n    ours     {mine}\n    Stanford {stanfords}")


if __name__ == "__main__":
    main()
