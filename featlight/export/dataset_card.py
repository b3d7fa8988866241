"""A run as a data set: the card that says what its images are, and the table of their numbers."""

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
# By column of the table, what it holds; except for the first one they are a record's own keys.
COLUMNS = {
    "file_name": "the image, from the table's folder",
    "name": "the tile: its layer and feature, or the name that it was given",
    "layer": "the layer, by its name in the network; of a sum of terms, that of its first",
    "feature": "number of the feature (channel) in its layer, from 0; empty for all at once",
    "variant": "which of the ways above it was made in; empty where there is one alone",
    "status": "`ok`, or `dead`: no gradient at any step",
    "activation_start": "mean activation of the chosen neurons before the descent",
    "activation_end": "the same after it",
    "total_variation": "mean absolute difference between neighbouring pixels, over channels and both directions",
    "high_frequency_share": "share of the image's spectral energy at a quarter of a cycle per pixel and above",
    "sha256": "checksum of the lossless PNG that the run made",
}


def table(snapshot: Snapshot, suffix: str) -> str:
    """`metadata.csv`: a row for each image, in the plan's order; `suffix` is that of the images' files."""
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
    """The data set's card: Markdown, with the YAML that Hugging Face reads at its head.

    Args:
        snapshot: of the run.
        encoding: of the images, in words, as in "lossless PNG".
        suffix: of their files.
        photographs: whether what is made from photographs is in it.
    """
    plan, images = snapshot.plan, len(snapshot.there)
    titles = [section.title for section in sections(plan)]
    named = ", ".join(titles[:3]) + (f" and {len(titles) - 3} more" if len(titles) > 3 else "")
    name = f"Features of {plan.network.model}: {named}"
    parts = [
        f"# {_text(name)}",
        *_loudly(plan),
        f"{images:,} images, {encoding}. Each was made to excite one feature (channel) of a layer of a vision "
        "network, or what its name says: gradient descent on its pixels, from the start named below, drew the "
        "feature's activations to a large target. Together they show what the features of the network look for.",
        "## How they were made",
        *_network(plan),
        *(block for variant, settings in plan.settings.items() for block in _how(variant, settings)),
        "## What is in it",
        _contents(snapshot),
        *([TRANSPARENCY] if _keeps_alpha(plan) else []),
        "Missing tiles were not made yet when this was written, failed ones were not finite. Neither has an image.",
        *_photographs(snapshot, photographs),
        f"## Columns of `{TABLE}`",
        _markdown(("column", "what it holds"), [(f"`{column}`", words) for column, words in COLUMNS.items()]),
        LOADING,
        LIMITS,
        *_loudly(plan),
        f"{CREDIT} {_text(plan.versions['featlight'])}.",
    ]
    return f"---\n{_front(name, snapshot, suffix)}---\n\n" + "\n\n".join(parts) + "\n"


TRANSPARENCY = """Beside its image a tile has its transparency, `....alpha.png`, gray, black where it is clear: how
much its objective pulled at each place over all steps. On white, the image is laid with it."""
LOADING = f"""## How to load it

    from datasets import load_dataset
    features = load_dataset("path/to/this/folder", split="train")  # each with its image and the columns above

The YAML above has it read `{TABLE}` and `tiles/`, and nothing else of the folder. `plan.json` holds the whole run, and
each image what made it, as JSON: a PNG in its text under the keyword `featlight`, a WebP in its EXIF tag
ImageDescription."""
NO_PHOTOGRAPHS = """Nothing in it was made from a photograph of the user's or of a data set of examples: examples, their
names and their values are left out, and so are tiles that start at a picture, or show what a layer sees in it."""
LIMITS = """## Limits

- These images show what drives a network's activations, not what the world looks like, nor all that a feature
  responds to. Another start, recipe or seed gives other images of the same feature.
- Activations are in the layer's own units: they do not compare between layers or networks.
- A dead feature had no gradient at any step: its image is its start, blurred and enlarged, and says nothing about it.
- At one batch size, thread count and precision, on one kind of device and one version of torch, a tile is the same to
  the bit, whatever its neighbours, the order, the interruptions and the number of workers. Between these, rounding
  differs and the steps amplify it: such images agree to the eye, not to the bit.

## Licence

This card claims none: whoever publishes the images chooses one, and minds the terms of the network's weights."""
CREDIT = """## Credit

The method is Benjamin Badger's, from his article *Feature Visualization I*. Made with featlight"""


def _front(name: str, snapshot: Snapshot, suffix: str) -> str:
    images = len(snapshot.there)
    # transparencies lie beside the tiles, and are no images of the data set
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


def _loudly(plan: Plan) -> list[str]:
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


def _how(variant: str, settings: Settings) -> Iterator[str]:
    """How the tiles of a variant were made: an octave a row, then every other setting."""
    if variant:
        yield f"### {_text(variant)}"
    head, *rows = octave_rows(settings.recipe)
    yield _markdown(("octave", *head), [(str(i), *row) for i, row in enumerate(rows, 1)])
    said = {key: words for key, words in facts(settings).items() if key not in ("model", "weights", "octaves")}
    yield "\n".join(f"- {label(key)}: {_text(words)}." for key, words in said.items())


def _contents(snapshot: Snapshot) -> str:
    """How many tiles of each layer there are, by what has become of them."""
    states = get_args(TileState)
    rows = []
    for section in sections(snapshot.plan):
        tally = Counter(snapshot.state(planned.file) for planned in section.tiles)
        rows.append((_text(section.title), len(section.tiles), *(tally[word] for word in states)))
    if len(rows) > 1:
        rows.append(("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
    return _markdown(("layer", "tiles", *states), rows)


def _photographs(snapshot: Snapshot, photographs: bool) -> list[str]:
    """What is in it that was made from photographs, or that nothing is."""
    if not photographs:
        return ["## Photographs", NO_PHOTOGRAPHS]
    plan, words = snapshot.plan, []
    made = {variant: each for variant, each in plan.settings.items() if each.shows_photograph}
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
    """Escape text from outside: one line, with nothing that Markdown or HTML would interpret."""
    return re.sub(r"([\\`*_{}\[\]<>|#&~])", r"\\\1", " ".join(words.split()))


def _code(words: str) -> str:
    return "`" + " ".join(words.split()).replace("`", "'").replace("|", "\\|") + "`"
