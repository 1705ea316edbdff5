"""`prefixcap doctor`: what this machine offers, what is missing, and what mends it."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from prefixcap.doctor import Finding

MARKS = {"ok": "ok", "note": "note", "fault": "FAULT"}
COLOURS = {"ok": "green", "note": "yellow", "fault": "bold red"}


def doctor() -> None:
    """Show versions, device, bf16, Java, where models are looked for, and what is missing.

    The exit code is 1 where something has to be mended before photos can be captioned.
    """
    from prefixcap.doctor import examine, is_healthy

    findings = examine()
    if sys.stdout.isatty():
        _print_table(findings)
    else:
        typer.echo("\n".join(plain_lines(findings)))
    if not is_healthy(findings):
        raise typer.Exit(1)


def plain_lines(findings: Sequence["Finding"]) -> list[str]:
    """One line for each finding: mark, name, what was found, and what mends it."""
    width = max(len(finding.name) for finding in findings)
    return [
        f"{MARKS[item.state]:<6}{item.name:<{width}}  {item.found}"
        + (f"  ->  {item.mend}" if item.mend else "")
        for item in findings
    ]


def _print_table(findings: Sequence["Finding"]) -> None:
    """The findings as a table on the terminal: a blank line between topics, mends below."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    topic = findings[0].topic
    for item in findings:
        if item.topic != topic:
            table.add_row()
            topic = item.topic
        found = Text(item.found)
        if item.mend:
            found.append(f"\n-> {item.mend}", style="bold")
        table.add_row(Text(MARKS[item.state], style=COLOURS[item.state]), Text(item.name), found)
    Console().print(table)
