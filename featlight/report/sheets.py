"""The sheets of an atlas on disk: each is encoded while the next one is drawn, and stays while it shows the same."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from featlight.image_io import encode_png, png_text
from featlight.store.paths import PICTURE_BYTES
from featlight.store.store import Store

# kept in the sheet that is written last: what all of them show, and how many they are
SHOWN, COUNT = "featlight-shows", "featlight-sheets"
MOST_SHEETS = 10_000


def write_sheets(
    store: Store, atlas: str, sheets: Iterable[tuple[str, Image.Image]], text: Mapping[str, str], shown: str = ""
) -> list[str]:
    """Write what `draw_atlas` gives.

    Args:
        store: of the run.
        atlas: path of the whole one, from the run directory.
        sheets: what to add to its name, and the picture; the whole atlas or its overview last.
        text: to keep in each.
        shown: a digest of what they show, by which `kept_sheets` knows them again.

    Returns:
        Their paths from the run directory, the whole atlas or its overview first.
    """
    names = []
    for suffix, png in _encoded(sheets, text, shown):
        names.append(_name(atlas, suffix))
        store.write_output(names[-1], png)
    return names[-1:] + names[:-1]


def kept_sheets(store: Store, atlas: str, shown: str) -> list[str] | None:
    """The paths of the sheets that are there, the overview first; None where one is gone, another or shows others."""
    if not store.folder.has(store.root / atlas):
        return None
    with store.folder.open(store.root / atlas, PICTURE_BYTES) as file:
        text = png_text(file)
    count = text.get(COUNT, "")
    if text.get(SHOWN) != shown or not (count.isdecimal() and 1 <= int(count) <= MOST_SHEETS):
        return None
    names = [atlas, *(_name(atlas, f"-p{page:02d}") for page in range(1, int(count)))]
    return names if store.drawn.keeps(*names) else None


def _name(atlas: str, suffix: str) -> str:
    return f"{atlas.removesuffix('.png')}{suffix}.png"


def _encoded(
    sheets: Iterable[tuple[str, Image.Image]], text: Mapping[str, str], shown: str
) -> Iterator[tuple[str, bytes]]:
    """The same as PNGs; no more than two pictures are held at a time."""
    waiting: tuple[str, Future[bytes]] | None = None
    with ThreadPoolExecutor(1, "featlight-encoder") as thread:
        for number, (suffix, picture) in enumerate(sheets, 1):
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            own = {} if suffix or not shown else {SHOWN: shown, COUNT: f"{number}"}
            waiting = suffix, thread.submit(encode_png, picture, {**text, **own})
            del picture
        if waiting is not None:
            yield waiting[0], waiting[1].result()
