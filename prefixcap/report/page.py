"""`prefixcap report`: one HTML page on runs and studies, with its figures and tables as files."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path

from prefixcap import atomic
from prefixcap.errors import MissingExtraError
from prefixcap.report.content import Report, ReportOptions, collect
from prefixcap.report.errors import CLASSES, NO_WORD
from prefixcap.report.results import FLOOR, MEASURED, PUBLISHED
from prefixcap.report.tables import Table, comma_separated, latex, markdown
from prefixcap.web_page import web_page

TABLE_KINDS: dict[str, Callable[[Table], str]] = {
    "md": markdown,
    "csv": comma_separated,
    "tex": latex,
}
LIST_FILE = "files.json"


@dataclass(frozen=True)
class WrittenReport:
    """What became of a report.

    Attributes:
        page: the HTML file.
        files: of figures and tables beside it, relative to its folder.
        problems: a line on each thing that is missing, unfinished or damaged.
        broken: how many of them are files that cannot be read.
    """

    page: Path
    files: Sequence[str]
    problems: Sequence[str]
    broken: int


def write_report(folders: Sequence[Path], out: Path, options: ReportOptions) -> WrittenReport:
    """Read the folders and write `index.html`, `figures/` and `tables/` into `out`.

    Files of an earlier report in `out` that this one does not have are removed.

    Raises:
        InputError: a folder holds no run, scores or study, or a study cannot be read.
        MissingExtraError: matplotlib or Jinja2 is not installed.
        OSError: `out` cannot be written.
    """
    report = collect(folders, options)
    page = render(report)
    contents = _files(report)
    for folder in {(out / name).parent for name in contents} | {out}:
        folder.mkdir(parents=True, exist_ok=True)
    _remove_stale(out, contents.keys())
    atomic.write_json(out / LIST_FILE, sorted(contents))
    for name, content in contents.items():
        atomic.write_bytes(out / name, content)
    atomic.write_text(out / "index.html", page)
    return WrittenReport(out / "index.html", sorted(contents), report.problems, report.broken)


def render(report: Report) -> str:
    """The page as HTML. All text is escaped; what UTF-8 cannot hold is written as \\\\udcNN.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("Jinja2", "report", "A report") from error
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    body = environment.get_template("page.html").render(
        report=report,
        photos=report.photos,
        classes=CLASSES,
        NO_WORD=NO_WORD,
        kinds=(MEASURED, PUBLISHED, FLOOR),
    )
    page = web_page(escape(report.title), body, "report/page.css")
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def _files(report: Report) -> dict[str, bytes]:
    """Relative path -> content, of all figures and tables."""
    found = {}
    for chart in report.charts:
        found[f"figures/{chart.name}.svg"] = chart.svg.encode("utf-8")
        found[f"figures/{chart.name}.pdf"] = chart.pdf
    for table in report.tables:
        for ending, written in TABLE_KINDS.items():
            found[f"tables/{table.name}.{ending}"] = written(table).encode(
                "utf-8", "backslashreplace"
            )
    return found


def _remove_stale(out: Path, kept: Sequence[str] | set[str]) -> None:
    """Remove what an earlier report listed as its own and this one does not write."""
    with suppress(OSError, ValueError):
        for name in json.loads((out / LIST_FILE).read_bytes()):
            inside = Path(name).parts[:1] in (("figures",), ("tables",)) and ".." not in name
            if inside and name not in kept:
                (out / name).unlink(missing_ok=True)
