"""Tables in Markdown, and their places in the documents."""

from collections.abc import Iterable, Sequence
from pathlib import Path


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def write_between(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replace what stands in a page between `<!-- NAME -->` and `<!-- end of NAME -->`."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    text = page.read_text()
    if text.count(start) != 1 or text.count(end) != 1:
        raise SystemExit(f"{page}: {start} and {end} are needed, once each")
    before, _, rest = text.partition(start)
    page.write_text("\n".join([before + start, *lines, end]) + rest.partition(end)[2])
