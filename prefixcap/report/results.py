"""Tables of a report: results beside the papers' rows, runs, error classes, studies."""

from collections.abc import Sequence

import numpy as np

from prefixcap.metrics import Statistic, compare
from prefixcap.published import PublishedRow
from prefixcap.report.errors import ErrorCounts
from prefixcap.report.groups import Group
from prefixcap.report.runs import NOT_TRAINED, Entry, Run
from prefixcap.report.study import Study
from prefixcap.report.tables import Cell, Table, metric_title

MEASURED, PUBLISHED, FLOOR = "measured", "published", "floor"
NOTHING = Cell("")
MAPPERS = {
    "mlp": "MLP",
    "transformer": "Transformer",
    "linear": "Linear",
    "patches": "Patches",
}


def results_table(group: Group) -> Table:
    """Every model of a group and the papers' rows: scores x100, weights that train, time."""
    metrics = group.metrics
    differences = _differences(group)
    best = {
        name: max(
            (one.sheet.facts["scores"].get(name, -1.0) for one in group.entries), default=None
        )
        for name in metrics
    }
    rows = []
    for entry in group.entries:
        scores = [_score(entry, name, best[name]) for name in metrics]
        difference = [differences.get(entry.name, NOTHING)] if differences else []
        rows.append([Cell(entry.name), Cell(MEASURED), *scores, *difference])
        rows[-1] += [_distinct(entry), *_cost(entry.run)]
    blank = [NOTHING] if differences else []
    rows += [_published(row, metrics, blank) for row in group.published]
    rows += [_floor(entry, metrics, blank) for entry in group.entries[:1] if _constant(entry)]
    heads = [metric_title(name) for name in metrics]
    extra = ["CIDEr-D less the first"] if differences else []
    caption = (
        f"{group.dataset} {group.split}, {group.images:,} images, tokenizer {group.tokenizer}. "
        "Scores x100 with 95 % bootstrap intervals over images. "
        + ("Differences to the first row by a paired bootstrap. " if differences else "")
        + "Distinct: captions that no other image of the split has."
        + _sources(group.published)
    )
    cost = ["Distinct (%)", "Trained weights (M)", "Training time"]
    columns = ["Model", "Source", *heads, *extra, *cost]
    return Table(f"results-{group.name}", caption, columns, rows).without_empty_columns()


def published_apart_table(group: Group) -> Table | None:
    """The papers' rows that cannot be compared with a group, with the reason; None without any."""
    if not group.published_apart:
        return None
    metrics = list(dict.fromkeys(name for row, _ in group.published_apart for name in row.scores))
    rows = [
        [*_published(row, metrics, [])[:-3], Cell(reason)] for row, reason in group.published_apart
    ]
    heads = [metric_title(name) for name in metrics]
    caption = "The papers' rows on this split that cannot be compared with the runs above."
    caption += _sources([row for row, _ in group.published_apart])
    columns = ["Row", "Source", *heads, "Why it stands apart"]
    return Table(f"published-{group.name}", caption, columns, rows)


def domains_table(group: Group) -> Table | None:
    """CIDEr-D of each domain, such as those of nocaps; None where the split has none."""
    domains = sorted(
        {name for one in group.entries for name in one.sheet.facts.get("domains") or ()}
    )
    if not domains:
        return None
    rows = []
    for entry in group.entries:
        parts = entry.sheet.facts["domains"]
        values = [parts.get(name, {}).get("scores", {}).get("CIDEr") for name in domains]
        rows.append([Cell(entry.name), *(_hundred(value) for value in values)])
    caption = "CIDEr-D (x100) by domain, with the document frequencies of the whole split."
    return Table(f"domains-{group.name}", caption, ["Model", *domains], rows)


def runs_table(runs: Sequence[Run]) -> Table:
    """What each run is, how far it came, and where it ran."""
    rows = []
    for run in runs:
        log, machine = run.log, run.environment
        best = Cell(f"{log.best_step:,}") if log.best_step is not None else NOTHING
        steps = Cell(f"{log.last_step:,}") if log.last_step else NOTHING
        parts = [machine.get("machine"), _named("torch", machine.get("torch"))]
        parts.append(_named("threads", machine.get("threads")))
        place = Cell(", ".join(str(part) for part in parts if part))
        rows.append([Cell(run.name), Cell(run.state), Cell(_trained(run)), *_cost(run)])
        rows[-1] += [steps, best, place]
    columns = ["Run", "State", "What trains", "Trained weights (M)", "Training time"]
    columns += ["Steps", "Best at step", "Machine"]
    caption = (
        "LM: language model. Training time is wall-clock time from the first step, validation "
        "included, all starts together."
    )
    return Table("runs", caption, columns, rows).without_empty_columns()


def errors_table(name: str, counts: Sequence[ErrorCounts]) -> Table | None:
    """Captions in each error class, in percent; None where nothing was classed."""
    if not counts:
        return None
    classes = list(counts[0].shares)
    rows = [
        [Cell(one.name), *(_percent(one.shares[kind]) for kind in classes), _percent(one.any_share)]
        for one in counts
    ]
    caption = (
        "Captions in each error class (%). People: the first reference of each image judged by the "
        "others, which shows what a class finds where nothing is wrong."
    )
    return Table(f"errors-{name}", caption, ["Captions of", *classes, "any class"], rows)


def study_table(study: Study) -> Table:
    """Every variant of a study: mean and spread of each score, weights, minutes."""
    rows = []
    for row in study.rows:
        cells = [Cell(str(row["variant"])), Cell(str(row.get("n", 0)))]
        for name in study.metrics:
            mean, deviation = (row["mean"] or {}).get(name), (row["std"] or {}).get(name)
            note = "" if deviation is None else f"±{100 * deviation:.1f}"
            cells.append(NOTHING if mean is None else Cell(f"{100 * mean:.1f}", note))
        cells.append(_millions(row.get("trained_parameters")))
        minutes = row.get("minutes")
        cells.append(NOTHING if minutes is None else Cell(f"{minutes:.1f}"))
        rows.append(cells)
    split = study.content["split"]
    images = f", {split['images']:,} images" if isinstance(split.get("images"), int) else ""
    caption = (
        f"{study.title}: {split.get('name')}{images}, tokenizer "
        f"{study.content.get('tokenizer') or 'unknown'}. Scores x100, mean over the finished seeds "
        "and their standard deviation."
    )
    heads = [metric_title(name) for name in study.metrics]
    columns = ["Variant", "Seeds", *heads, "Trained weights (M)", "Training (min)"]
    return Table(f"study-{study.name}", caption, columns, rows)


def _differences(group: Group) -> dict[str, Cell]:
    """Per run but the first: CIDEr-D less that of the first, with its interval and p."""
    scored = [one for one in group.entries if "CIDEr" in one.sheet.statistics]
    if len(scored) < 2:
        return {}
    first, found = scored[0], {}
    for other in scored[1:]:
        test = compare(_ordered(other, first), first.sheet.statistics["CIDEr"])
        low, high = 100 * test.interval.low, 100 * test.interval.high
        note = f"{low:+.1f} to {high:+.1f}, p {test.p_value:.3f}"
        found[other.name] = Cell(f"{100 * test.difference:+.1f}", note)
    return found


def _ordered(entry: Entry, first: Entry) -> Statistic:
    """CIDEr-D of an entry, its images in the order of the first's."""
    order = {image_id: place for place, image_id in enumerate(entry.sheet.captions)}
    places = np.array([order[image_id] for image_id in first.sheet.captions])
    one = entry.sheet.statistics["CIDEr"]
    return Statistic(one.per_image[places], one.summands[places], one.value)


def _score(entry: Entry, name: str, best: float | None) -> Cell:
    """A score x100 with its interval."""
    value = entry.sheet.facts["scores"].get(name)
    if value is None:
        return NOTHING
    ends = (entry.sheet.facts.get("intervals") or {}).get(name)
    note = f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}" if ends else ""
    return Cell(f"{100 * value:.1f}", note, value == best)


def _published(row: PublishedRow, metrics: Sequence[str], blank: Sequence[Cell]) -> list[Cell]:
    """A row of a paper, its values as printed."""
    scores = [Cell(f"{row.scores[name]:g}") if name in row.scores else NOTHING for name in metrics]
    trained = NOTHING if row.trained_millions is None else Cell(f"{row.trained_millions:g}")
    hours, _, machine = row.time.partition(" (")
    time = Cell(hours, machine.removesuffix(")"))
    return [Cell(row.title), Cell(PUBLISHED), *scores, *blank, NOTHING, trained, time]


def _sources(rows: Sequence[PublishedRow]) -> str:
    """A sentence on where published rows are printed, "" without any."""
    sources = "; ".join(dict.fromkeys(row.source for row in rows))
    return f" Published: {sources}." if sources else ""


def _constant(entry: Entry) -> dict:
    """The best constant caption's scores in a scores file, {} without."""
    return entry.sheet.facts.get("constant") or {}


def _floor(entry: Entry, metrics: Sequence[str], blank: Sequence[Cell]) -> list[Cell]:
    """The row of the best constant caption."""
    constant = _constant(entry)
    scores = [_hundred(constant["scores"].get(name)) for name in metrics]
    title = Cell("one caption for all", f"“{constant['caption']}”")
    return [title, Cell(FLOOR), *scores, *blank, *[NOTHING] * 3]


def _distinct(entry: Entry) -> Cell:
    """Captions that no other image has, in percent."""
    spread = entry.sheet.facts.get("diversity")
    return _percent(spread["different"]) if spread else NOTHING


def _cost(run: Run) -> list[Cell]:
    """Weights that train in millions, and the time it took."""
    trained = run.state != NOT_TRAINED and run.log.seconds
    time = Cell(duration(run.log.seconds)) if trained else NOTHING
    return [_millions(run.trained_parameters), time]


def duration(seconds: float) -> str:
    """Seconds below two minutes, minutes below two hours, else hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _trained(run: Run) -> str:
    """What kind of captioner a recipe trains, or its stage."""
    recipe = run.recipe
    if recipe.get("stage") != "caption":
        return str(recipe.get("stage") or "")
    if recipe.get("lstm"):
        return "LSTM with attention" if recipe["lstm"].get("attention") else "LSTM"
    mapper, language_model = recipe.get("mapper") or {}, recipe.get("language_model") or {}
    if not mapper:
        return "caption"
    part = "LoRA" if language_model.get("lora_rank") else "tuned"
    how = "frozen" if language_model.get("frozen") and part != "LoRA" else part
    return f"{MAPPERS.get(mapper.get('kind'), mapper.get('kind'))}, LM {how}"


def _millions(count: int | None) -> Cell:
    """A number of weights in millions, to three digits."""
    if count is None:
        return NOTHING
    millions = count / 1e6
    return Cell(f"{millions:,.0f}" if millions >= 100 else f"{millions:#.3g}")


def _hundred(value: float | None) -> Cell:
    """A score x100."""
    return NOTHING if value is None else Cell(f"{100 * value:.1f}")


def _percent(share: float) -> Cell:
    """A share in percent."""
    return Cell(f"{100 * share:.1f}")


def _named(name: str, value: str | None) -> str:
    """A value with its name, "" without the value."""
    return f"{name} {value}" if value else ""
