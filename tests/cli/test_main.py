"""The command line: quick help, one line per error, exit codes, quiet pipes."""

import errno
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from prefixcap import __version__
from prefixcap.cli import main as cli
from prefixcap.errors import InputError, MissingExtraError
from tests.source_tree import REPOSITORY

LONGEST_HELP_S = 0.5
HEAVY = ("torch", "transformers", "tokenizers", "numpy", "PIL")
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if key != cli.TRACEBACK_VARIABLE},
    "PYTHONPATH": str(REPOSITORY),
    "COLUMNS": "200",
}


def prefixcap(*words: str, **settings) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a user runs it."""
    command = [sys.executable, "-m", "prefixcap", *words]
    defaults = {"stdout": subprocess.PIPE, "env": ENVIRONMENT, "cwd": REPOSITORY}
    return subprocess.run(
        command, stderr=subprocess.PIPE, text=True, check=False, **{**defaults, **settings}
    )


def app_that(action) -> typer.Typer:
    """A command line of one command, which does `action`."""
    app = typer.Typer()
    app.command()(action)
    return app


def commands() -> list[str]:
    """Names of all commands; those of a group after its name."""
    names = []
    for group in (cli.app, *(info.typer_instance for info in cli.app.registered_groups)):
        names += [
            item.name or item.callback.__name__.replace("_", "-")
            for item in group.registered_commands
        ]
    return names


def raising(error: BaseException):
    """A command that fails with `error`."""

    def command() -> None:
        raise error

    return command


def test_help_answers_in_half_a_second_of_processor_time():
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert prefixcap("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < LONGEST_HELP_S


def test_help_of_no_command_imports_a_heavy_package():
    program = (
        "import sys\n"
        "from prefixcap.cli.main import app, main\n"
        "main(['--help'])\n"
        "for item in app.registered_commands:\n"
        "    main([item.name or item.callback.__name__, '--help'])\n"
        "for group in app.registered_groups:\n"
        "    main([group.name, '--help'])\n"
        f"print('loaded:', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_help_lists_the_commands():
    shown = prefixcap("--help").stdout
    assert {"demo", "doctor"} <= set(commands())
    assert all(name in shown for name in commands())


def test_version_is_the_packages():
    done = prefixcap("--version")
    assert (done.stdout, done.returncode) == (f"prefixcap {__version__}\n", 0)


@pytest.mark.parametrize("words", [("dmeo",), ("demo", "--ouy", "x"), ("doctor", "extra")])
def test_wrong_usage_is_one_line_and_exit_code_2(words):
    done = prefixcap(*words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert words[-1].lstrip("-") in done.stderr or words[-2].lstrip("-") in done.stderr
    assert "--help" in done.stderr


def test_a_model_that_is_nowhere_is_one_line_and_exit_code_2(tmp_path: Path, capsys):
    pytest.importorskip("skimage", reason="needs the extra demo")
    words = ["demo", "--model", str(tmp_path / "no-model"), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no-model" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            InputError("x.jpg: is empty.\nGive another"),
            2,
            "prefixcap: x.jpg: is empty. Give another",
        ),
        (MissingExtraError("pyarrow", "parquet", "Parquet"), 2, 'pip install "prefixcap[parquet]"'),
        (OSError(errno.ENOSPC, "No space left on device", "out.jsonl"), 1, "out.jsonl: No space"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "/x: Permission denied."),
        (OSError("odd"), 1, "prefixcap: odd."),
        (OSError(errno.EFBIG, "File too large", "a.npy"), 1, "a.npy: File too large. Raise the"),
        (KeyboardInterrupt(), 130, "prefixcap: interrupted"),
        (EOFError("No data left in file"), 1, "internal error, EOFError: No data left"),
        (KeyError("width"), 1, "internal error, KeyError: 'width'"),
        (typer.Exit(1), 1, ""),
    ],
)
def test_every_error_is_one_line_with_its_exit_code(monkeypatch, capsys, error, code, said):
    monkeypatch.setattr(cli, "app", app_that(raising(error)))
    monkeypatch.delenv(cli.TRACEBACK_VARIABLE, raising=False)
    assert cli.main([]) == code
    lines = list(filter(None, capsys.readouterr().err.splitlines()))  # typer ends its line at EOF
    assert len(lines) == (1 if said else 0)
    assert said in "".join(lines)


def test_a_variable_brings_the_traceback_back(monkeypatch):
    monkeypatch.setattr(cli, "app", app_that(raising(InputError("x.jpg: is empty"))))
    monkeypatch.setenv(cli.TRACEBACK_VARIABLE, "1")
    with pytest.raises(InputError):
        cli.main([])


def test_a_reader_that_left_is_no_error_to_talk_about():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nobody:
        done = prefixcap("--version", stdout=nobody)
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_behind_stdout_is_one_line():
    with open("/dev/full", "w") as full:
        done = prefixcap("--version", stdout=full)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "No space left" in done.stderr


def test_import_turns_an_original_checkpoint_into_a_model_folder(golden_dir, tmp_path, capsys):
    from prefixcap.model import ClipCap
    from tests.golden_cases import NAMES, GoldenCase, numbered_tokenizer

    case = GoldenCase.read(golden_dir, NAMES[0])
    gpt2, words, out = case.settings["gpt2"], tmp_path / "words", tmp_path / "model"
    words.mkdir()
    numbered_tokenizer(gpt2["vocab_size"]).save(words)
    options = ["--encoder", "ViT-B/32", "--heads", str(gpt2["n_head"]), "--tokenizer", str(words)]
    if case.settings["normalize"]:
        options.append("--normalize")
    assert cli.main(["import", str(case.checkpoint), *options, "--out", str(out)]) == 0
    assert f"prefix length {case.settings['prefix_length']}" in capsys.readouterr().out
    model = ClipCap.from_pretrained(out)
    assert model.config.encoder.normalize == case.settings["normalize"]
    found = model.prefix(case.embeddings())
    assert (found - case.tensors["prefix"]).abs().max() < 1e-4


def test_import_of_something_else_is_one_line_and_writes_nothing(tmp_path, capsys):
    photo, out = tmp_path / "photo.pt", tmp_path / "model"
    photo.write_bytes(b"\xff\xd8\xff\xe0 not a checkpoint")
    (tmp_path / "tokenizer.json").write_text('{"model": "cut off')
    words = ["import", str(photo), "--encoder", "ViT-B/32", "--out", str(out)]
    assert cli.main([*words, "--tokenizer", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not out.exists()


class Intruder:
    """Pickled, it asks the reader to make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def write_embedding_pickle(path: Path, rows: list[int]) -> Path:
    """Embedding pickle in the original's layout: caption m of image m points to `rows[m]`."""
    import torch

    embeddings = torch.nn.functional.normalize(torch.randn(len(rows), 8), dim=1)
    captions = [
        {"image_id": str(number), "caption": f"caption {number}", "clip_embedding": row}
        for number, row in enumerate(rows)
    ]
    path.write_bytes(pickle.dumps({"clip_embedding": embeddings, "captions": captions}))
    return path


@pytest.mark.parametrize(
    ("rows", "code", "last"),
    [([0, 1, 2, 3], 0, "4 captions"), ([0, 1, 0, 1], 1, "problem: the row counter starts again")],
)
def test_audit_tells_facts_and_problems(tmp_path, capsys, rows, code, last):
    path = write_embedding_pickle(tmp_path / "pairs.pkl", rows)
    assert cli.main(["audit", str(path)]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{path}: 4 embeddings of 8, float32, normalised")
    assert lines[-1].startswith(last)


def test_audit_executes_nothing(tmp_path, capsys):
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(Intruder(tmp_path / "made")))
    assert cli.main(["audit", str(tmp_path / "bad.pkl")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "made").exists()
