"""A run as a dataset: the card that describes its images, and the table of their numbers."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, get_args

import yaml

from featlight.config.describe import facts, label, octave_rows
from featlight.config.settings import Settings
from featlight.console import cell_text
from featlight.plan.plan import Plan
from featlight.report.sections import sections
from featlight.store.example_files import read_about
from featlight.store.snapshot import Snapshot, TileState

TABLE = "metadata.csv"
TAGS = ["feature-visualization", "activation-maximization", "interpretability", "computer-vision", "featlight"]
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
LARGER = "n>10M"
# Description of each column; all but the first are keys of a record.
COLUMNS = {
    "file_name": "path of the image, relative to the table",
    "name": "name of the tile: layer and feature, or the name in the config",
    "layer": "name of the layer in the network; the first term's layer in a sum of terms",
    "feature": "number of the feature (channel) in its layer, from 0; empty for all features",
    "variant": "variant of the settings above; empty if there is only one",
    "status": "`ok`, or `dead`: no gradient at any step",
    "activation_start": "mean activation of the chosen neurons before optimization",
    "activation_end": "mean activation of the chosen neurons after optimization",
    "total_variation": "mean absolute difference between neighboring pixels, over channels and both directions",
    "high_frequency_share": "share of the image's spectral energy at a quarter of a cycle per pixel and above",
    "sha256": "checksum of the lossless PNG that the run made",
}


def table(snapshot: Snapshot, suffix: str) -> str:
    """Return `metadata.csv`: one row per image in the plan's order.

    Args:
        snapshot: snapshot of the run.
        suffix: suffix of the image files.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for file, record in snapshot.there.items():
        image = _image(file, suffix)
        values = (record.get(column) for column in list(COLUMNS)[1:])
        writer.writerow([image, *(cell_text(value) if isinstance(value, str) else value for value in values)])
    return text.getvalue()


def _image(file: str, suffix: str) -> str:
    return PurePosixPath(file).with_suffix(suffix).as_posix()


def card(snapshot: Snapshot, encoding: str, suffix: str = ".png", *, photographs: bool = True) -> str:
    """Return the dataset card: Markdown with Hugging Face's YAML header.

    Args:
        snapshot: snapshot of the run.
        encoding: description of the images' encoding, such as "lossless PNG".
        suffix: suffix of the image files.
        photographs: whether the dataset includes what is made from photographs.
    """
    plan, images = snapshot.plan, len(snapshot.there)
    titles = [section.title for section in sections(plan)]
    named = ", ".join(titles[:3]) + (f" and {len(titles) - 3} more" if len(titles) > 3 else "")
    name = f"Features of {plan.network.model}: {named}"
    parts = [
        f"# {_text(name)}",
        *_random_weights_warning(plan),
        f"{images:,} images, {encoding}. Each was optimized to excite one feature (channel) of a layer of a vision "
        "network, or the objective in its name: gradient descent on the pixels, from the start named below, moved the "
        "feature's activations toward a large target. Together they show what the network's features respond to.",
        "## How they were made",
        *_network(plan),
        *(block for variant, settings in plan.settings.items() for block in _settings(variant, settings)),
        "## What is in it",
        _contents(snapshot),
        *([TRANSPARENCY] if _keeps_alpha(plan) else []),
        "Missing tiles were not made yet when this card was written; failed tiles had values that were not finite. "
        "Neither kind has an image.",
        *_photographs(snapshot, photographs),
        f"## Columns of `{TABLE}`",
        _markdown(("column", "what it holds"), [(f"`{column}`", words) for column, words in COLUMNS.items()]),
        LOADING,
        LIMITS,
        *_random_weights_warning(plan),
        f"{CREDIT} {_text(plan.versions['featlight'])}.",
    ]
    return f"---\n{_front(name, snapshot, suffix)}---\n\n" + "\n\n".join(parts) + "\n"


TRANSPARENCY = """Beside its image a tile has a gray `.alpha.png`, black where the tile is transparent: how strongly its
objective pulled at each place over all steps. The image itself is the tile on white."""
LOADING = f"""## How to load it

    from datasets import load_dataset
    features = load_dataset("path/to/this/folder", split="train")  # each with its image and the columns above

The YAML above makes it read `{TABLE}` and `tiles/` only. `plan.json` describes the whole run. Each image holds its
settings as JSON: a PNG in the text with the keyword `featlight`, a WebP in the EXIF tag ImageDescription."""
NO_PHOTOGRAPHS = """Nothing in it was made from a photograph. Left out are examples with their names and values, and
tiles that start at a picture or show what a layer sees in it."""
LIMITS = """## Limits

- These images show what drives a network's activations, not what the world looks like, and not everything that a
  feature responds to. Another start, recipe or seed gives other images of the same feature.
- Activations are in the layer's own units: do not compare them between layers or networks.
- A dead feature had no gradient at any step: its image is its start, blurred and enlarged, and says nothing about it.
- With equal batch size, thread count, precision, kind of device and version of torch, a tile is identical to the bit,
  regardless of its neighbors in a batch, the order, interruptions and the number of workers. Otherwise rounding
  differs and the steps amplify it: such images look alike but are not identical.

## License

This card claims none: whoever publishes the images chooses one and observes the terms of the network's weights."""
CREDIT = """## Credit

The method is Benjamin Badger's, from his article *Feature Visualization I*. Made with featlight"""


def _front(name: str, snapshot: Snapshot, suffix: str) -> str:
    images = len(snapshot.there)
    # alpha images lie beside the tiles and are not part of the dataset
    listed = [_image(file, suffix) for file in snapshot.there]
    tiles = listed if _keeps_alpha(snapshot.plan) else ["tiles/**"]
    values = {
        "pretty_name": name,
        "tags": TAGS,
        "size_categories": [next((words for most, words in SIZES if images < most), LARGER)],
        "configs": [{"config_name": "default", "data_files": [TABLE, *tiles]}],
    }
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110))


def _keeps_alpha(plan: Plan) -> bool:
    return any(settings.recipe.keeps_alpha for settings in plan.settings.values())


def _random_weights_warning(plan: Plan) -> list[str]:
    if not plan.network.is_random:
        return []
    weights = _text(plan.network.weights)
    return [f"> **{weights}. The network was never trained: what these features show was never learned.**"]


def _network(plan: Plan) -> list[str]:
    network = plan.network
    rows = [("network", _code(network.model)), ("weights", _text(network.weights))]
    rows.append(("checksum", f"{_code(network.sha256)} (SHA-256 of its structure and all its tensors)"))
    if network.file_sha256:
        rows.append(("weights' file", f"{_code(network.file_sha256)} (SHA-256)"))
    rows.append(("begun", _text(plan.created)))
    rows.append(("with", _text(", ".join(f"{name} {version}" for name, version in plan.versions.items()))))
    return [_markdown(("", ""), rows)]


def _settings(variant: str, settings: Settings) -> Iterator[str]:
    """Yield the settings of a variant: a table of octaves, then a list of all other settings."""
    if variant:
        yield f"### {_text(variant)}"
    head, *rows = octave_rows(settings.recipe)
    yield _markdown(("octave", *head), [(str(i), *row) for i, row in enumerate(rows, 1)])
    others = {key: text for key, text in facts(settings).items() if key not in ("model", "weights", "octaves")}
    yield "\n".join(f"- {label(key)}: {_text(text)}." for key, text in others.items())


def _contents(snapshot: Snapshot) -> str:
    """Return a table with the number of tiles of each layer by state."""
    states = get_args(TileState)
    rows = []
    for section in sections(snapshot.plan):
        tally = Counter(snapshot.state(planned.file) for planned in section.tiles)
        rows.append((_text(section.title), len(section.tiles), *(tally[word] for word in states)))
    if len(rows) > 1:
        rows.append(("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
    return _markdown(("layer", "tiles", *states), rows)


def _photographs(snapshot: Snapshot, photographs: bool) -> list[str]:
    """Return the section about content that is made from photographs."""
    if not photographs:
        return ["## Photographs", NO_PHOTOGRAPHS]
    plan, words = snapshot.plan, []
    made = [variant for variant, settings in plan.settings.items() if settings.shows_photograph]
    if made:
        which = "The tiles" if len(made) == len(plan.settings) else f"The tiles of {', '.join(map(_text, made))}"
        words.append(f"{which} start at a picture that the user gave, or show what a layer sees in it.")
    about = read_about(snapshot.store.folder)
    if about is not None:
        words.append(
            f"For each tile, `examples/examples.jsonl` names the {about.top} of {about.images:,} images of a data set "
            f"({_code(about.folder)}) that excite it most, a line of JSON each: file, mean activation, and where. "
            "Their pictures, in `examples/`, are those images, cut and small, as are the sheets of examples in "
            "`assets/` and `atlas/`: they belong to the data set's own authors, under its own licence."
        )
    return ["## Photographs", *words] if words else []


def _markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)


def _text(words: str) -> str:
    """Return text on one line, with everything escaped that Markdown or HTML would interpret."""
    return re.sub(r"([\\`*_{}\[\]<>|#&~])", r"\\\1", " ".join(words.split()))


def _code(words: str) -> str:
    return "`" + " ".join(words.split()).replace("`", "'").replace("|", "\\|") + "`"
