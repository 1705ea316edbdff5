"""Tables of a command: drawn on a terminal, elsewhere aligned lines that scripts can split."""

import sys
from collections.abc import Sequence

import typer


def show_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; all columns but the first are aligned to the right."""
    if sys.stdout.isatty():
        _draw(title, header, rows)
    else:
        typer.echo("\n".join(plain_table(title, header, rows)))


def plain_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Title, header and rows as lines; columns are two blanks apart."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(header))]
    return [title, *("  ".join(_aligned(row, widths)).rstrip() for row in cells)]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Cells of one row, filled up with blanks."""
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]


def _draw(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The table by rich, on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for place, name in enumerate(header):
        table.add_column(Text(name), justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
