"""Caption metrics; usable alone, without torch."""

from prefixcap.metrics.score import METRICS, Scores, score

__all__ = ["METRICS", "Scores", "score"]
