"""What each of two launched processes does; `python -m tests.two_processes RECIPE RUNS`.

Only the main process is told the folder of the runs, so that nothing another one writes is lost
among its files. Process 1 is sent SIGTERM in step `DEADLY_STEP` of the run "stopped",
and of those whose weights are shards, one of which they then go on with.
"""

import json
import os
import signal
import sys
from pathlib import Path

from prefixcap import train
from prefixcap.cli import main as cli

SHARDED = ["--set", "train.shard=true", "--set", "train.ema=0", "--set", "train.clip_norm=0.5"]
ACCUMULATED = ["--set", "train.accumulate=2", "--set", "train.images_per_step=2"]
DEADLY_STEP = 3


def words(recipe: Path, runs: Path, name: str) -> list[str]:
    """Command line of a run."""
    return ["train", str(recipe), "--runs", str(runs), "--set", f"name={name}", "--device", "cpu"]


def main(recipe: Path, runs: Path) -> None:
    """Five runs, and two of them once more: exit codes go to `exit-codes-INDEX.json`."""
    index = int(os.environ["RANK"])
    own = runs if index == 0 else runs / "of-process-1"
    codes = [cli.main(words(recipe, own, "plain"))]
    codes += [cli.main(words(recipe, own, "accumulated") + ACCUMULATED)]
    codes += [cli.main(words(recipe, own, "plain"))]
    real = train.step_seed

    def deadly(seed: int, step: int, process: int) -> int:
        if (step, process) == (DEADLY_STEP, 1):
            os.kill(os.getpid(), signal.SIGTERM)
        return real(seed, step, process)

    train.step_seed = deadly
    codes += [cli.main(words(recipe, own, "stopped"))]
    for name in ("sharded", "sharded-stopped"):
        codes += [cli.main(words(recipe, runs, name) + SHARDED)]
    train.step_seed = real
    codes += [cli.main(words(recipe, runs, "sharded") + SHARDED)]
    (runs / f"exit-codes-{index}.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
