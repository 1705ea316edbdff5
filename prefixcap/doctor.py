"""What this machine offers prefixcap, what is missing, and the command that mends each."""

import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import prefixcap

State = Literal["ok", "note", "fault"]
OLDEST_PYTHON = (3, 11)
ENOUGH_DISK = 2 * 2**30  # bytes; GPT-2 small and CLIP ViT-B/32 from a hub take 1.1 GB together
JAVA_TIMEOUT_S = 10
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. A "note" limits what works, a "fault" has to be mended."""

    topic: str
    name: str
    state: State
    found: str
    mend: str = ""


def examine() -> list[Finding]:
    """Every finding about this machine, by topic; importing torch for it takes a second or two."""
    return [
        *python_findings(),
        *package_findings(),
        *device_findings(),
        *model_findings(),
        *evaluation_findings(),
        *extra_findings(),
        *disk_findings(),
    ]


def is_healthy(findings: Iterable[Finding]) -> bool:
    """Whether nothing has to be mended before photos can be captioned."""
    return all(finding.state != "fault" for finding in findings)


def python_findings() -> list[Finding]:
    """Versions of prefixcap and of Python."""
    found = platform.python_version()
    oldest = ".".join(map(str, OLDEST_PYTHON))
    old = sys.version_info[:2] < OLDEST_PYTHON
    return [
        Finding("versions", "prefixcap", "ok", prefixcap.__version__),
        Finding(
            "versions",
            "Python",
            "fault" if old else "ok",
            f"{found} at {sys.executable}",
            f"install Python {oldest} or later" if old else "",
        ),
    ]


def package_findings() -> list[Finding]:
    """Installed version of each package that prefixcap requires, against what it asks for."""
    return [package_finding(requirement) for requirement in requirements()]


def requirements(extra: str = "") -> list[str]:
    """Requirements of the installed prefixcap, such as "torch>=2.6": its own, or those of `extra`.

    Empty where prefixcap runs from a source folder that was never installed.
    """
    try:
        lines = importlib.metadata.requires("prefixcap") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    split = [line.partition(";") for line in lines]
    return [
        wanted.strip()
        for wanted, _, marker in split
        if (f"extra == '{extra}'" in marker.replace('"', "'") if extra else "extra" not in marker)
    ]


def installed_version(package: str) -> str | None:
    """Version of an installed distribution, None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def package_finding(wanted: str) -> Finding:
    """Whether the installed package satisfies the requirement `wanted`."""
    from packaging.requirements import Requirement

    requirement = Requirement(wanted)
    version = installed_version(requirement.name)
    if version is None:
        return Finding(
            "versions", requirement.name, "fault", "not installed", f'pip install "{wanted}"'
        )
    if not requirement.specifier.contains(version, prereleases=True):
        found = f"{version}, but prefixcap needs {requirement.specifier}"
        return Finding("versions", requirement.name, "fault", found, f'pip install "{wanted}"')
    return Finding("versions", requirement.name, "ok", version)


def device_findings() -> list[Finding]:
    """The device that models run on by default, its threads or memory, and whether bf16 is fast."""
    try:
        import torch

        from prefixcap.precision import bf16_is_fast
    except ImportError as error:
        mend = 'pip install --force-reinstall "torch<=2.13.0"'
        return [Finding("device", "torch", "fault", f"cannot be imported: {error}", mend)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        found = f"cuda: {card.name}, {card.total_memory / 2**30:.0f} GiB"
    else:
        found = f"cpu: {_processor()}, {torch.get_num_threads()} threads"
    fast = bf16_is_fast(torch.device(device))
    precision = (
        Finding("device", "bf16", "ok", "fast here: on by default")
        if fast
        else Finding("device", "bf16", "note", "not faster than fp32 here: fp32 is the default")
    )
    return [Finding("device", "device", "ok", found), precision]


def _processor() -> str:
    """Name of the processor, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def builtin_folder() -> Path:
    """Folder of the models that come with the package."""
    return Path(prefixcap.__file__).resolve().parent / "builtin"


def model_findings() -> list[Finding]:
    """Where models are looked for: the package, the hub's cache, and whether the hub is asked."""
    return [_builtin_finding(builtin_folder()), _cache_finding(), _offline_finding()]


def _builtin_finding(folder: Path) -> Finding:
    """Names and sizes of the built-in models."""
    weights = sorted(folder.glob("*/model.safetensors"))
    if not weights:
        return Finding(
            "models",
            "built-in",
            "fault",
            f"none in {folder}",
            "pip install --force-reinstall --no-deps .  (in prefixcap's folder)",
        )
    names = [f"{path.parent.name} ({path.stat().st_size / 2**20:.0f} MiB)" for path in weights]
    return Finding("models", "built-in", "ok", f"{', '.join(names)} in {folder}")


def _cache_finding() -> Finding:
    """Folder in which models from the hub are kept, and how many are there."""
    folder = hub_cache()
    count = len(list(folder.glob("models--*"))) if folder.is_dir() else 0
    return Finding("models", "hub cache", "ok", f"{folder}, {count} models")


def hub_cache() -> Path:
    """Folder of the hub's cache, by the rules of huggingface_hub."""
    home = os.environ.get("HF_HOME") or Path(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"
    )
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser()


def _offline_finding() -> Finding:
    """Whether a variable keeps the hub from being asked."""
    for variable in OFFLINE_VARIABLES:
        if os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE"):
            return Finding(
                "models",
                "hub",
                "note",
                f"not asked, {variable} is set: only built-in and cached models and folders load",
                f"unset {variable}",
            )
    return Finding("models", "hub", "ok", "asked for models that are neither built in nor cached")


def evaluation_findings() -> list[Finding]:
    """Java, and the programs of METEOR and SPICE; the doctor has to work without numpy, too."""
    try:
        importlib.import_module("prefixcap.metrics")
    except ImportError as error:
        return [Finding("evaluation", "metrics", "note", f"cannot be asked ({error})")]
    return [java_finding(), meteor_finding(), spice_finding()]


def java_finding() -> Finding:
    """The Java that METEOR and SPICE run on."""
    from prefixcap.metrics.java import ProgramMissingError, find_java

    try:
        java = find_java("METEOR")
    except ProgramMissingError:
        return Finding(
            "evaluation",
            "Java",
            "note",
            "not found: METEOR and SPICE cannot be computed",
            'pip install "prefixcap[eval]"',
        )
    return Finding("evaluation", "Java", "ok", f"{_java_version(java)} at {java}")


def meteor_finding() -> Finding:
    """Whether METEOR has its program."""
    from prefixcap.metrics import meteor
    from prefixcap.metrics.java import ProgramMissingError, find_in_pycocoevalcap

    try:
        jar = find_in_pycocoevalcap(meteor.JAR, meteor.PURPOSE)
    except ProgramMissingError as error:
        return Finding("evaluation", "METEOR", "note", "cannot be computed", str(error))
    return Finding("evaluation", "METEOR", "ok", str(jar))


def spice_finding() -> Finding:
    """Whether SPICE has its program, the parser that no package carries, and a Java to run on."""
    from prefixcap.metrics import spice
    from prefixcap.metrics.java import ProgramMissingError, find_java, java_version

    try:
        version = java_version(find_java(spice.PURPOSE))
        spice.class_path(None, version)
    except ProgramMissingError as error:
        return Finding("evaluation", "SPICE", "note", "cannot be computed", str(error))
    folder = os.environ[spice.CORENLP_VARIABLE]
    return Finding("evaluation", "SPICE", "ok", f"CoreNLP in {folder}, Java {version}")


def _java_version(java: str) -> str:
    """First line that `java -version` prints, or why it prints none."""
    try:
        done = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=JAVA_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"does not answer ({type(error).__name__})"
    return (done.stderr or done.stdout).partition("\n")[0].strip()


def extra_findings() -> list[Finding]:
    """Which optional extras are complete, and the command for each that is not."""
    try:
        names = importlib.metadata.metadata("prefixcap").get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        found = "runs from a source folder that is not installed, so its extras are unknown"
        return [Finding("extras", "package", "note", found, "pip install .")]
    return [_extra_finding(name) for name in names]


def _extra_finding(extra: str) -> Finding:
    """Whether every package of `extra` is installed."""
    from packaging.requirements import Requirement

    packages = [Requirement(wanted).name for wanted in requirements(extra)]
    missing = [name for name in packages if installed_version(name) is None]
    if missing:
        found = f"not installed: {', '.join(missing)}"
        return Finding("extras", extra, "note", found, f'pip install "prefixcap[{extra}]"')
    return Finding("extras", extra, "ok", ", ".join(packages))


def disk_findings() -> list[Finding]:
    """Free space where captions, models and temporary files go."""
    places = {
        "disk here": Path.cwd(),
        "disk, hub cache": hub_cache(),
        "disk, temporary": Path(tempfile.gettempdir()),
    }
    return [_disk_finding(name, folder) for name, folder in places.items()]


def _disk_finding(name: str, folder: Path) -> Finding:
    """Free space on the disk of `folder`, or of its nearest parent that is there."""
    there = next(path for path in (folder, *folder.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    found = f"{free / 2**30:.1f} GiB free in {there}"
    if free < ENOUGH_DISK:
        return Finding("disk", name, "note", found, "free some space: models take up to 2 GiB")
    return Finding("disk", name, "ok", found)
