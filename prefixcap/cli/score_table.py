"""The scores of a split as tables, beside what they can be compared with."""

from typing import Any

import typer

from prefixcap.cli.tables import show_table


def show_scores(facts: dict[str, Any]) -> None:
    """Print the scores of a scores file x100 with intervals: of all images, then by domain."""
    from prefixcap.published import images_of_rows, published_domain_rows, published_rows

    data = facts["dataset"], facts["split"]
    others = {title: dict(row) for title, row in published_rows(*data).items()}
    if "constant" in facts:
        scores = facts["constant"]["scores"]
        others["constant"] = {name: 100 * value for name, value in scores.items()}
    _show(_title(facts), facts, others)
    for domain, part in facts["domains"].items():
        papers = {title: dict(row) for title, row in published_domain_rows(*data, domain).items()}
        _show(f"{domain}: {part['images']} images", part, papers)
    papers_images = images_of_rows(*data)
    if papers_images not in (None, facts["images"]):
        typer.echo(f"the paper's columns are of {papers_images} images, not of {facts['images']}")
    _show_rest(facts)


def _title(facts: dict[str, Any]) -> str:
    """What the numbers belong to, in one line."""
    title = f"{facts['images']} images, scores x100, tokenizer {facts['tokenizer']}"
    clip = facts.get("clip")
    return f"{title}, CLIP {clip['model']} in {clip['precision']}" if clip else title


def _show(title: str, facts: dict[str, Any], others: dict[str, dict[str, float]]) -> None:
    """Print one table: score, interval, and the other rows' values."""
    rows = [
        [name, *_cells(facts, name), *(_number(row.get(name)) for row in others.values())]
        for name in facts["scores"]
    ]
    show_table(title, ["", "score", "95 % interval", *others], rows)


def _show_rest(facts: dict[str, Any]) -> None:
    """Print how varied the captions are, what was left out, and what was not scored."""
    if "constant" in facts:
        typer.echo(f'constant: always "{facts["constant"]["caption"]}"')
    spread = facts["diversity"]
    parts = [f"{spread['vocabulary']} words", f"{spread['length']:.1f} words a caption"]
    parts += [f"{100 * spread['different']:.1f} % of captions differ from all others"]
    parts += ["distinct-1 to -4 " + " ".join(f"{one:.2f}" for one in spread["distinct"].values())]
    if spread["novel"] is not None:
        parts.append(f"{100 * spread['novel']:.1f} % are no training caption")
    typer.echo(f"diversity: {', '.join(parts)}")
    for group, said in facts["people"].items():
        same, other, both, neither = (
            f"{100 * said[name]:.0f} %" for name in ("same", "other", "both", "neither")
        )
        typer.echo(
            f"{group} in {said['images']} photos: {same} of captions say so, {other} say the "
            f"other sex, {both} both, {neither} neither"
        )
    left = [f"{count} {name.replace('_', ' ')}" for name, count in facts["counts"].items() if count]
    if left:
        typer.echo(f"images: {', '.join(left)}")
    for name, reason in facts["not_scored"].items():
        typer.echo(f"{name} is not scored: {reason}", err=True)


def _cells(facts: dict[str, Any], name: str) -> list[str]:
    """Score and interval of one metric, x100."""
    low, high = facts["intervals"][name]
    return [_number(100 * facts["scores"][name]), f"{100 * low:.1f} to {100 * high:.1f}"]


def _number(value: float | None) -> str:
    """One decimal, as tables print; nothing for None."""
    return "" if value is None else f"{value:.1f}"
