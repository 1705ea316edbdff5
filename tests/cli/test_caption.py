"""`prefixcap caption` as people run it: what it prints, writes, refuses, and its exit codes."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from prefixcap.captioner import Captioner
from prefixcap.cli.main import main
from prefixcap.config import DecodeOptions
from tests.source_tree import REPOSITORY
from tests.tiny_captioner import save_tiny_model, write_photos


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Current folder with `photos/`, six of them."""
    write_photos(tmp_path / "photos", 6)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here, model, capsys):
    """Function that runs `prefixcap caption` and gives exit code, stdout lines, stderr lines."""

    def run_caption(*words: str) -> tuple[int, list[str], list[str]]:
        code = main(["caption", *words, "--model", model, "--precision", "fp32"])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run_caption


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def expected(model: str, options: DecodeOptions | None = None) -> dict[str, str]:
    """Captions of the photos by key, from the Python interface."""
    captioner = Captioner.from_pretrained(model, device="cpu", dtype=torch.float32)
    paths = sorted(Path("photos").rglob("*.png"))
    captions = captioner.caption(paths, options)
    keys = (path.relative_to("photos").as_posix() for path in paths)
    return {key: caption.text for key, caption in zip(keys, captions, strict=True)}


def test_captions_go_to_stdout_and_the_counts_to_stderr(run, model):
    code, out, err = run("photos")
    assert code == 0
    assert out == [f"{key}: {text}" for key, text in expected(model).items()]
    assert re.fullmatch(r"6 photos captioned; \d+\.\d photos/s", err[-1]) and len(err) == 1


def test_scores_and_several_captions_have_a_line_each(run):
    code, out, _ = run("photos/a/000.png", "--captions", "3", "--scores", "--quiet")
    assert code == 0 and len(out) == 3
    scores = [float(re.fullmatch(r"000\.png: .+  \((-\d+\.\d{3})\)", line)[1]) for line in out]
    assert scores == sorted(scores, reverse=True)


def test_decoding_options_arrive(run, model):
    code, out, _ = run("photos", "--beam", "3", "--max-tokens", "5", "--begin", "two men")
    options = DecodeOptions(beam_size=3, method="beam", max_tokens=5, forced_words="two men")
    assert code == 0
    assert [line.split(": ", 1)[1] for line in out] == list(expected(model, options).values())
    assert all("two men" in line for line in out)


def test_samples_follow_the_seed(run):
    words = ("photos", "--sample", "--temperature", "2")
    first, same, other = (run(*words, "--seed", seed)[1] for seed in ("1", "1", "2"))
    assert first == same != other


def test_records_are_written_and_a_second_run_keeps_them(run, here):
    code, out, err = run("photos", "--out", "new/captions.jsonl")
    assert (code, out) == (0, [])
    assert err[-1].startswith("6 photos captioned;")
    records = lines(here / "new" / "captions.jsonl")
    assert len(records) == 6 and set(records[0]) == {"path", "caption", "score", "model"}
    code, out, err = run("photos", "--out", "new/captions.jsonl")
    assert code == 0 and err[-1].startswith("0 photos captioned, 6 kept as they were;")


def test_sidecars_are_written_beside_the_photos(run, here, model):
    code, out, _ = run("photos", "--sidecar", ".caption", "--before", "photo: ", "--after", "!")
    assert (code, out) == (0, [])
    for key, text in expected(model).items():
        sidecar = (here / "photos" / key).with_suffix(".caption")
        assert sidecar.read_text() == f"photo: {text}!\n"


def test_what_was_skipped_is_named_counted_and_makes_the_exit_code_1(run, here):
    (here / "photos" / "a" / "001.png").write_text("<html>")
    code, out, err = run("photos")
    assert code == 1 and len(out) == 5
    assert err[0].startswith("skipped a/001.png: is a web page")
    assert err[-1].startswith("5 photos captioned, 1 skipped;")
    code, out, err = run("photos", "--out", "captions.csv", "--quiet")
    assert code == 1 and len(err) == 1
    assert err[0].startswith("5 photos captioned, 1 skipped (see captions.skipped.jsonl);")
    assert lines(here / "captions.skipped.jsonl")[0]["path"] == "a/001.png"


def test_other_options_do_not_continue_a_run_unless_it_is_started_anew(run, here):
    assert run("photos", "--out", "captions.jsonl")[0] == 0
    before = (here / "captions.jsonl").read_bytes()
    code, _, err = run("photos", "--out", "captions.jsonl", "--max-tokens", "3")
    assert code == 2 and len(err) == 1
    assert "was begun with max tokens 8, now it is 3" in err[0] and "--overwrite" in err[0]
    assert (here / "captions.jsonl").read_bytes() == before
    code, _, err = run("photos", "--out", "captions.jsonl", "--max-tokens", "3", "--overwrite")
    assert code == 0 and (here / "captions.jsonl").read_bytes() != before
    code, _, err = run("photos/a", "--out", "captions.jsonl", "--max-tokens", "3")
    assert code == 2 and "was begun with photos 'photos', now it is 'photos/a'" in err[0]


def test_another_model_does_not_continue_a_run(run, here, model, tmp_path_factory, capsys):
    assert run("photos", "--out", "captions.jsonl")[0] == 0
    retrained = save_tiny_model(tmp_path_factory.mktemp("other") / "tiny", seed=1)
    words = ["photos", "--out", "captions.jsonl", "--precision", "fp32", "--model"]
    assert main(["caption", *words, str(retrained)]) == 2
    assert "was begun with model" in capsys.readouterr().err
    retrained.rename(here / "second")
    Path(model).rename(f"{model}-first")
    try:
        (here / "second").rename(model)
        assert main(["caption", *words, model]) == 2
        assert "was begun with weights" in capsys.readouterr().err
    finally:
        Path(model).rename(here / "second")
        Path(f"{model}-first").rename(model)


WRONG = {
    "nothing there": (["gone"], "gone: there is no such file or folder"),
    "empty pattern": (["photos/*.jpg"], "matches no file"),
    "no pictures": (["empty"], "empty: no picture there"),
    "no path": ([], "Missing argument"),
    "beam of zero": (["photos", "--beam", "0"], "--beam"),
    "more captions than beams": (
        ["photos", "--captions", "5", "--beam", "2"],
        "use --beam 5",
    ),
    "sample with a beam": (["photos", "--sample", "--beam", "2"], "--sample and --beam"),
    "top-p without sample": (["photos", "--top-p", "0.9"], "--top-p: has no effect without"),
    "top-p of zero": (["photos", "--sample", "--top-p", "0"], "top_p"),
    "minimum above maximum": (
        ["photos", "--min-tokens", "9", "--max-tokens", "5"],
        "--min-tokens 9 is above",
    ),
    "minimum above the model's maximum": (["photos", "--min-tokens", "9"], "above max_tokens 8"),
    "existing without sidecar": (["photos", "--existing", "append"], "add --sidecar .txt"),
    "before without sidecar": (["photos", "--before", "x"], "add --sidecar .txt"),
    "unknown existing": (["photos", "--sidecar", ".txt", "--existing", "keep"], "--existing"),
    "sidecar suffix": (["photos", "--sidecar", "txt"], "expected one such as .txt"),
    "sidecar over photos": (["photos", "--sidecar", ".png"], "would write over pictures"),
    "unknown output": (["photos", "--out", "captions.json"], "ends in .jsonl, .csv, .parquet"),
    "output is a folder": (["photos", "--out", "empty"], "is a folder"),
    "output in a file": (["photos", "--out", "file/captions.jsonl"], "cannot be written"),
    "read-only output": (["photos", "--out", "/proc/captions.jsonl"], "cannot be written"),
    "foreign output": (["photos", "--out", "notes.csv"], "write over it with --overwrite"),
    "overwrite of nothing": (["photos", "--overwrite"], "there is no output"),
    "unknown device": (["photos", "--device", "abacus"], "device abacus: cannot be used"),
    "more tokens than positions": (
        ["photos", "--out", "c.jsonl", "--max-tokens", "99"],
        "Set max_tokens to at most 47",
    ),
    "more forced words than tokens": (
        ["photos", "--out", "c.jsonl", "--begin", "red car in snow", "--max-tokens", "2"],
        "Force fewer words",
    ),
    "stop word": (
        ["photos", "--out", "c.jsonl", "--stop-word", "hippopotamus"],
        "not a single token",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_one_line_and_exit_code_2(run, here, case):
    if "/proc/captions.jsonl" in WRONG[case][0] and not Path("/proc/self").exists():
        pytest.skip("this system has no /proc")
    (here / "empty").mkdir()
    (here / "file").write_text("")
    (here / "notes.csv").write_text("mine\n")
    before = sorted(here.rglob("*"))
    words, message = WRONG[case]
    code, out, err = run(*words)
    assert (code, out) == (2, [])
    assert len(err) == 1 and message in err[0]
    assert sorted(here.rglob("*")) == before
    assert (here / "notes.csv").read_text() == "mine\n"


def test_a_model_that_is_none_is_one_line(here, capsys):
    assert main(["caption", "photos", "--model", "./photos"]) == 2
    assert re.fullmatch(r"prefixcap: .*no prefixcap model.*\n", capsys.readouterr().err)


def test_a_full_disk_is_one_line_and_the_next_run_continues(run, here):
    """A limit on the size of files stands for the full disk."""
    resource = pytest.importorskip("resource", reason="this system has no limits on file sizes")
    assert run("photos", "--out", "whole.jsonl", "--batch-size", "1")[0] == 0
    whole = (here / "whole.jsonl").read_bytes()
    words = ("photos", "--out", "captions.jsonl", "--batch-size", "1")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) - 9, limits[1]))
    try:
        code, _, err = run(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1 and len(err) == 1
    assert "captions.jsonl: File too large" in err[0]
    assert len(lines(here / "captions.jsonl")) == 5
    assert run(*words)[0] == 0
    assert (here / "captions.jsonl").read_bytes() == whole


@pytest.mark.slow
def test_ctrl_c_ends_after_the_batch_and_the_same_command_continues(run, here, model):
    write_photos(here / "many", 400)
    out = here / "captions.jsonl"
    words = ("many", "--out", str(out), "--batch-size", "2", "--workers", "1")
    command = [sys.executable, "-m", "prefixcap", "caption", *words, "--precision", "fp32"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--model", model], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        while process.poll() is None and not (out.exists() and out.stat().st_size):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read().splitlines()
    written = len(lines(out))
    assert process.returncode == 130, errors
    left = f"{400 - written} photos left; the same command continues"
    assert errors[0].startswith("stopping after the batches in hand")
    assert errors[1:] == [f"prefixcap: stopped with {left}"]
    assert written % 2 == 0 and 0 < written < 400
    for path in sorted((here / "many").rglob("*.png"))[written + 2 :]:
        path.unlink()
    code, _, err = run(*words)
    assert code == 0 and err[-1].startswith(f"2 photos captioned, {written} kept as they were")


def test_a_list_on_standard_input_is_read(run, monkeypatch, here):
    monkeypatch.setattr(sys, "stdin", io.StringIO("photos/b/001.png\nphotos/gone.png\n"))
    code, out, err = run("-")
    assert code == 1 and out[0].startswith("photos/b/001.png: ")
    assert err[0] == "skipped photos/gone.png: there is no such file"
