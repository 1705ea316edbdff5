"""The package can be lifted out: it needs numpy and the standard library, and two small modules."""

import subprocess
import sys

PROGRAM = """
import sys
import prefixcap.metrics
from prefixcap.metrics import score

found = score({"a": "a dog runs"}, {"a": ["a dog runs fast"]})
assert set(found.corpus) == {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"}
heavy = {"torch", "transformers", "safetensors", "pydantic", "PIL", "pycocoevalcap"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
ours = {name for name in sys.modules if name.startswith("prefixcap.")}
outside = {name for name in ours if not name.startswith("prefixcap.metrics")}
assert outside <= {"prefixcap.errors", "prefixcap.atomic"}, outside
"""


def test_scoring_imports_numpy_and_the_standard_library_only():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
