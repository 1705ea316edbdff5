"""Photo files of folders, patterns and lists, each with a key that is unique in a run."""

import glob
import os
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from prefixcap.errors import InputError

_SUFFIXES = (
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .gif .bmp .dib .tif .tiff .avif .avifs .heic "
    ".heif .hif .jp2 .j2k .jpc .jpf .jpx .j2c .ppm .pgm .pbm .pnm .pfm .tga .ico .icns .psd .qoi "
    ".dds .sgi .pcx .xbm .xpm"
)
PICTURE_SUFFIXES = frozenset(_SUFFIXES.split())
LIST_SUFFIXES = frozenset({".txt", ".lst"})
FOREIGN_FOLDERS = frozenset({"__MACOSX", "@eaDir"})  # .jpg names in there are no pictures


@dataclass(frozen=True)
class Photo:
    """A picture file; `key` is its path relative to the run's root, with "/", unique in a run."""

    path: Path
    key: str


@dataclass(frozen=True)
class Skipped:
    """A picture without a caption, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class PhotoSet:
    """Photos in the order of their sources, and the folder that their keys start from."""

    root: Path
    photos: tuple[Photo, ...]


@dataclass(frozen=True)
class _Found:
    """Files of one source, and the folder that their keys may start from."""

    anchor: Path
    paths: list[Path]


def find_photos(sources: Sequence[str], stdin: TextIO | None = None) -> list[Photo]:
    """Photos of `find_photo_set`, without their root."""
    return list(find_photo_set(sources, stdin).photos)


def find_photo_set(sources: Sequence[str], stdin: TextIO | None = None) -> PhotoSet:
    """Every picture that `sources` name, each file once, in a fixed order.

    A source is a file; a folder, searched recursively by suffix (links are followed, hidden files
    are not); a pattern such as `trip/**/*.jpg`; a `.txt` or `.lst` list with one path a line,
    relative to the list's folder or else to the current one; or "-", such a list on `stdin`.
    Keys are relative to the deepest folder above all sources. Files that a source or a list names
    outright are kept whatever their suffix, and listed ones even where they are missing, so that
    whoever opens them can report them.

    Raises:
        InputError: nothing at a path or pattern, or no picture in all the sources.
    """
    found = [_search(source, stdin) for source in sources]
    paths = list(dict.fromkeys(path for one in found for path in one.paths))
    if not paths:
        shown = ", ".join(sources) or "nothing"
        raise InputError(
            f"{shown}: no picture there. Give photos or folders with files such as .jpg or .png"
        )
    root = Path(os.path.commonpath([one.anchor for one in found if one.paths]))
    return PhotoSet(root, tuple(Photo(path, _key(path, root)) for path in paths))


def _search(source: str, stdin: TextIO | None) -> _Found:
    """Files that one source names."""
    path = Path(os.path.abspath(source))
    if source == "-":
        return _read_list((stdin or sys.stdin).read(), Path.cwd(), "standard input")
    if os.path.isdir(path):
        return _Found(path, list(_walk(path)))
    if path.suffix.lower() in LIST_SUFFIXES and os.path.isfile(path):
        content = path.read_bytes().decode("utf-8", "surrogateescape")
        return _read_list(content, path.parent, source)
    if os.path.lexists(path):
        return _Found(path.parent, [path])
    if glob.has_magic(source):
        return _expand(source)
    raise InputError(f"{source}: there is no such file or folder. Check the path")


def _expand(pattern: str) -> _Found:
    """Pictures that match `pattern`, with those in matching folders."""
    matches = sorted(glob.glob(pattern, recursive=True))
    if not matches:
        raise InputError(f"{pattern}: matches no file. Check the pattern")
    fixed = Path()
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed /= part
    return _from(Path(os.path.abspath(fixed)), list(_pictures_in(matches)))


def _pictures_in(matches: Iterable[str]) -> Iterator[Path]:
    """Absolute paths of the pictures among `matches` and below its folders."""
    for match in matches:
        path = Path(os.path.abspath(match))
        if os.path.isdir(path):
            yield from _walk(path)
        elif path.suffix.lower() in PICTURE_SUFFIXES:
            yield path


def _read_list(content: str, folder: Path, shown: str) -> _Found:
    """Files that the lines of a list name; a folder among them is searched.

    Raises:
        InputError: the list has no line.
    """
    lines = [line for line in content.removeprefix("\ufeff").splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{shown}: the list is empty. Write one path on each line")
    paths: list[Path] = []
    for line in lines:
        path = _listed(line, folder)
        paths.extend(_walk(path) if os.path.isdir(path) else [path])
    return _from(folder, paths)


def _from(folder: Path, paths: list[Path]) -> _Found:
    """`paths` with keys from `folder` where it is above all of them, else from what is."""
    if all(path.is_relative_to(folder) for path in paths):
        return _Found(folder, paths)
    return _Found(Path(os.path.commonpath([path.parent for path in paths])), paths)


def _listed(line: str, folder: Path) -> Path:
    """Absolute path of a list's line: from the list's folder, else from the current one."""
    beside = Path(os.path.abspath(folder / line))
    here = Path(os.path.abspath(line))
    return here if os.path.lexists(here) and not os.path.lexists(beside) else beside


def _walk(folder: Path) -> Iterator[Path]:
    """Pictures below `folder`; see `files_below`."""
    return files_below(folder, PICTURE_SUFFIXES)


def files_below(folder: Path, suffixes: Container[str]) -> Iterator[Path]:
    """Files with these suffixes, sorted by relative path; each real folder is entered once.

    Linked folders are entered last, so that a file is found under its real path where it has
    one; a loop of links therefore ends. A folder that cannot be listed comes out itself, so that
    opening it reports it.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting, linked = [folder], []
    while waiting or linked:
        here = waiting.pop() if waiting else linked.pop(0)
        try:
            identity = here.stat()
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError:
            found.append(here)
            continue
        if (identity.st_dev, identity.st_ino) in seen:
            continue
        seen.add((identity.st_dev, identity.st_ino))
        for entry in entries:
            path = here / entry.name
            if entry.name.startswith(".") or entry.name in FOREIGN_FOLDERS:
                continue
            if os.path.isdir(path):  # unlike Path.is_dir, False where it may not be known
                (linked if entry.is_symlink() else waiting).append(path)
            elif path.suffix.lower() in suffixes:
                found.append(path)
    yield from sorted(found, key=lambda path: path.relative_to(folder).parts)


def _key(path: Path, root: Path) -> str:
    """Path relative to `root` with "/"; bytes that are no UTF-8 are written as \\xNN."""
    relative = path.relative_to(root).as_posix()
    return os.fsencode(relative).decode("utf-8", "backslashreplace")
