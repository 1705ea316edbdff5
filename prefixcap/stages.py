"""What each stage of a recipe trains: builds task and batches, calls `train.fit`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from prefixcap.atomic import replacing
from prefixcap.batches import BatchSource, PixelSource, read_dev_sources, read_sources
from prefixcap.config import PreprocessConfig
from prefixcap.datasets.records import CaptionRecord
from prefixcap.distill import Distiller, TeacherStatistics
from prefixcap.distill_batches import DistillBatches, LookOptions
from prefixcap.embeddings import EmbeddingStore, StoreItem
from prefixcap.encoder import ImageEncoder, build_encoder, load_encoder
from prefixcap.errors import InputError
from prefixcap.foreign_embeddings import import_store
from prefixcap.hints import VARIANCE_PHOTOS, HintDistiller, PhotoBatches, check_preprocess
from prefixcap.images import Skipped
from prefixcap.memory import keep_freed_memory
from prefixcap.precision import bf16_is_fast
from prefixcap.processes import CPU
from prefixcap.recipe import Recipe, TrainConfig, expand
from prefixcap.recipe_encoder import encoder_of_store, found_by_name, start_from
from prefixcap.run_data import data_sheet
from prefixcap.run_folder import RunFolder
from prefixcap.store_build import StoreBuild, build_together
from prefixcap.tensor_files import save_tensors
from prefixcap.train import Progress, ending, fit, step_count
from prefixcap.views import PhotoArray, stored_id, stored_view

STATISTICS_ROWS = 2000  # rows of the teacher's store that its mean and deviation are taken from


@dataclass(frozen=True)
class Watch:
    """Where a long call reports to.

    Photos read or encoded (done, of how many, by whom), weights to train, steps, and what a reader
    should know beside it.
    """

    photos: Callable[[int, int, str], None] | None = None
    trained_parameters: Callable[[int], None] | None = None
    step: Callable[[Progress], None] | None = None
    note: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Encoding:
    """How photos are encoded: by so many processes, on a device."""

    processes: int = 1
    device: torch.device = CPU


ALONE = Encoding()


def embed_recipe(
    recipe: Recipe, watch: Watch, source: Path | None = None, encoding: Encoding = ALONE
) -> list[Skipped]:
    """Build the recipe's embedding store: its encoder's, or its teacher's where it distils.

    `source`, or else `store_from`, holds vectors that another program made with the same encoder;
    they are taken over.

    Each training photo is stored whole and in `views.stored` crops. Dev and test photos are
    stored whole, where their captions will be made from embeddings.

    Raises:
        InputError: the recipe names no store, or the store holds another encoder's vectors, or
            crops are asked for of vectors of whole photos.
    """
    if not recipe.store:
        raise InputError(
            f"recipe {recipe.name}: has no `store`, so it trains from pixels and there is nothing "
            "to embed. Train it: prefixcap train RECIPE"
        )
    if source is None and recipe.store_from:
        source = expand(recipe.store_from)
    if source is not None:
        if recipe.views.stored:
            raise InputError(
                f"recipe {recipe.name}: views.stored asks for {recipe.views.stored} crops of each "
                f"photo, but {source} holds vectors of whole photos; set views.stored = 0, or let "
                "prefixcap encode them"
            )
        encoder = encoder_of_store(recipe)
        return import_store(expand(recipe.store), source, encoder, store_items(recipe))
    if recipe.encoder.stated_dim and recipe.distill is None:
        raise InputError(
            f"recipe {recipe.name}: encoder.stated_dim says that the encoder's weights are not at "
            "hand, so its store has to be made of vectors; name them in store_from, or with --from"
        )
    dtype = torch.bfloat16 if bf16_is_fast(encoding.device) else torch.float32
    prepare = partial(_store_build, recipe, encoding, dtype)

    def report(done: int, total: int, working: int) -> None:
        if watch.photos:
            by = f"{working} of {encoding.processes} processes" if encoding.processes > 1 else ""
            watch.photos(done, total, by)

    return build_together(prepare, encoding.processes, report)


def _store_build(
    recipe: Recipe, encoding: Encoding, dtype: torch.dtype, process: int
) -> StoreBuild:
    """The recipe's store in the making, on the device of one of the processes."""
    device = encoding.device
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", process % torch.cuda.device_count())
    encoder = encoder_of_store(recipe, dtype).to(device)
    return StoreBuild(expand(recipe.store), encoder, store_items(recipe))


def store_items(recipe: Recipe) -> list[StoreItem]:
    """What the recipe's store holds: all its photos, then the crops of its training photos."""
    records = read_sources(recipe.data)
    dev = []
    if recipe.stage == "caption":
        parts = read_dev_sources(recipe.dev) + read_dev_sources(recipe.test, "test")
        dev = [record for part in parts for record in part]
    items = [StoreItem(record.image_id, record.path) for record in records + dev]
    for record in records:
        for number in range(1, recipe.views.stored + 1):
            box = stored_view(recipe.views, record.image_id, number).box
            items.append(StoreItem(stored_id(record.image_id, number), record.path, box))
    return items


def distill_recipe(recipe: Recipe, run: RunFolder, watch: Watch) -> str:
    """Train the recipe's encoder on its teacher's store, and say how that ended.

    The weights go to the run folder.
    """
    if recipe.distill is None:
        raise InputError(f"recipe {recipe.name}: stage 'distill' needs a [distill] table")
    prepare(recipe)
    records = read_sources(recipe.data)
    run.hold_data(data=[(record.image_id, record.captions) for record in records])
    dtype = torch.bfloat16 if run.precision == "bf16" else torch.float32
    teacher = load_encoder(found_by_name(recipe.distill.teacher), dtype=dtype)
    student = build_encoder(recipe.encoder)
    start_from(student, recipe.encoder_from)
    if recipe.distill.hints:
        return _distill_stages(recipe, records, student, teacher, run, watch)
    if not recipe.store:
        raise InputError(
            f"recipe {recipe.name}: distils without a `store` of the teacher's patches; name one "
            "and build it (prefixcap embed RECIPE), or distil with [distill.hints]"
        )
    store = EmbeddingStore(expand(recipe.store))
    store.check_encoder(teacher)
    run.hold_rest(stored_embeddings=store.digest(store.ids))  # the statistics are of all rows
    statistics = teacher_statistics(store, recipe.distill.components)
    classifier = getattr(teacher.network, "classifier", None)
    classifier = classifier.float() if isinstance(classifier, nn.Linear) else None
    task = Distiller(student, classifier, statistics, recipe.distill)
    photos = load_photos(records, recipe, run, watch)
    stored = store.rows_of([record.image_id for record in records]) >= 0
    photos.leave_out(not_stored(store, records, photos.readable & ~stored, run, watch))
    _hold_photos(photos, records, run)
    source = PixelSource(photos, recipe.views, student.config.preprocess)
    batches = DistillBatches(
        records,
        source,
        store,
        recipe.train,
        _look_options(recipe),
        run.processes,
    )
    return _distil(task, batches, records, recipe, run, watch)


def _distill_stages(
    recipe: Recipe,
    records: Sequence[CaptionRecord],
    student: ImageEncoder,
    teacher: ImageEncoder,
    run: RunFolder,
    watch: Watch,
) -> str:
    """Train the student on hints of the teacher, which looks at each batch itself."""
    if recipe.store or recipe.views.stored:
        raise InputError(
            f"recipe {recipe.name}: with distill.hints the teacher looks at each view itself; "
            "leave store and views.stored out"
        )
    teacher.network.to(memory_format=torch.channels_last)
    check_preprocess(student, teacher)
    photos = load_photos(records, recipe, run, watch)
    _hold_photos(photos, records, run)
    source = PixelSource(photos, recipe.views, student.config.preprocess)
    batches = PhotoBatches(source, recipe.train, run.processes)
    looks = batches.some(VARIANCE_PHOTOS)
    task = HintDistiller(student, teacher, looks, recipe.distill.hints)
    return _distil(task, batches, records, recipe, run, watch)


def _hold_photos(photos: PhotoArray, records: Sequence[CaptionRecord], run: RunFolder) -> None:
    """Hold the run to the photos that it learns from, and log the unreadable ones."""
    used = [(records[row].image_id, ()) for row in np.flatnonzero(photos.readable)]
    run.hold_rest(readable_photos=data_sheet(used)["photos_hash"])
    log_skipped(photos, run)


def _distil(
    task: Distiller | HintDistiller,
    batches: DistillBatches | PhotoBatches,
    records: Sequence[CaptionRecord],
    recipe: Recipe,
    run: RunFolder,
    watch: Watch,
) -> str:
    """Train the task's encoder and save it into the run folder."""
    task.to(memory_format=torch.channels_last)
    count_trained(task, run, watch)
    tell_long_warmup(batches, recipe.train, watch)
    state = fit(task, batches, recipe.train, run, on_progress=watch.step)
    if run.processes.is_main:
        save_encoder(run.path, task.encoder)
    return ending(state, batches, recipe.train)


def _look_options(recipe: Recipe) -> LookOptions:
    """What is done with looks; parts are pasted along the cells of the student's grid."""
    if not recipe.distill.paste:
        return LookOptions(recipe.distill.words)
    sizes, preprocess = recipe.encoder.resnet, recipe.encoder.preprocess or PreprocessConfig()
    if sizes is None or preprocess.crop_px % sizes.cell_px:
        asked = f"a student of kind {recipe.encoder.kind!r} at {preprocess.crop_px} px"
        raise InputError(
            f"distill.paste: {asked}; expected kind 'resnet' and a crop_px that its cells divide"
            + (f", a multiple of {sizes.cell_px}" if sizes else "")
        )
    side = preprocess.crop_px // sizes.cell_px
    return LookOptions(recipe.distill.words, recipe.distill.paste, side)


def prepare(recipe: Recipe) -> None:
    """Set the seed, the threads and the memory of a run, before any weight is drawn."""
    keep_freed_memory()
    torch.manual_seed(recipe.train.seed)
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)


def count_trained(task: nn.Module, run: RunFolder, watch: Watch) -> None:
    """Log and report how many weights a run changes, as the papers' tables count them."""
    count = sum(p.numel() for p in task.parameters() if p.requires_grad)
    run.log(trained_parameters=count)
    if watch.trained_parameters:
        watch.trained_parameters(count)


def tell_long_warmup(source: BatchSource, config: TrainConfig, watch: Watch) -> None:
    """Say that a run is over before its warm-up, where it is."""
    steps = step_count(source, config, config.epochs)
    if watch.note is None or config.warmup_steps < steps:
        return
    last = config.lr * (steps - 1) / config.warmup_steps
    watch.note(
        f"warm-up of {config.warmup_steps:,} steps, the run has {steps:,}: its rate ends at "
        f"{last:.3g}, below the {config.lr:.3g} of train.lr. Set train.warmup_steps to "
        f"{steps // 10:,} or so, or give the run more steps (train.epochs)"
    )


def load_photos(
    records: Sequence[CaptionRecord], recipe: Recipe, run: RunFolder, watch: Watch
) -> PhotoArray:
    """The records' photos in memory, less those that the run goes without; the unreadable are said.

    Raises:
        InputError: none can be read.
    """
    report = (lambda done: watch.photos(done, len(records), "")) if watch.photos else None
    photos = PhotoArray([r.path for r in records], recipe.views.stored_px, report)
    if photos.skipped:
        first = photos.skipped[0]
        found = f"{len(photos.skipped)} of {len(records)} photos cannot be read, such as"
        if len(photos.skipped) == len(records):
            raise InputError(f"{found} {first.reason}. Check the data: prefixcap data check")
        if watch.note:
            watch.note(f"{found} {first.reason}")
    photos.leave_out(_left_out("unreadable", records, ~photos.readable, run, watch))
    return photos


def log_skipped(photos: PhotoArray, run: RunFolder) -> None:
    """Name the unreadable photos in the run's log; it is clear that it goes on without them."""
    for skipped in photos.skipped:
        run.log(skipped=skipped.key, reason=skipped.reason)


def not_stored(
    store: EmbeddingStore,
    records: Sequence[CaptionRecord],
    missing: np.ndarray,
    run: RunFolder,
    watch: Watch,
) -> np.ndarray:
    """Photos (M,) bool that the run goes without since they are not stored; said and logged.

    `missing` (M,) bool are those that are not stored now.

    Raises:
        InputError: none is stored.
    """
    count = int(missing.sum())
    if count == len(records):
        raise InputError(
            f"{store.folder}: holds none of the recipe's {count:,} photos, such as "
            f"{records[0].image_id}; it was made for others. Make one of these: prefixcap embed "
            "RECIPE --set store=FOLDER"
        )
    left_out = _left_out("not stored", records, missing, run, watch)
    if left_out.any():
        run.log(photos_not_stored=int(left_out.sum()))
        if count and watch.note:
            first = records[int(missing.argmax())].image_id
            watch.note(
                f"{count:,} of {len(records):,} photos are not in {store.folder}, such as {first}, "
                "and are left out"
            )
    return left_out


def _left_out(
    why: str, records: Sequence[CaptionRecord], missing: np.ndarray, run: RunFolder, watch: Watch
) -> np.ndarray:
    """Photos (M,) bool that the run goes without, those back among the `missing` (M,) included."""
    ids = run.left_out(why, [records[row].image_id for row in np.flatnonzero(missing)])
    left_out = np.array([record.image_id in ids for record in records], bool)
    back = np.flatnonzero(left_out & ~missing)
    if len(back) and run.has_begun and watch.note:
        watch.note(
            f"{len(back):,} photos, such as {records[back[0]].image_id}, were {why} when this run "
            "began and stay left out of it; a new run has them"
        )
    return left_out


def save_encoder(run: Path, encoder: ImageEncoder) -> None:
    """Write the encoder's tensors to `run/encoder.safetensors`, under `encoder.*`."""
    tensors = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    with replacing(run / "encoder.safetensors") as file:
        save_tensors(tensors, file)


def teacher_statistics(store: EmbeddingStore, components: int) -> TeacherStatistics:
    """How the store's patches vary, from evenly spaced rows."""
    chosen = np.linspace(0, len(store) - 1, min(len(store), STATISTICS_ROWS)).astype(int)
    return TeacherStatistics.of(torch.from_numpy(store.rows(chosen)).float(), components)
