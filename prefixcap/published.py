"""ClipCap's own rows of the paper's tables, to stand beside scores on the same split."""

from collections.abc import Mapping

# Mokady et al. 2021 (arXiv 2111.09734), table 1, x100 as printed. METEOR and SPICE included.
ROWS: dict[tuple[str, str], dict[str, dict[str, float]]] = {
    ("coco-karpathy", "test"): {
        "paper, MLP + GPT-2 tuning": {
            "BLEU-4": 32.15,
            "METEOR": 27.1,
            "CIDEr": 108.35,
            "SPICE": 20.12,
        },
        "paper, transformer": {"BLEU-4": 33.53, "METEOR": 27.45, "CIDEr": 113.08, "SPICE": 21.05},
    },
    ("nocaps", "val"): {
        "paper, MLP + GPT-2 tuning": {"CIDEr": 65.7, "SPICE": 11.1},
        "paper, transformer": {"CIDEr": 65.83, "SPICE": 10.86},
    },
    ("conceptual", "val"): {
        "paper, MLP + GPT-2 tuning": {"ROUGE-L": 26.71, "CIDEr": 87.26, "SPICE": 18.5},
        "paper, transformer": {"ROUGE-L": 25.12, "CIDEr": 71.82, "SPICE": 16.07},
    },
}


def published_rows(dataset: str, split: str | None) -> Mapping[str, Mapping[str, float]]:
    """Title -> score -> value x100 as printed, for a dataset and split; {} where none is known."""
    return ROWS.get((dataset, split or ""), {})
