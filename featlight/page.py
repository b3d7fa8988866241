"""A page that shows a run's atlases and links every tile, opened straight from disk."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from featlight.plan import Plan
from featlight.store import Record


@dataclass(frozen=True)
class Group:
    """One atlas and the tiles in it."""

    title: str
    sheets: Sequence[str]  # paths from the run directory: the whole atlas, then its pages
    tiles: Sequence[tuple[str, str, Record | None]]  # label, path, record


POLICY = "default-src 'none'; img-src 'self' file: data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1500px; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
p { margin: .2rem 0 1rem; color: var(--soft); }
.atlas img { width: 100%; height: auto; border: 1px solid var(--line); background: #fff; }
ul { list-style: none; padding: 0; display: grid; gap: .5rem; }
ul { grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr)); }
li a { display: block; color: inherit; text-decoration: none; font-size: .8rem; }
li img { width: 100%; height: auto; aspect-ratio: 1; display: block; border-radius: 3px; }
li a:hover img, li a:focus-visible img { outline: 3px solid #3b82f6; }
.none { aspect-ratio: 1; display: grid; place-items: center; border: 1px dashed var(--line); border-radius: 3px; }
.figures img { max-width: 100%; height: auto; }
.dead img { opacity: .45; } small { color: var(--soft); display: block; }
"""


def page(plan: Plan, groups: Sequence[Group], figures: Sequence[str], state: str) -> str:
    """The page, HTML.

    Args:
        plan: of the run.
        groups: one for each atlas, in order.
        figures: paths of pictures, animations and tables from the run directory.
        state: a digest of what is shown, kept in the page.
    """
    name = html.escape(f"{plan.network['model']} features")
    counts = [record["status"] for group in groups for _, _, record in group.tiles if record is not None]
    dead, failed = counts.count("dead"), counts.count("failed")
    about = f"{plan.network['weights']}, {len(counts)} tiles, {dead} dead, {failed} failed, {plan.created}"
    sections = "\n".join(_section(group) for group in groups)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="featlight-state" content="{state}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{name}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<h1>{name}</h1>
<p>{html.escape(about)}. Below each tile: its feature, and its mean activation at the start and at the end.
A tile opens at full size; all its numbers are in the folder records.</p>
{_figures(figures)}
{sections}
</body>
</html>
"""


def _figures(paths: Sequence[str]) -> str:
    if not paths:
        return ""
    pictures = "\n".join(
        f'<a href="{quote(path)}"><img src="{quote(path)}" alt="{html.escape(path)}"></a>'
        for path in paths
        if path.endswith((".png", ".webp"))
    )
    links = ", ".join(f'<a href="{quote(path)}">{html.escape(path)}</a>' for path in paths)
    return f'<section>\n<h2>Figures</h2>\n<div class="figures">{pictures}</div>\n<p>{links}</p>\n</section>'


def _section(group: Group) -> str:
    title, atlas = html.escape(group.title), quote(group.sheets[0])
    pages = " ".join(f'<a href="{quote(sheet)}">page {number}</a>' for number, sheet in enumerate(group.sheets[1:], 1))
    tiles = "\n".join(_tile(group.title, *tile) for tile in group.tiles)
    return f"""<section>
<h2>{title}</h2>
<div class="atlas"><a href="{atlas}"><img src="{atlas}" alt="Atlas of {title}"></a></div>
<p>{pages}</p>
<ul>
{tiles}
</ul>
</section>"""


def _tile(group: str, label: str, path: str, record: Record | None) -> str:
    label = html.escape(label)
    if record is None or record["status"] == "failed":
        word = "missing" if record is None else "failed"
        return f'<li><div class="none">{word}</div><small>{label}</small></li>'
    activation = f"{record['activation_start']:.3g} to {record['activation_end']:.3g}"
    status = " dead" if record["status"] == "dead" else ""
    return (
        f'<li class="{record["status"]}"><a href="{quote(path)}">'
        f'<img src="{quote(path)}" loading="lazy" alt="{html.escape(group)} {label}{status}">{label}{status} '
        f"<small>{activation}</small></a></li>"
    )
