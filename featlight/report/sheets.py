"""Atlas sheets on disk: each is encoded while the next is drawn, and kept as long as it shows the current tiles."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from featlight.image_io import encode_png, png_text
from featlight.store.paths import PICTURE_BYTES
from featlight.store.store import Store

# PNG text keys in the sheet that is written last: digest of all sheets, and their number
SHOWN, COUNT = "featlight-shows", "featlight-sheets"
MOST_SHEETS = 10_000


def write_sheets(
    store: Store, atlas: str, sheets: Iterable[tuple[str, Image.Image]], text: Mapping[str, str], shown: str = ""
) -> list[str]:
    """Write the sheets that `draw_atlas` draws.

    Args:
        store: store of the run.
        atlas: path of the whole atlas in the run directory.
        sheets: suffixes of the file name and pictures; the whole atlas or its overview comes last.
        text: PNG text of each sheet.
        shown: digest of the sheets' content, which `kept_sheets` compares.

    Returns:
        Paths of the sheets in the run directory, the whole atlas or its overview first.
    """
    names = []
    for suffix, png in _encoded(sheets, text, shown):
        names.append(_name(atlas, suffix))
        store.write_output(names[-1], png)
    return names[-1:] + names[:-1]


def kept_sheets(store: Store, atlas: str, shown: str) -> list[str] | None:
    """Return the paths of the sheets on disk, the overview first; None if one is missing, altered or out of date."""
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
    """Encode sheets as PNGs in a second thread. Memory holds at most two pictures."""
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
