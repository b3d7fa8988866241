"""Class names from folders: as data sets are laid out, a folder for each class, ImageNet's with WordNet's numbers."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

WORDNET = re.compile(r"n\d{8}")


def class_of(name: str) -> str | None:
    """What an image shows, by the folder that it lies in; of ImageNet's folders the first of their words.

    Args:
        name: its path from the data set's folder, with slashes.
    """
    *_, folder, _ = ("", *name.split("/")) if "/" in name else ("", "", "")
    if not any(sign.isalpha() for sign in folder):
        return None  # a number says nothing
    return _words().get(folder, folder) if WORDNET.fullmatch(folder) else folder


@cache
def _words() -> Mapping[str, str]:
    """By WordNet's number, what ImageNet's thousand classes are called; none where timm is not installed."""
    try:
        from timm.data.imagenet_info import ImageNetInfo
    except ImportError:
        return {}
    info: Any = ImageNetInfo()
    every = range(info.num_classes())
    return {str(info.index_to_label_name(i)): str(info.index_to_description(i)).partition(",")[0] for i in every}
