"""The sheets of an atlas on disk: each is encoded while the next one is drawn."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from featlight.image_io import encode_png
from featlight.store.store import Store


def write_sheets(
    store: Store, atlas: str, sheets: Iterable[tuple[str, Image.Image]], text: Mapping[str, str]
) -> list[str]:
    """Write what `draw_atlas` gives.

    Args:
        store: of the run.
        atlas: path of the whole one, from the run directory.
        sheets: what to add to its name, and the picture.
        text: to keep in each.

    Returns:
        Their paths from the run directory, the whole atlas or its overview first.
    """
    names = []
    for suffix, png in _encoded(sheets, text):
        names.append(f"{atlas.removesuffix('.png')}{suffix}.png")
        store.write_output(names[-1], png)
    return names[-1:] + names[:-1]


def _encoded(sheets: Iterable[tuple[str, Image.Image]], text: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """The same as PNGs; no more than two pictures are held at a time."""
    waiting: tuple[str, Future[bytes]] | None = None
    with ThreadPoolExecutor(1, "featlight-encoder") as thread:
        for suffix, picture in sheets:
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = suffix, thread.submit(encode_png, picture, text)
            del picture
        if waiting is not None:
            yield waiting[0], waiting[1].result()
