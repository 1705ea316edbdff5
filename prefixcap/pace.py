"""How fast a training run goes, how much memory it takes, and how long it still needs."""

import resource
import sys
import time
from collections import deque
from pathlib import Path

import torch

COUNTS = ("tokens", "captions", "photos")  # values of a step that count what it went through
WINDOW = 20  # steps that speeds are averaged over


class Pace:
    """Speeds of a run of `steps` steps that begins, or goes on, after `first` of them."""

    def __init__(self, first: int, steps: int, device: torch.device) -> None:
        self.first, self.steps, self.device = first, steps, device
        self.began = time.perf_counter()
        self.recent: deque[tuple[float, dict[str, float]]] = deque(maxlen=WINDOW)

    def after(self, step: int, seconds: float, values: dict[str, float]) -> dict[str, float]:
        """Values for the log after `step`, which took `seconds` and had these `values`.

        `step_s`, a speed such as `tokens_per_s` for each of `COUNTS` that is there, `memory_mib`
        (the peak so far) and `left_s`, which allows for validations and checkpoints as they came
        until now.
        """
        counts = {name: values[name] for name in COUNTS if name in values}
        self.recent.append((seconds, counts))
        spent = sum(seconds for seconds, _ in self.recent)
        speeds = {
            f"{name}_per_s": round(sum(seen[name] for _, seen in self.recent) / spent, 1)
            for name in counts
        }
        whole = (time.perf_counter() - self.began) / (step - self.first)
        return {
            "step_s": round(seconds, 4),
            **speeds,
            "memory_mib": peak_mib(self.device),
            "left_s": round(whole * (self.steps - step), 1),
        }


def peak_mib(device: torch.device) -> int:
    """Peak memory so far, MiB: what PyTorch took of a GPU, else what this process had resident.

    Linux's own count is taken where there is one: `ru_maxrss` of a child begins at its parent's.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) >> 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, bytes on macOS
    return peak >> (20 if sys.platform == "darwin" else 10)
