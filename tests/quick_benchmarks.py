"""Benchmarks at a tiny size: do they run at all."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def printed_by(script: str, *arguments: str) -> str:
    """What a script of benchmarks/ prints with --quick and these arguments; it has to end well."""
    command = [sys.executable, str(BENCHMARKS / script), "--quick", *arguments]
    done = subprocess.run(
        command, cwd=BENCHMARKS.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
