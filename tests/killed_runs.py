"""Runs over a folder that are killed again and again; `python -m tests.killed_runs FOLDER`.

One process loads the model and forks the runs, so that a kill costs milliseconds. It computes in a
single thread, since a fork of a process with a pool of threads may hang.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import torch

from prefixcap.captioner import Captioner
from prefixcap.config import DecodeOptions
from prefixcap.folder import FolderOptions, SidecarOptions, caption_folder
from prefixcap.images import find_photo_set
from tests.tiny_captioner import save_tiny_model, write_photos

BEAM = DecodeOptions(max_tokens=8, beam_size=2, captions_per_image=2)
SCENARIOS: dict[str, Callable[[Path], FolderOptions]] = {
    "jsonl": lambda folder: FolderOptions(folder / "captions.jsonl", batch_size=4, workers=1),
    "csv": lambda folder: FolderOptions(
        folder / "captions.csv", SidecarOptions(existing="append"), BEAM, batch_size=3, workers=0
    ),
    "parquet": lambda folder: FolderOptions(
        folder / "captions.parquet", SidecarOptions(), batch_size=4, workers=0
    ),
    "sidecars": lambda folder: FolderOptions(
        sidecar=SidecarOptions(existing="prepend", after=","), batch_size=5, workers=0
    ),
}


def prepare(folder: Path) -> None:
    """Twenty photos, two of them unreadable, and sidecars of three."""
    write_photos(folder / "photos", 20)
    for name in ("a/003.png", "b/008.png"):
        (folder / "photos" / name).write_text("no picture")
    for name in ("a/001", "a/007", "b/009"):
        (folder / "photos" / name).with_suffix(".txt").write_text("an older text\n")


def run(
    captioner: Captioner, folder: Path, options: FolderOptions, deadly_step: int | None
) -> None:
    """Caption the folder; die by SIGKILL at the `deadly_step`-th change of a file."""
    steps = count()

    def deadly(change: Callable) -> Callable:
        def step(*arguments: object, **options: object) -> object:
            for moment in ("before", "after"):
                result = None if moment == "before" else change(*arguments, **options)
                if next(steps) == deadly_step:
                    os.kill(os.getpid(), signal.SIGKILL)
            return result

        return step

    for name in ("fsync", "replace", "unlink", "close"):
        setattr(os, name, deadly(getattr(os, name)))
    Path.unlink = deadly(Path.unlink)
    caption_folder(captioner, find_photo_set([str(folder / "photos")]), options)


def survives(*arguments: object) -> bool:
    """Whether `run` of these arguments, in a process of its own, came to its end."""
    child = os.fork()
    if child == 0:
        try:
            run(*arguments)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "a run failed of itself"
    return not os.WIFSIGNALED(status)


def main(folder: Path) -> None:
    """For each scenario one run that is left alone and one killed at ever later steps."""
    torch.set_num_threads(1)
    save_tiny_model(folder / "model")
    captioner = Captioner.from_pretrained(folder / "model", device="cpu", dtype=torch.float32)
    for name, options in SCENARIOS.items():
        whole, killed = folder / name / "whole", folder / name / "killed"
        prepare(whole)
        shutil.copytree(whole, killed)
        assert survives(captioner, whole, options(whole), None)
        kills = 0
        while not survives(captioner, killed, options(killed), kills):
            kills += 1
        print(name, kills)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
