"""All that a report shows, put together from its folders before anything is written."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TypeVar

import prefixcap
from prefixcap.errors import InputError
from prefixcap.report.charts import SERIES, Chart
from prefixcap.report.figures import (
    RANKED,
    error_chart,
    loss_charts,
    score_chart,
)
from prefixcap.report.gallery import Gallery, build_gallery
from prefixcap.report.groups import Group, score_groups
from prefixcap.report.photos import RecordFinder
from prefixcap.report.prefix import PrefixWords, map_charts, read_words, words_table
from prefixcap.report.progress import courses_together, progress_chart, progress_table
from prefixcap.report.results import (
    domains_table,
    errors_table,
    published_apart_table,
    results_table,
    runs_table,
    study_table,
)
from prefixcap.report.runs import Run, read_runs
from prefixcap.report.study import Study, is_study, read_study
from prefixcap.report.study_figures import (
    epochs_charts,
    parts_by_recipe,
    study_charts,
    study_courses,
)
from prefixcap.report.tables import Table, metric_title

T = TypeVar("T")


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows.

    Attributes:
        title: of the page.
        photos: in each gallery.
        extremes: best and worst photos of each model.
        data: dataset format -> its path, where it is not where it was scored.
    """

    title: str = "Captioning report"
    photos: int = 12
    extremes: int = 3
    data: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Lead:
    """The best measured score of a split, for the head of the page."""

    split: str
    model: str
    metric: str
    value: str
    interval: str


@dataclass(frozen=True)
class SplitPart:
    """Everything about one group of comparable scores; `no_data` says why photos are missing."""

    group: Group
    table: Table
    domains: Table | None
    published_apart: Table | None
    charts: Sequence[Chart]
    gallery: Gallery
    no_data: str
    errors_table: Table | None
    error_charts: Sequence[Chart]


@dataclass(frozen=True)
class StudyPart:
    """One study, its tables and its figures."""

    study: Study
    tables: Sequence[Table]
    charts: Sequence[Chart]


@dataclass(frozen=True)
class ProgressPart:
    """Losses and dev scores of runs that compare; no table where one of the two is missing."""

    chart: Chart
    table: Table | None


@dataclass(frozen=True)
class Report:
    """What the page shows, and what is written beside it.

    Attributes:
        problems: a line on each thing that is missing, unfinished or damaged.
        broken: how many of them are files that cannot be read.
    """

    title: str
    photos: int
    runs: Sequence[Run]
    runs_table: Table
    splits: Sequence[SplitPart]
    curves: Sequence[Chart]
    progress: Sequence[ProgressPart]
    studies: Sequence[StudyPart]
    maps: Sequence[Chart]
    words: Sequence[tuple[str, PrefixWords]]
    problems: Sequence[str]
    broken: int

    @property
    def summary(self) -> str:
        """How much the report is about, in a line."""
        parts = [(len(self.runs), "run"), (len(self.studies), "study")]
        parts.append((len({(one.group.dataset, one.group.split) for one in self.splits}), "split"))
        shown = [f"{count} {_plural(word, count)}" for count, word in parts if count]
        return ", ".join([*shown, f"written {date.today().isoformat()}"]) + "."

    @property
    def leads(self) -> list[Lead]:
        """The best score of each split's first group."""
        return [lead for part in self.splits if not part.group.apart for lead in _lead(part.group)]

    @property
    def has_errors(self) -> bool:
        """Whether any captions could be classed."""
        return any(part.errors_table for part in self.splits)

    @property
    def contents(self) -> list[tuple[str, str]]:
        """Anchor and name of each section that is there."""
        sections = [
            ("results", "Results", self.splits),
            ("runs", "Runs", self.runs),
            ("curves", "Training curves", self.curves or self.progress),
            ("studies", "Studies", self.studies),
            ("map", "Embedding map", self.maps),
            ("words", "Prefix words", self.words),
            ("gallery", "Gallery", self.splits),
            ("extremes", "Best and worst", self.splits),
            ("errors", "Error classes", self.has_errors),
        ]
        return [(anchor, name) for anchor, name, there in sections if there]

    @property
    def words_table(self) -> Table | None:
        """How readable and how shared the runs' prefixes are, where that was measured."""
        return words_table(self.words)

    @property
    def origin(self) -> str:
        """What wrote the page."""
        return f"Written by prefixcap {prefixcap.__version__}, prefixcap report."

    @property
    def tables(self) -> list[Table]:
        """Every table, for files."""
        found = [self.runs_table] if self.runs else []
        for part in self.splits:
            found += [part.table, part.domains, part.published_apart, part.errors_table]
        found += [part.table for part in self.progress]
        found += [table for part in self.studies for table in part.tables] + [self.words_table]
        return [table for table in found if table is not None]

    @property
    def charts(self) -> list[Chart]:
        """Every figure, for files."""
        found = [*self.curves, *(part.chart for part in self.progress), *self.maps]
        for part in self.splits:
            found += [*part.charts, *part.error_charts]
        return found + [chart for part in self.studies for chart in part.charts]


def collect(folders: Sequence[Path], options: ReportOptions) -> Report:
    """The report on folders of runs, scores and studies.

    Raises:
        InputError: a folder that is none of these, or a study that cannot be read.
        MissingExtraError: matplotlib is not installed.
    """
    studies = _named_apart([read_study(folder) for folder in folders if is_study(folder)])
    runs = read_runs([folder for folder in folders if not is_study(folder)])
    problems = [f"{run.name}: {line}" for run in runs for line in run.problems]
    noted = len(problems)
    words = list(_of_runs(runs, lambda run: read_words(run.folder), problems))
    maps = list(_of_runs(runs, lambda run: map_charts(run.name, run.folder), problems))
    finder = RecordFinder(options.data)
    names = [run.name for run in runs]
    splits = [_split_part(group, finder, options, names) for group in score_groups(runs)]
    return Report(
        options.title,
        options.photos,
        runs,
        runs_table(runs),
        splits,
        loss_charts(runs),
        list(_progress(runs)),
        [_study_part(study) for study in studies],
        [chart for _, charts in maps for chart in charts],
        words,
        problems,
        sum(run.broken for run in runs) + len(problems) - noted,
    )


def _split_part(
    group: Group, finder: RecordFinder, options: ReportOptions, names: Sequence[str]
) -> SplitPart:
    """Tables, charts and photos of one group; `names` are those of all runs."""
    found = finder.find(group.entries)
    gallery = build_gallery(group.entries, found.records, options.photos, options.extremes)
    return SplitPart(
        group,
        results_table(group),
        domains_table(group),
        published_apart_table(group),
        [chart for chart in [score_chart(group)] if chart],
        gallery,
        found.reason,
        errors_table(group.name, gallery.errors),
        [chart for chart in [error_chart(group.name, gallery.errors, names)] if chart],
    )


def _progress(runs: Sequence[Run]) -> Iterator[ProgressPart]:
    """Losses against scores while training, of runs that compare together."""
    for number, courses in enumerate(courses_together(runs), 1):
        caption = (
            f"Loss and scores on dev by {courses[0].across}; the dotted line is the mean loss in "
            "training since the validation before. Captions of dev are decoded as the recipe says. "
            "Runs with other dev images, data, vocabulary or loss have a figure of their own."
        )
        name = f"progress-{number}"
        chart = progress_chart(name, courses, caption)
        yield ProgressPart(chart, progress_table(name, courses))


def _named_apart(studies: Sequence[Study]) -> list[Study]:
    """The studies; those of a name that an earlier one has get a number, for their files."""
    names: list[str] = []
    for study in studies:
        again = sum(one.name == study.name for one in studies[: len(names)])
        names.append(f"{study.name}-{again + 1}" if again else study.name)
    return [
        replace(study, content=study.content | {"name": name})
        for study, name in zip(studies, names, strict=True)
    ]


def _study_part(study: Study) -> StudyPart:
    """Tables and figures of a study; those by epoch too where its variants can be told apart."""
    charts = {chart.name: chart for chart in study_charts(study)}
    if len(study_courses(study)) <= len(SERIES):
        charts |= {chart.name: chart for chart in epochs_charts(study)}
    progress = [
        progress_table(f"study-{part.name}-epochs", study_courses(part))
        for part in parts_by_recipe(study) or [study]
    ]
    tables = [study_table(study), *(table for table in progress if table)]
    return StudyPart(study, tables, list(charts.values()))


def _of_runs(
    runs: Sequence[Run], read: Callable[[Run], T | None], problems: list[str]
) -> Iterator[tuple[str, T]]:
    """What `read` finds in each run; damaged files become problems."""
    for run in runs:
        try:
            found = read(run)
        except InputError as error:
            problems.append(f"{run.name}: {error}")
            continue
        if found is not None:
            yield run.name, found


def _lead(group: Group) -> Iterator[Lead]:
    """The best score of a group, none where it has no score that ranks."""
    metric = next((name for name in RANKED if name in group.metrics), None)
    scored = [one for one in group.entries if metric in one.sheet.facts["scores"]]
    if metric is None or not scored:
        return
    best = max(scored, key=lambda one: one.sheet.facts["scores"][metric])
    ends = (best.sheet.facts.get("intervals") or {}).get(metric)
    interval = f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}" if ends else ""
    value = f"{100 * best.sheet.facts['scores'][metric]:.1f}"
    yield Lead(group.title, best.name, metric_title(metric), value, interval)


def _plural(word: str, count: int) -> str:
    """The word for so many."""
    if count == 1:
        return word
    return "studies" if word == "study" else f"{word}s"
