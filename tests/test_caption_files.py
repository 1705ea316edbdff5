"""Files of captions: what was appended is there, whatever a kill left behind it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefixcap import caption_files
from prefixcap.caption_files import Journal, JsonLines, RecordFile, Table, check_record_path
from prefixcap.errors import InputError, MissingExtraError
from tests.source_tree import REPOSITORY

COLUMNS = ("path", "caption", "score", "model")
TRICKY = ['a "quoted" cat, and a comma', "two\nlines", "é 狗 🐕", "\u2028 odd\r", ""]
RECORDS = [
    {"path": f"{number}/{text}.jpg", "caption": text, "score": -0.1 * number, "model": "mini"}
    for number, text in enumerate(TRICKY, 1)
]
SUFFIXES = (".jsonl", ".csv", ".parquet")


def read(path: Path) -> list[dict]:
    """Records of a finished file, by another reader than ours."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [{**row, "score": float(row["score"])} for row in csv.DictReader(file)]
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def write(path: Path, records: list[dict]) -> bytes:
    """Content of a file that one run wrote, a record at a time."""
    with RecordFile(path, COLUMNS) as file:
        for record in records:
            file.append([record])
        file.finish()
    return path.read_bytes()


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path) -> Path:
    if request.param == ".parquet":
        pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    return tmp_path / f"captions{request.param}"


def test_every_character_comes_back(path):
    write(path, RECORDS)
    assert read(path) == RECORDS
    assert os.listdir(path.parent) == [path.name]


def test_a_second_run_continues_to_the_same_file(path, tmp_path):
    whole = write(tmp_path / f"whole{path.suffix}", RECORDS)
    with RecordFile(path, COLUMNS) as file:
        file.append(RECORDS[:2])
    with RecordFile(path, COLUMNS) as file:
        assert file.keys == {record["path"] for record in RECORDS[:2]}
        file.append(RECORDS[2:])
        file.finish()
    assert path.read_bytes() == whole


def test_a_finished_file_can_be_added_to(path):
    write(path, RECORDS[:3])
    with RecordFile(path, COLUMNS) as file:
        assert len(file.keys) == 3
        file.append(RECORDS[3:])
        file.finish()
    assert read(path) == RECORDS


@pytest.mark.parametrize("format", [JsonLines(), Table(COLUMNS)], ids=["jsonl", "csv"])
def test_cut_off_anywhere_it_continues_to_the_same_file(format, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda number: None)  # hundreds of them; nobody cuts the power
    whole = format.beginning() + format.encode(RECORDS)
    path = tmp_path / "captions"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with Journal(path, format) as journal:
            count = len(journal.records)
            journal.append(RECORDS[count:])
        assert path.read_bytes() == whole, f"cut after {length} bytes"


def test_a_table_that_is_cut_within_its_header_gets_it_back(tmp_path):
    (tmp_path / "captions.csv").write_text("path,cap")
    write(tmp_path / "captions.csv", RECORDS)
    assert read(tmp_path / "captions.csv") == RECORDS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("captions.jsonl", "my notes\n{}\n", "line 1 is not a record"),
        ("captions.jsonl", '{"path": "a"}\n[1]\n{"path": "b"}\n', "line 2 is not a record"),
        ("captions.csv", "image,text\na.jpg,a dog\n", "columns are not path,caption,score,model"),
        ("captions.parquet", "no parquet", "is not a parquet file"),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path, name, content, message):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        RecordFile(tmp_path / name, COLUMNS)
    assert "--overwrite" in str(caught.value)
    assert (tmp_path / name).read_text() == content
    assert os.listdir(tmp_path) == [name]


def test_two_writers_at_once_are_refused(path):
    pytest.importorskip("fcntl", reason="this system has no file locks")
    busy = pytest.raises(InputError, match="another run is writing it")
    with RecordFile(path, COLUMNS), busy:
        RecordFile(path, COLUMNS)
    RecordFile(path, COLUMNS).__exit__()


def test_a_name_that_says_no_format_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"captions\.json: expected a name that ends in \.jsonl"):
        check_record_path(tmp_path / "captions.json")
    with pytest.raises(InputError, match="is a folder"):
        check_record_path(tmp_path)


def test_parquet_without_the_extra_names_the_install_command(tmp_path, monkeypatch):
    monkeypatch.setattr(caption_files, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "prefixcap\[parquet\]"'):
        check_record_path(tmp_path / "captions.parquet")


def test_an_output_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written .*Choose another output"):
        RecordFile(tmp_path / "file" / "captions.jsonl", COLUMNS)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_full_disk_leaves_whole_records_and_names_the_file(tmp_path, suffix):
    """A limit on the size of files stands for the full disk."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from prefixcap.caption_files import RecordFile\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with RecordFile(Path(sys.argv[1]), ('path', 'caption', 'score', 'model')) as file:\n"
        "    try:\n"
        "        for number in range(99):\n"
        "            one = {'path': str(number), 'caption': 'a dog', 'score': 1, 'model': 'm'}\n"
        "            file.append([one] * 3)\n"
        "    except OSError as error:\n"
        "        print(error.filename)\n"
    )
    pytest.importorskip("resource", reason="this system has no limits on the size of files")
    path = tmp_path / f"captions{suffix}"
    command = [sys.executable, "-c", script, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str(path)
    assert 500 < path.stat().st_size <= 1000
    records = read(path)
    assert len(records) % 3 == 0 and path.read_bytes().endswith(b"\n")
    with RecordFile(path, COLUMNS) as file:
        assert file.keys == {record["path"] for record in records}
