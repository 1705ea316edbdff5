"""The doctor finds what is there, what is missing, and names the command that mends it."""

import shutil
import sys
from collections import namedtuple
from pathlib import Path

import numpy
import pytest

from prefixcap import doctor, metrics
from prefixcap.cli import doctor as cli_doctor
from prefixcap.cli import main as cli
from prefixcap.doctor import Finding
from prefixcap.metrics import spice

METADATA = """Metadata-Version: 2.4
Name: prefixcap
Version: 9.9.9
Requires-Dist: numpy>=1.26
Requires-Dist: torch<=2.13.0,>=2.6
Provides-Extra: parquet
Requires-Dist: package-that-is-nowhere>=17.0; extra == 'parquet'
Provides-Extra: light
Requires-Dist: numpy>=1.0; extra == "light"
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch) -> None:
    """An installed prefixcap with known requirements, before any other on the path."""
    folder = tmp_path / "prefixcap-9.9.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(METADATA, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    """Findings by their name."""
    return {finding.name: finding for finding in findings}


def test_required_packages_are_the_installed_metadata_without_extras(installed):
    found = by_name(doctor.package_findings())
    assert set(found) == {"numpy", "torch"}
    assert found["numpy"] == Finding("versions", "numpy", "ok", numpy.__version__)


def test_a_local_build_of_torch_satisfies_its_bound(installed):
    assert by_name(doctor.package_findings())["torch"].state == "ok"


def test_extras_tell_what_is_missing_and_the_command(installed):
    found = by_name(doctor.extra_findings())
    assert found["light"].state == "ok"
    assert found["parquet"].state == "note"
    assert found["parquet"].found == "not installed: package-that-is-nowhere"
    assert found["parquet"].mend == 'pip install "prefixcap[parquet]"'


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("package-that-is-nowhere>=2", "not installed"),
        ("numpy>=99", f"{numpy.__version__}, but prefixcap needs >=99"),
    ],
)
def test_a_package_that_does_not_satisfy_is_a_fault_with_its_command(wanted, found):
    finding = doctor.package_finding(wanted)
    assert (finding.state, finding.found) == ("fault", found)
    assert finding.mend == f'pip install "{wanted}"'


def test_hub_cache_follows_the_variables_of_the_hub(monkeypatch, tmp_path):
    from huggingface_hub import constants

    for variable in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert doctor.hub_cache() == Path("~/.cache/huggingface/hub").expanduser()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert doctor.hub_cache() == tmp_path / "home" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    assert doctor.hub_cache() == tmp_path / "cache"
    monkeypatch.undo()
    assert doctor.hub_cache() == Path(constants.HF_HUB_CACHE)


def test_cached_models_are_counted(monkeypatch, tmp_path):
    for name in ("models--gpt2", "models--openai--clip-vit-base-patch32", "datasets--coco"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert by_name(doctor.model_findings())["hub cache"].found == f"{tmp_path}, 2 models"


def test_a_hub_that_is_not_asked_is_said(monkeypatch):
    for variable in doctor.OFFLINE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert by_name(doctor.model_findings())["hub"].state == "ok"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    finding = by_name(doctor.model_findings())["hub"]
    assert (finding.state, finding.mend) == ("note", "unset HF_HUB_OFFLINE")


def test_a_package_without_built_in_models_is_a_fault(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "builtin_folder", lambda: tmp_path)
    assert by_name(doctor.model_findings())["built-in"].state == "fault"
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "model.safetensors").write_bytes(bytes(3 * 2**20))
    finding = by_name(doctor.model_findings())["built-in"]
    assert (finding.state, finding.found) == ("ok", f"tiny (3 MiB) in {tmp_path}")


def java_that_says(folder: Path, version: str) -> Path:
    """A `java` in `folder` that says its version in two lines."""
    folder.mkdir(parents=True, exist_ok=True)
    java = folder / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\necho more >&2\n")
    java.chmod(0o755)
    return java


def test_java_is_the_one_that_metrics_run_on(monkeypatch, tmp_path):
    java = java_that_says(tmp_path, "21.0.1")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.java_finding().found == f'openjdk version "21.0.1" at {java}'
    java = java_that_says(tmp_path / "home" / "bin", "17.0.2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert doctor.java_finding().found == f'openjdk version "17.0.2" at {java}'


def test_a_machine_without_java_or_its_programs_gets_the_extra_named(monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(metrics.java.util, "find_spec", lambda name: None)
    finding = doctor.java_finding()
    assert (finding.state, finding.mend) == ("note", 'pip install "prefixcap[eval]"')
    finding = doctor.meteor_finding()
    assert finding.state == "note"
    assert 'pip install "prefixcap[eval]"' in finding.mend


def test_without_numpy_the_rest_is_still_examined(monkeypatch):
    monkeypatch.setitem(sys.modules, "prefixcap.metrics", None)
    assert [(one.name, one.state) for one in doctor.evaluation_findings()] == [("metrics", "note")]


def test_spice_s_missing_jars_are_named_with_where_to_get_them(monkeypatch, tmp_path):
    java_that_says(tmp_path, "1.8.0")
    package = tmp_path / "pycocoevalcap" / "spice"
    package.mkdir(parents=True)
    (package / "spice-1.0.jar").write_bytes(b"")
    monkeypatch.setattr(spice, "find_in_pycocoevalcap", lambda name, _: package / "spice-1.0.jar")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv(spice.CORENLP_VARIABLE, raising=False)
    finding = doctor.spice_finding()
    assert finding.state == "note"
    assert "edu.stanford.nlp:stanford-corenlp:3.6.0" in finding.mend
    monkeypatch.setenv(spice.CORENLP_VARIABLE, str(tmp_path))
    assert spice.CORENLP_JARS[1] in doctor.spice_finding().mend
    for name in spice.CORENLP_JARS:
        (tmp_path / name).write_bytes(b"")
    assert doctor.spice_finding().found == f"CoreNLP in {tmp_path}, Java 8"


def test_little_disk_is_noted(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10 * 2**30, 9 * 2**30, 2**30))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "not" / "made" / "yet"))
    finding = by_name(doctor.disk_findings())["disk, hub cache"]
    assert (finding.state, finding.found) == ("note", f"1.0 GiB free in {tmp_path}")


def test_device_names_the_processor_and_bf16():
    found = by_name(doctor.device_findings())
    assert set(found) == {"device", "bf16"}
    assert found["device"].found.startswith(("cpu: ", "cuda: "))


def test_only_a_fault_makes_the_machine_unfit():
    fine = Finding("t", "a", "ok", "1")
    note = Finding("t", "b", "note", "absent", "pip install b")
    fault = Finding("t", "c", "fault", "absent", "pip install c")
    assert doctor.is_healthy([fine, note])
    assert not doctor.is_healthy([fine, note, fault])


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("fault", 1)])
def test_command_prints_a_line_per_finding_and_exits_by_the_worst(monkeypatch, capsys, state, code):
    found = [Finding("t", "numpy", "ok", "2.4"), Finding("t", "torch", state, "2.0", "mend it")]
    monkeypatch.setattr(doctor, "examine", lambda: found)
    assert cli.main(["doctor"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines == cli_doctor.plain_lines(found)
    assert lines[0].split() == ["ok", "numpy", "2.4"]
    assert lines[1].split()[0] == cli_doctor.MARKS[state]


def test_examination_of_this_machine_covers_every_topic():
    topics = {finding.topic for finding in doctor.examine()}
    assert topics == {"versions", "device", "models", "evaluation", "extras", "disk"}
