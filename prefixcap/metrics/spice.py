"""SPICE (Anderson et al. 2016) by its own Java program, which pycocoevalcap carries.

The program also needs the parser of Stanford CoreNLP 3.6.0, which no Python package carries.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prefixcap.metrics.java import (
    JavaError,
    ProgramMissingError,
    find_in_pycocoevalcap,
    java_command,
    java_version,
)

PURPOSE = "SPICE"
CORENLP_VARIABLE = "PREFIXCAP_CORENLP"
CORENLP_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
MEMORY_MB = 8192  # as the COCO code
MAIN_CLASS = "edu.anu.spice.SpiceScorer"
NASHORN_LEFT = 15  # Java version without the JavaScript engine that SPICE writes its results with
MODULES_CLOSED = 16  # Java version from which the cache's serializer must be let in
OPENED = ("java.lang", "java.math", "java.net", "java.text", "java.util", "java.util.concurrent")
SUBSETS = ("Object", "Attribute", "Relation", "Cardinality", "Color", "Size")
SHOWN_ERROR = 500  # last characters of the program's error output that are passed on


def score(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    corenlp: Path | None = None,
    cache: Path | None = None,
    memory_mb: int = MEMORY_MB,
) -> tuple[np.ndarray, dict[str, float]]:
    """SPICE of each image, (images,) float64, and the mean F of each kind of proposition.

    Both are 0 to 1 (tables show x100); the corpus value is the mean of the first. Kinds that no
    reference has (say, colours) are left out of their image.

    Args:
        candidates: one tokenized caption per image.
        references: tokenized references of each image.
        corenlp: folder of the CoreNLP jars; default: what PREFIXCAP_CORENLP names.
        cache: folder in which parses of references are kept; none are where it is None.
        memory_mb: heap of the Java program.

    Raises:
        ProgramMissingError: Java or a jar is not there.
        JavaError: the program failed.
    """
    base = [*java_command(PURPOSE, memory_mb)]
    version = java_version(base[0])
    jars = class_path(corenlp, version)
    with tempfile.TemporaryDirectory(prefix="prefixcap-spice-") as folder:
        asked, answered = Path(folder) / "asked.json", Path(folder) / "answered.json"
        asked.write_text(json.dumps(request(candidates, references)), encoding="ascii")
        if cache:
            Path(cache).mkdir(parents=True, exist_ok=True)
        options = arguments(asked, answered, cache)
        done = subprocess.run(
            [*base, *opened_modules(version), "-cp", jars, MAIN_CLASS, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=folder,
            check=False,
        )
        if done.returncode or not answered.is_file():
            said = " ".join(done.stderr.decode("utf-8", "replace").split())[-SHOWN_ERROR:]
            raise JavaError(f"SPICE: the Java program ended with code {done.returncode}: {said}")
        return read_answer(answered.read_text(encoding="utf-8"), len(candidates))


def class_path(corenlp: Path | None, version: int) -> str:
    """Java class path of SPICE: its jar and libraries, and all jars of the CoreNLP folder.

    Raises:
        ProgramMissingError: a jar is missing; the message says which, and where to get it.
    """
    jar = find_in_pycocoevalcap("spice/spice-1.0.jar", PURPOSE)
    named = corenlp or os.environ.get(CORENLP_VARIABLE)
    if not named:
        raise ProgramMissingError(f"SPICE needs the parser of CoreNLP 3.6.0. {how_to_get()}")
    folder = Path(named)
    missing = [name for name in CORENLP_JARS if not (folder / name).is_file()]
    if missing:
        raise ProgramMissingError(f"{folder} does not hold {', '.join(missing)}. {how_to_get()}")
    if version >= NASHORN_LEFT and not any(folder.glob("nashorn-core-*.jar")):
        raise ProgramMissingError(
            f"SPICE on Java {version} needs a JavaScript engine, which Java has lost. Put "
            "org.openjdk.nashorn:nashorn-core:15.4 and the org.ow2.asm jars it depends on into "
            f"{folder}, or set JAVA_HOME to Java 8 to {NASHORN_LEFT - 1}"
        )
    # each folder as "*": the manifest's own list is ignored, so that folders can be elsewhere
    return os.pathsep.join([str(jar), str(jar.parent / "lib" / "*"), str(folder / "*")])


def how_to_get() -> str:
    """Where the missing jars are published, and what to set."""
    return (
        "Put stanford-corenlp-3.6.0.jar and stanford-corenlp-3.6.0-models.jar (Maven: "
        "edu.stanford.nlp:stanford-corenlp:3.6.0, and the same with classifier models; GPL, "
        f"hundreds of MB) into one folder and name it in {CORENLP_VARIABLE}"
    )


def opened_modules(version: int) -> list[str]:
    """Java options that let the cache's serializer into Java's own classes, where they are shut."""
    if version < MODULES_CLOSED:
        return []
    return [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]


def arguments(asked: Path, answered: Path, cache: Path | None) -> list[str]:
    """SPICE's own arguments."""
    cached = ["-cache", str(Path(cache).resolve())] if cache else []
    return [str(asked), *cached, "-out", str(answered), "-subset", "-silent"]


def request(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[dict]:
    """The program's input: image number, candidate and references of each image."""
    return [
        {"image_id": row, "test": candidate, "refs": list(group)}
        for row, (candidate, group) in enumerate(zip(candidates, references, strict=True))
    ]


def read_answer(text: str, images: int) -> tuple[np.ndarray, dict[str, float]]:
    """F of each image, (images,), and the mean F of each kind, from the program's JSON output.

    Raises:
        JavaError: the output is not that of SPICE, or not of these images.
    """
    try:
        scores = {entry["image_id"]: entry["scores"] for entry in json.loads(text)}
        values = np.array([float(scores[row]["All"]["f"]) for row in range(images)])
        kinds = {kind: [_number(scores[row], kind) for row in range(images)] for kind in SUBSETS}
    except (ValueError, KeyError, TypeError) as error:
        raise JavaError(f"SPICE: its output is not as published ({error!r})") from error
    known = {kind: [f for f in column if f is not None] for kind, column in kinds.items()}
    return values, {kind: float(np.mean(column)) for kind, column in known.items() if column}


def _number(scores: dict, kind: str) -> float | None:
    """F of one kind of proposition; None where the references have none of that kind."""
    value = scores[kind]["f"]
    return None if value is None else float(value)
