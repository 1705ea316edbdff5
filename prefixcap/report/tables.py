"""Tables of a report as Markdown, CSV and LaTeX; the page draws the same ones as HTML."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

NUMBER = re.compile(r"[+-]?[\d.,]+( (s|min|h)\b.*)?$")
MINUS = re.compile(r"(?<![\w.])-(?=\d)")
LATEX_SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


@dataclass(frozen=True)
class Cell:
    """One cell: its text, a smaller note such as an interval, and whether it is the best."""

    text: str = ""
    note: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
        name: of its files, without an ending.
        caption: what it shows, units included.
        columns: headings; the first column names the rows.
        rows: of as many cells as there are columns.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def has_words(self, place: int) -> bool:
        """Whether a column holds words, which are aligned to the left, and not numbers."""
        return any(row[place].text and not NUMBER.match(row[place].text) for row in self.rows)

    def without_empty_columns(self) -> "Table":
        """The table without columns in which no row has anything."""
        kept = [
            place
            for place in range(len(self.columns))
            if any(row[place].text or row[place].note for row in self.rows)
        ]
        columns = [self.columns[place] for place in kept]
        rows = [[row[place] for place in kept] for row in self.rows]
        return Table(self.name, self.caption, columns, rows)


def metric_title(name: str) -> str:
    """A score's name as tables print it: CIDEr is CIDEr-D here."""
    return name.replace("CIDEr", "CIDEr-D")


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown, its caption below."""
    align = ["---" if words else "---:" for words in _words(table)]
    lines = [list(table.columns), align]
    lines += [[_with_note(cell, "**{}**") for cell in row] for row in table.rows]
    body = "\n".join(
        "| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines
    )
    return f"{body}\n\n{table.caption}\n"


def comma_separated(table: Table) -> str:
    """The table as CSV; the notes of a column, where it has any, in a column of their own."""
    noted = [any(row[place].note for row in table.rows) for place in range(len(table.columns))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads = [Cell(name, f"{name}, note") for name in table.columns]
    for row in [heads, *table.rows]:
        cells = []
        for cell, has_notes in zip(row, noted, strict=True):
            cells += [cell.text, cell.note] if has_notes else [cell.text]
        writer.writerow(cells)
    return out.getvalue()


def latex(table: Table) -> str:
    """The table for a paper with the package booktabs."""
    lines = [
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{latex_text(table.caption)}}}",
        f"\\label{{tab:{table.name}}}",
        f"\\begin{{tabular}}{{{''.join('l' if words else 'r' for words in _words(table))}}}",
        r"\toprule",
        " & ".join(map(latex_text, table.columns)) + r" \\",
        r"\midrule",
        *(" & ".join(map(_latex_cell, row)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex_text(text: str) -> str:
    """Text whose special characters LaTeX prints instead of reading them."""
    return re.sub(
        "|".join(map(re.escape, LATEX_SIGNS)), lambda found: LATEX_SIGNS[found.group()], text
    )


def _words(table: Table) -> list[bool]:
    """Of each column, whether it holds words; the first one names the rows."""
    return [place == 0 or table.has_words(place) for place in range(len(table.columns))]


def _with_note(cell: Cell, best: str) -> str:
    """Text and note of a cell on one line, the best one in bold."""
    text = best.format(cell.text) if cell.best else cell.text
    return f"{text} ({cell.note})" if cell.note else text


def _latex_cell(cell: Cell) -> str:
    """A cell for LaTeX; before a number it prints a minus, not a hyphen."""
    text, note = (MINUS.sub("$-$", latex_text(part)) for part in (cell.text, cell.note))
    escaped = Cell(text, note, cell.best)
    return _with_note(escaped, r"\textbf{{{}}}")
