"""Caption metrics; usable alone, without torch: they import numpy and the standard library."""

from prefixcap.metrics.cider_references import CiderReferences, DocumentFrequencies
from prefixcap.metrics.diversity import Diversity, diversity
from prefixcap.metrics.people import PeopleWords, people_words
from prefixcap.metrics.resampling import Comparison, Interval, Statistic, compare, interval
from prefixcap.metrics.score import METRICS, JavaSettings, Scores, score, tokenize_all

__all__ = [
    "METRICS",
    "CiderReferences",
    "Comparison",
    "Diversity",
    "DocumentFrequencies",
    "Interval",
    "JavaSettings",
    "PeopleWords",
    "Scores",
    "Statistic",
    "compare",
    "diversity",
    "interval",
    "people_words",
    "score",
    "tokenize_all",
]
