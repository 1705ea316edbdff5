"""CPU seconds of BLEU, ROUGE-L and CIDEr-D beside pycocoevalcap's, and of CIDEr-D as a reward.

    python benchmarks/metrics.py

The 5,000 COCO val2014 images with the smallest ids: candidate = first caption, references = the
rest, tokenized beforehand. The reward: 250 candidates, five for each of 50 training images, with
document frequencies of all 82,783 images of COCO train2014. Rounds of ours and of the baseline are
interleaved, so that a busy machine slows both; the fastest round of each counts.
"""

import argparse
import contextlib
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from coco_captions import coco_captions
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from prefixcap.metrics import CiderReferences, DocumentFrequencies, ptb
from prefixcap.metrics.score import SCORERS, JavaSettings, TokenizedCaptions, tokenize_all

IMAGES = 5000
ROUNDS = 5
REWARD_IMAGES, REWARD_CANDIDATES = 50, 5
REWARD_ROUNDS = 40
BASELINES = {"bleu": Bleu, "rouge": Rouge, "cider": Cider}


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    captions = dict(list(coco_captions("val").items())[: arguments.images])
    tokens = tokenize_all(
        {image: texts[0] for image, texts in captions.items()},
        {image: texts[1:] for image, texts in captions.items()},
    )
    print(f"{arguments.images:,} images, CPU seconds")
    print(f"{'':10}{'pycocoevalcap':>15}{'prefixcap':>12}{'ratio':>8}{'apart':>10}")
    for metric in BASELINES:
        compare(metric, tokens, arguments.rounds)
    measure_reward()


def compare(metric: str, tokens: TokenizedCaptions, rounds: int) -> None:
    """Print the fastest round of both for one metric, and how far per-image values are apart."""
    truth = dict(zip(tokens.ids, tokens.references, strict=True))
    found = {image: [text] for image, text in zip(tokens.ids, tokens.candidates, strict=True)}
    theirs, ours = [], []
    for _ in range(rounds):
        seconds, baseline = timed(lambda: quiet(BASELINES[metric], truth, found))
        theirs.append(seconds)
        fresh = TokenizedCaptions(tokens.ids, tokens.candidates, tokens.references)
        seconds, statistics = timed(lambda fresh=fresh: SCORERS[metric](fresh, JavaSettings()))
        ours.append(seconds)
    values = np.array([statistic.per_image for statistic in statistics.values()])
    apart = np.abs(values - np.atleast_2d(baseline[1])).max()
    ratio = min(theirs) / min(ours)
    print(f"{metric:10}{min(theirs):15.3f}{min(ours):12.3f}{ratio:8.1f}{apart:10.1e}", flush=True)


def quiet(scorer: Callable[[], Any], truth: dict, found: dict) -> tuple:
    """Scores of the baseline, without what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return scorer().compute_score(truth, found)


def measure_reward() -> None:
    """Print the time of scoring the candidates of one training step, prepared and not."""
    tokens = {image: ptb.tokenize_lines(texts) for image, texts in coco_captions("train").items()}
    seconds, frequencies = timed(lambda: DocumentFrequencies.of(tokens.values()))
    print(f"\ndocument frequencies of {len(tokens):,} images: {seconds:.1f} CPU s")
    seconds, prepared = timed(lambda: CiderReferences(tokens, frequencies))
    print(f"references of {len(tokens):,} images prepared: {seconds:.1f} CPU s")
    ids = [image for image in list(tokens)[:REWARD_IMAGES] for _ in range(REWARD_CANDIDATES)]
    others = [text for texts in list(tokens.values())[-len(ids) :] for text in texts[:1]]
    clock, cpu = [], []
    for _ in range(REWARD_ROUNDS):
        start = time.perf_counter()
        cpu.append(timed(lambda: prepared.score(ids, others))[0] * 1e3)
        clock.append((time.perf_counter() - start) * 1e3)
    print(
        f"{len(ids)} candidates: {np.median(cpu):.1f} ms of CPU, {np.median(clock):.1f} ms by the "
        f"clock (medians of {REWARD_ROUNDS})"
    )


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of some work in this process, and what it returns."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


if __name__ == "__main__":
    main()
