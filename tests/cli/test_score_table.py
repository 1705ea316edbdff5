"""Scores as tables: beside the paper's rows, overall and by domain, in what was computed."""

import numpy as np

from prefixcap.cli.score_table import show_scores
from prefixcap.score_sheet import Scoring, mean_of_known, score_sheet
from tests.tiny_split import GOOD, records


def test_each_nocaps_domain_stands_beside_the_paper_s_row_of_it(capsys):
    sheet = score_sheet(GOOD, records(domain=True), Scoring(("cider",)))
    counts = {"missing": 2, "extra": 0}
    show_scores({**sheet.facts, "dataset": "nocaps", "split": "val", "counts": counts})
    lines = capsys.readouterr().out.splitlines()
    titles = [place for place, line in enumerate(lines) if " images" in line]
    rows = [lines[place + 2].split()[-2:] for place in titles[:3]]
    assert lines[titles[1]] == "in-domain: 3 images"
    assert rows == [["65.7", "65.8"], ["79.7", "84.8"], ["49.4", "49.1"]]  # tuned, frozen
    assert lines[-1] == "images: 2 missing"
    assert "the paper's columns are of 4500 images, not of 6" in lines


def test_clip_and_its_precision_are_named_and_distinct_n_is_shown(capsys):
    values = mean_of_known(np.full(6, 0.75))
    sheet = score_sheet(GOOD, records(), Scoring(("cider",)), by_photo={"CLIPScore": values})
    clip = {"model": "ViT-B/32", "precision": "bf16"}
    facts = {**sheet.facts, "dataset": "flickr8k", "split": None, "counts": {}, "clip": clip}
    show_scores(facts)
    printed = capsys.readouterr().out
    assert "6 images, scores x100, tokenizer ptb, CLIP ViT-B/32 in bf16" in printed
    [row] = [line.split() for line in printed.splitlines() if line.startswith("CLIPScore")]
    assert row == ["CLIPScore", "75.0", "75.0", "to", "75.0"]
    assert f"distinct-1 to -4 {sheet.facts['diversity']['distinct'][1]:.2f} " in printed
