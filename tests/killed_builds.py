"""Stores whose builders are killed again and again; `python -m tests.killed_builds FOLDER`.

One process loads everything and forks the others, so that a kill costs milliseconds; they compute
in a single thread, since a fork of a process with a pool of threads may hang.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from prefixcap import embeddings
from prefixcap.config import EncoderConfig, PreprocessConfig, ResNetConfig
from prefixcap.embeddings import EmbeddingStore, StoreItem
from prefixcap.encoder import ImageEncoder, build_encoder
from prefixcap.store_build import StoreBuild, build_store, build_together

PHOTOS, SHARD_ROWS, BATCH = 14, 4, 2
MORE_PHOTOS, REPLACED = 19, (1, 6, 12)


def encoder() -> ImageEncoder:
    """Tiny ResNet, the same in every process."""
    torch.manual_seed(0)
    return build_encoder(
        EncoderConfig(
            kind="resnet",
            stored=True,
            resnet=ResNetConfig(stem_width=4, widths=(4, 8), depths=(1, 1)),
            preprocess=PreprocessConfig(resize="squash", crop_px=32),
        )
    ).eval()


def items(folder: Path, photos: int = PHOTOS) -> list[StoreItem]:
    """So many photos, of which the sixth is none."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(photos):
        path = folder / f"{number}.png"
        pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        if number == 5:
            path.write_bytes(b"no photo")
        elif not path.exists():
            Image.fromarray(pixels).save(path)
        found.append(StoreItem(f"image {number}", path))
    return found


def takes_shards(
    folder: Path, store: str, photos: int, report_deadly: Callable[[int], None]
) -> None:
    """Make the free shards."""
    build = StoreBuild(folder / store, encoder(), items(folder, photos), BATCH)
    build.encode(report_deadly, wait=False, decoders=1)


def dying_at(deadly: int, work: Callable[[Callable[[int], None]], None]) -> int:
    """Id of a process that dies by SIGKILL at its `deadly`-th batch or change of a file."""
    child = os.fork()
    if child:
        return child
    steps = count()

    def step(*_: object) -> None:
        if next(steps) == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    replace = os.replace

    def deadly_replace(*arguments: object) -> None:
        step()
        replace(*arguments)
        step()

    os.replace = deadly_replace
    try:
        work(step)
        os._exit(0)
    finally:
        os._exit(1)


def kill_two_at_ever_later_steps(folder: Path, store: str, photos: int = PHOTOS) -> int:
    """Number of rounds until two builders of one store both survived."""
    for deadly in count():
        work = partial(takes_shards, folder, store, photos)
        children = [dying_at(deadly, work) for _ in range(2)]
        statuses = [os.waitpid(child, 0)[1] for child in children]
        assert all(os.WIFSIGNALED(s) or os.WEXITSTATUS(s) == 0 for s in statuses), statuses
        if not any(os.WIFSIGNALED(status) for status in statuses):
            return deadly


def prepared(folder: Path, store: str, victim: int, process: int) -> StoreBuild:
    """A build in which process 1 kills itself (`victim` 1) or the first process (0)."""
    made = encoder()
    if process == 0:
        for other in multiprocessing.active_children():
            other.join()
    else:
        forward, batches = made.forward, count()

        def deadly(pixels: torch.Tensor) -> torch.Tensor:
            if next(batches) == 1:
                os.kill(os.getpid() if victim else os.getppid(), signal.SIGKILL)
            return forward(pixels)

        made.forward = deadly
    return StoreBuild(folder / store, made, items(folder), BATCH)


def together(folder: Path, store: str, victim: int) -> list[tuple[int, int, int]]:
    """What `build_together` reported, with one of its two processes killed."""
    reports: list[tuple[int, int, int]] = []
    prepare = partial(prepared, folder, store, victim)
    build_together(prepare, 2, lambda *report: reports.append(report))
    return reports


def vectors_of(folder: Path) -> dict[str, bytes]:
    """Each row of a store by its image."""
    store = EmbeddingStore(folder)
    return {image_id: store.rows([row])[0].tobytes() for image_id, row in store.row_of.items()}


def go_on_with_other_photos(folder: Path) -> None:
    """Replace photos and add some, and kill those who bring the store up to date."""
    before, old = EmbeddingStore(folder / "killed"), vectors_of(folder / "killed")
    was = before.rows(range(len(before)))
    for number in REPLACED:
        Image.fromarray(np.full((32, 32, 3), number, np.uint8)).save(folder / f"{number}.png")
    build_store(folder / "whole again", encoder(), items(folder, MORE_PHOTOS), batch_size=BATCH)
    expected = vectors_of(folder / "whole again")
    print("rounds", kill_two_at_ever_later_steps(folder, "killed", MORE_PHOTOS))
    assert vectors_of(folder / "killed").keys() == old.keys()  # the index comes last
    build_store(folder / "killed", encoder(), items(folder, MORE_PHOTOS), batch_size=BATCH)
    store = EmbeddingStore(folder / "killed")
    assert len(store.ids) == len(set(store.ids)) == MORE_PHOTOS - 1
    found = vectors_of(folder / "killed")
    assert found == expected
    assert store.ids[: len(before)] == before.ids
    np.testing.assert_array_equal(before.rows(range(len(before))), was)  # of who had opened it
    assert {name for name in old if old[name] != found[name]} == {f"image {n}" for n in REPLACED}
    print("equal again")


def main(folder: Path) -> None:
    """Build one store undisturbed and three with kills; they have to be equal."""
    torch.set_num_threads(1)
    embeddings.SHARD_ROWS = SHARD_ROWS  # goes into each store's plan, which all processes follow
    build_store(folder / "whole", encoder(), items(folder), batch_size=BATCH)
    for store in ("killed", "second", "first"):
        embeddings.begin_store(folder / store, encoder(), items(folder))
    print("rounds", kill_two_at_ever_later_steps(folder, "killed"))
    reports = together(folder, "second", victim=1)
    assert {working for _, _, working in reports} == {1}, reports
    assert reports[-1] == (PHOTOS, PHOTOS, 1), reports
    first = dying_at(-1, lambda step: together(folder, "first", victim=0))
    assert os.WIFSIGNALED(os.waitpid(first, 0)[1])
    whole = EmbeddingStore(folder / "whole")
    assert len(whole) == PHOTOS - 1
    for store in ("killed", "second", "first"):
        skipped = build_store(folder / store, encoder(), items(folder), batch_size=BATCH)
        assert [photo.key for photo in skipped] == ["image 5"], store
        found = EmbeddingStore(folder / store)
        assert found.ids == whole.ids, store
        np.testing.assert_array_equal(found.rows(range(len(whole))), whole.rows(range(len(whole))))
        assert not list((folder / store).glob(".*.part")), store
    print("equal")
    go_on_with_other_photos(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
