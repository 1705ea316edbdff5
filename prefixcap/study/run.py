"""One run of a study in a process of its own: its store, its training, its scores."""

import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prefixcap.datasets.annotations import read_json
from prefixcap.errors import InputError
from prefixcap.recipe import Recipe, SourceConfig, expand
from prefixcap.score_sheet import read_sheet

if TYPE_CHECKING:
    from prefixcap.captioner import Captioner
    from prefixcap.datasets.records import CaptionRecord
    from prefixcap.images import Skipped

PARENT_LOOKS_S = 1.0  # between a run's looks at whether the study still lives
OUTPUT = "output.txt"  # what a run's process printed, warnings included


@dataclass(frozen=True)
class ScoredSplit:
    """What a run is scored on, and how.

    Attributes:
        split: "dev", "test" or "train".
        source: which of the recipe's tables of that name.
        first: only so many images of it, None for all.
        metrics: names as `prefixcap evaluate` takes them.
        tokenizer: "ptb", "stanford" or "none".
    """

    split: str
    source: int
    first: int | None
    metrics: tuple[str, ...]
    tokenizer: str

    @property
    def label(self) -> str:
        """Name of the split in file names."""
        return f"{self.split}-{self.source}" if self.source else self.split

    @property
    def facts(self) -> dict[str, Any]:
        """What has to be the same for scores that are there to be kept."""
        return {"first": self.first, "metrics": list(self.metrics), "tokenizer": self.tokenizer}


@dataclass(frozen=True)
class Job:
    """One process's work: the store of a recipe, or a run in `folder` and its scores."""

    what: Literal["embed", "run"]
    recipe: Recipe
    folder: Path
    splits: tuple[ScoredSplit, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a job ended; `reason` is one line, "" where it is done."""

    status: Literal["done", "failed", "stopped"]
    reason: str = ""


def in_one_precision(jobs: Mapping[str, Job]) -> dict[str, Job]:
    """The same jobs, where recipes leave the precision to the machine all in the same one.

    That of a run that is there already, else what is fast here: runs that are compared should not
    differ in it, though each would measure by itself.
    """
    free = {name: job for name, job in jobs.items() if job.recipe.train.precision == "auto"}
    if not free:
        return dict(jobs)
    from prefixcap.precision import fast_precision
    from prefixcap.processes import usable_device

    found = list(filter(None, map(_begun_precision, free.values())))
    device = next(iter(free.values())).recipe.train.device
    precision = found[0] if found else fast_precision(usable_device(device or None))
    return dict(jobs) | {name: _with_precision(job, precision) for name, job in free.items()}


def _begun_precision(job: Job) -> str:
    """The precision that the job's run was begun in; "" where it was not."""
    written = job.folder / "recipe.json"
    settings = read_json(written) if written.is_file() else {}
    train = settings.get("train") if isinstance(settings, dict) else None
    return train.get("precision", "") if isinstance(train, dict) else ""


def _with_precision(job: Job, precision: str) -> Job:
    """The job in this precision."""
    train = job.recipe.train.model_copy(update={"precision": precision})
    return replace(job, recipe=job.recipe.model_copy(update={"train": train}))


def is_done(job: Job) -> bool:
    """Whether the run's folder holds this recipe's trained model with the scores asked for.

    A folder of another recipe is not done: its run will say what differs.
    """
    written = job.folder / "recipe.json"
    if not written.is_file() or not (job.folder / "model" / "config.json").is_file():
        return False
    if read_json(written) != job.recipe.model_dump(mode="json"):
        return False
    return all(_has_scores(job.folder, scored) for scored in job.splits)


def scores_file(folder: Path, scored: ScoredSplit) -> Path:
    """File of a run's scores on a split."""
    return folder / f"scores-{scored.label}.json"


class RunningJob:
    """A job in a process of its own."""

    def __init__(self, job: Job) -> None:
        context = get_context("forkserver")  # which imports torch once, for all runs
        context.set_forkserver_preload(["prefixcap.caption_stage"])
        self.job = job
        self.began = time.monotonic()
        self._result, result = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(job, result))
        self.process.start()
        result.close()  # so that the end of the process is the end of the pipe

    @property
    def what(self) -> str:
        """What the process does, in a word or two."""
        return "an embedding store" if self.job.what == "embed" else f"in {self.job.folder}"

    def stop(self) -> None:
        """Ask the run to save and end."""
        self.process.terminate()

    @property
    def ended(self) -> bool:
        """Whether the process is over."""
        return self.process.exitcode is not None

    def outcome(self) -> Outcome:
        """How the ended job ended; a process that was killed says nothing itself."""
        self.process.join()
        try:
            return self._result.recv()
        except EOFError:
            return Outcome("failed", _death(self.process.exitcode or 0, self.job.folder))


def _death(code: int, folder: Path) -> str:
    """Why a process ended without a word."""
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"ended by {name}{hint}; the same command continues it"
    return f"ended with exit code {code}; see {folder / OUTPUT}"


def _work(job: Job, result: Connection) -> None:
    """Do the job; what it prints goes to a file, how it ended to the pipe."""
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / OUTPUT).open("a", encoding="utf-8") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the study hears Ctrl-C and asks by SIGTERM
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        result.send(_embed(job) if job.what == "embed" else _run(job))
    except InputError as error:
        result.send(Outcome("failed", " ".join(str(error).split())))
    except OSError as error:
        result.send(Outcome("failed", f"{error.filename or job.folder}: {error.strerror}"))
    except Exception as error:
        result.send(Outcome("failed", f"{type(error).__name__}: {' '.join(str(error).split())}"))
        raise  # the traceback goes to the output file


def _end_with(parent: int) -> None:
    """Save and end when the study is gone, so that the next one finds the folder free."""
    while os.getppid() == parent:
        time.sleep(PARENT_LOOKS_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _embed(job: Job) -> Outcome:
    """Build the recipe's store."""
    from prefixcap.stages import Watch, embed_recipe

    skipped = embed_recipe(job.recipe, Watch())
    if skipped:
        return Outcome("failed", f"{len(skipped)} photos skipped, such as {skipped[0].key}")
    return Outcome("done")


def _run(job: Job) -> Outcome:
    """Train, unless that is done, and score."""
    from prefixcap.caption_stage import caption_recipe
    from prefixcap.run_folder import RunFolder
    from prefixcap.stages import Watch
    from prefixcap.train import Interrupted

    run = RunFolder(job.folder, job.recipe)
    with run.locked():
        if not (job.folder / "model" / "config.json").is_file():
            try:
                caption_recipe(job.recipe, run, Watch())
            except Interrupted:
                return Outcome("stopped", "stopped; the same command continues it")
        for scored in [one for one in job.splits if not _has_scores(job.folder, one)]:
            write_scores(job, scored)
    return Outcome("done")


def _has_scores(folder: Path, scored: ScoredSplit) -> bool:
    """Whether the scores of a split are there, and scored in this way."""
    path = scores_file(folder, scored)
    return path.is_file() and read_sheet(path).facts.get("study") == scored.facts


def write_scores(job: Job, scored: ScoredSplit) -> None:
    """Write captions and scores of one split, of the run's best weights.

    Raises:
        InputError: the recipe has no such split, or the program of a metric failed.
    """
    import torch

    from prefixcap.caption_results import write_results
    from prefixcap.captioner import Captioner
    from prefixcap.encoder import StatedEncoder
    from prefixcap.evaluate import weights_of
    from prefixcap.score_sheet import ScoreSheet, Scoring, score_sheet, write_sheet

    recipe = job.recipe
    records, source = _records(recipe, scored)
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    weights = weights_of(str(job.folder))
    stated = StatedEncoder(recipe.encoder) if recipe.encoder.stated_dim else None
    model = Captioner.from_pretrained(weights, device="cpu", dtype=torch.float32, encoder=stated)
    captions, skipped = _captions(model, recipe, records)
    captions = {_published_id(image_id): text for image_id, text in captions.items()}
    records = [replace(record, image_id=_published_id(record.image_id)) for record in records]
    write_results(job.folder / f"captions-{scored.label}.json", captions)
    sheet = score_sheet(captions, records, Scoring(scored.metrics, scored.tokenizer))
    _refuse_failed(sheet.facts)
    written_by = {"kind": "model", "name": weights, "fingerprint": model.fingerprint()}
    facts = {
        "source": {**written_by, "precision": "fp32", "device": "cpu"},
        "decoding": recipe.decoding.model_dump(mode="json"),
        "dataset": source.format,
        "split": scored.split,
        "counts": {"skipped": len(skipped)},
        "study": scored.facts,
        **sheet.facts,
    }
    path = scores_file(job.folder, scored)
    write_sheet(path, ScoreSheet(facts, sheet.captions, sheet.statistics))


def _refuse_failed(facts: dict[str, Any]) -> None:
    """Nothing, unless a metric's program failed: its scores are not kept, so they are made again.

    Raises:
        InputError: one failed, and how.
    """
    if facts["failed"]:
        reasons = "; ".join(facts["not_scored"][name] for name in facts["failed"])
        raise InputError(f"{reasons}. The same command scores the run again")


def _records(recipe: Recipe, scored: ScoredSplit) -> tuple[list["CaptionRecord"], SourceConfig]:
    """Records of the photos that are scored, with the ids that their store has, and their source.

    Raises:
        InputError: the recipe has no such source.
    """
    from prefixcap.batches import read_source

    sources = {"train": recipe.data, "dev": recipe.dev, "test": recipe.test}[scored.split]
    if scored.source >= len(sources):
        raise InputError(
            f"recipe {recipe.name}: has no [[{scored.split}]] to score; give it one, or let the "
            "study score another split"
        )
    source = sources[scored.source]
    part = "" if scored.split == "train" else f"{scored.split}-"
    return read_source(source, f"{part}{scored.source}")[: scored.first], source


def _published_id(image_id: str) -> str:
    """A record's id without the source that recipes put before it."""
    return image_id.partition("/")[2]


def _captions(
    model: "Captioner", recipe: Recipe, records: Sequence["CaptionRecord"]
) -> tuple[dict[str, str], list["Skipped"]]:
    """Captions by image id: of the store's vectors where it has them all, else of the photos."""
    from prefixcap.dev_split import stored_captions, stored_records
    from prefixcap.embeddings import EmbeddingStore
    from prefixcap.evaluate import write_captions

    store = EmbeddingStore(expand(recipe.store)) if recipe.store else None
    if store is None or len(stored_records(records, store)) < len(records):
        return write_captions(model, records, recipe.decoding)
    return stored_captions(model, records, recipe.decoding, store), []
