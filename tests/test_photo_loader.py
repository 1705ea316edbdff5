"""Worker processes give the pixels of this process, in order, whatever happens to them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from prefixcap import photo_loader
from prefixcap.config import PreprocessConfig
from prefixcap.photo_loader import LoaderError, PhotoLoader, Unread, default_workers, load
from tests.source_tree import REPOSITORY
from tests.tiny_captioner import write_photos

SMALL = PreprocessConfig(crop_px=32, resize_px=32)


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[Path]:
    """Twenty photos, with a text file and a missing one among them."""
    folder = write_photos(tmp_path_factory.mktemp("photos"), 20)
    (folder / "a" / "007.png").write_text("no picture")
    return [*sorted(folder.rglob("*.png")), folder / "gone.png"]


def same(a: np.ndarray | Unread, b: np.ndarray | Unread) -> bool:
    return a == b if isinstance(a, Unread) or isinstance(b, Unread) else bool((a == b).all())


@pytest.mark.parametrize(("workers", "ahead"), [(0, 1), (1, 1), (1, 5), (3, 2), (2, 100)])
def test_workers_give_what_this_process_gives_in_order(paths, workers, ahead):
    expected = [load(path, SMALL) for path in paths]
    with PhotoLoader(SMALL, workers, ahead) as loader:
        found = list(loader.load(paths))
    assert len(found) == len(paths)
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))
    unread = [one for one in found if isinstance(one, Unread)]
    assert len(unread) == 2 and unread[1].reason == "there is no such file"


def test_photos_are_decoded_before_they_are_asked_for_but_not_all(tmp_path):
    pipe_like = write_photos(tmp_path, 12)
    paths = sorted(pipe_like.rglob("*.png"))
    with PhotoLoader(SMALL, 1, ahead=3) as loader:
        answers = loader.load(paths)
        next(answers)
        paths[1].unlink()  # decoded ahead by now, or soon
        paths[11].unlink()  # not asked for yet
        time.sleep(0.5)
        rest = list(answers)
    assert isinstance(rest[10], Unread)
    assert sum(isinstance(one, Unread) for one in rest) <= 2


def processes(loader: PhotoLoader) -> list[subprocess.Popen]:
    return [worker._process for worker in loader._workers]


def test_a_killed_worker_is_replaced_and_nothing_is_lost(paths):
    with PhotoLoader(SMALL, 2, ahead=4) as loader:
        answers = loader.load(paths)
        found = [next(answers) for _ in range(4)]
        for process in processes(loader):
            process.kill()
        found += list(answers)
    assert all(same(a, load(path, SMALL)) for a, path in zip(found, paths, strict=True))


def test_a_photo_that_ends_its_worker_every_time_is_given_up_with_the_signal(paths, monkeypatch):
    ask, deadly = photo_loader._Worker.ask, paths[5]

    def die_of_it(self, path):
        if path == deadly:
            self._process.kill()
            self._process.wait()
        ask(self, path)

    monkeypatch.setattr(photo_loader._Worker, "ask", die_of_it)
    with PhotoLoader(SMALL, 1, ahead=1) as loader:  # so that only one photo is on its way
        found = list(loader.load(paths))
    assert found[5].reason.startswith("decoding it ended the worker process 2 times (killed by sig")
    others = [place for place in range(len(paths)) if place != 5]
    assert all(same(found[place], load(paths[place], SMALL)) for place in others)


def test_a_worker_that_cannot_start_is_a_clear_error(paths, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false" if os.path.exists("/bin/false") else "")
    with PhotoLoader(SMALL, 1) as loader, pytest.raises(LoaderError, match="--workers 0"):
        list(loader.load(paths))


def test_workers_end_with_the_run_even_if_it_is_killed(tmp_path, paths):
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from prefixcap.config import PreprocessConfig\n"
        "from prefixcap.photo_loader import PhotoLoader\n"
        "loader = PhotoLoader(PreprocessConfig(crop_px=32, resize_px=32), 2)\n"
        "next(loader.load([Path(name) for name in sys.argv[1:]]))\n"
        "print(*[worker._process.pid for worker in loader._workers], flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, *map(str, paths)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        workers = [int(word) for word in run.stdout.readline().split()]
        run.send_signal(signal.SIGKILL)
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while any(is_alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_alive(worker) for worker in workers)


def is_alive(process: int) -> bool:
    """Whether a process runs; one that waits to be collected does not."""
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False


def test_workers_need_neither_torch_nor_a_guarded_main_module(tmp_path, paths):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from prefixcap.config import PreprocessConfig\n"
        "from prefixcap.photo_loader import PhotoLoader\n"
        "print('main module runs')\n"
        "with PhotoLoader(PreprocessConfig(), 2) as loader:\n"
        "    print(len(list(loader.load([Path(name) for name in sys.argv[1:]]))))\n"
        "print('torch' in sys.modules)\n"
    )
    command = [sys.executable, str(script), *map(str, paths)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == ["main module runs", str(len(paths)), "False"]


def test_few_photos_start_no_worker_and_a_gpu_gets_more_of_them(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert default_workers(photo_loader.FEW_PHOTOS, "cpu") == 0
    assert default_workers(1000, "cpu") == 6
    assert default_workers(1000, "cuda") == 11
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert default_workers(1000, "cpu") == 1


def test_no_thread_is_left_behind(paths):
    before = threading.active_count()
    with PhotoLoader(SMALL, 2) as loader:
        list(loader.load(paths))
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
