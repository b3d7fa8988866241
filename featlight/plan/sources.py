"""What a command on a run may load: the plan's network if its name is plain, everything else only if typed. No torch.

A run directory may be hostile. featlight imports, loads or opens a Python path, a repository or a file named in a plan
only if the user has typed it, and only if it agrees with the plan.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featlight.config.recipe import Recipe
from featlight.config.schema import Config
from featlight.config.settings import SHARED
from featlight.config.user_text import FROM_PYTHON, WEIGHTS_NAME, weights_file
from featlight.errors import UsageError, WeightsError
from featlight.plan.fingerprint import file_sha256
from featlight.plan.plan import NetworkInfo, Plan

if TYPE_CHECKING:
    from featlight.objectives.directions import Directions

# Networks of featlight, torchvision or timm (with a tag of weights); no folder, repository or module has such a name
PLAIN_MODEL = re.compile(r"(timm/)?\w+(\.\w+)?", re.ASCII)
ANY_NETWORK = "in Python, featlight.find_examples and featlight.find_circuits take any network"
FOLDER_PREFIX = "hf/"  # networks of transformers; a plan holds only the last part of a local folder


@dataclass(frozen=True)
class TypedSources:
    """Sources of a run's network that the user typed.

    Args:
        model: name of the network; None for the plan's.
        weights: name or file of its weights; None for the plan's.
        directions: file of directions, `FILE:name`, or in Python an array; None where none was given.
    """

    model: str | None = None
    weights: str | None = None
    directions: "str | Directions | None" = None


NOTHING_TYPED = TypedSources()


@dataclass(frozen=True)
class Sources:
    """Sources of a run's network, each named by the user or by a plain name in the plan.

    Args:
        model: name of the network.
        weights: name or file of its weights.
        seed: seed of random weights.
        directions: directions that tiles are rows of; None where tiles are of features.
        is_typed: whether the user typed the name of the network.
    """

    model: str
    weights: str
    seed: int
    directions: "Directions | None"
    is_typed: bool = False


def sources_of(out: Path, plan: Plan, typed: TypedSources, *, given: bool = False) -> Sources:
    """Return the sources that a command on a run may load.

    Args:
        out: run directory, for messages.
        plan: plan of the run.
        typed: sources that the user typed.
        given: whether the caller passed the network itself, so that none is loaded.

    Raises:
        UsageError: a typed source differs from the plan, or is missing although the plan requires it.
    """
    if not plan.tiles:
        raise UsageError(f"--out: {out} given, but its plan has no tiles; give a run with tiles")
    settings = plan.settings[plan.tiles[0].variant]
    return Sources(
        model="" if given else _model(out, plan.network, typed.model),
        weights="" if given else _weights(out, plan.network, typed.weights),
        seed=_seed(plan.network, settings.seed),
        directions=_directions(out, plan, typed.directions),
        is_typed=typed.model is not None,
    )


def network_config(plan: Plan, recipe: Recipe) -> Config:
    """Return a config that prepares a run's network as in its plan.

    Args:
        plan: plan of the run, with at least one tile.
        recipe: recipe whose octaves give the image sizes.
    """
    settings = plan.settings[plan.tiles[0].variant]
    layers = {term.layer: None for planned in plan.tiles for term in planned.tile.terms}
    values = {key: getattr(settings, key) for key in SHARED}
    return Config.model_construct(**values | {"recipe": recipe, "layer": layers, "compile": "off"})


def must_type(out: Path, flag: str, word: str, why: str) -> UsageError:
    """Return the error about a source that the user must type."""
    return UsageError(f"{flag}: none given, and {out} names {why}; if you trust it, add {flag} {shlex.quote(word)}")


def _model(out: Path, network: NetworkInfo, typed: str | None) -> str:
    if typed is None:
        if PLAIN_MODEL.fullmatch(network.model):
            return network.model
        raise must_type(out, "--model", network.model, "a network whose code or files come from elsewhere")
    if _recorded(typed) != network.model:
        raise UsageError(
            f"--model: {typed!r} given, and {out} was made with {network.model!r}; "
            f"type --model {shlex.quote(network.model)}"
        )
    return typed


def _recorded(model: str) -> str:
    """Return a network's name as stored in plans."""
    folder = Path(model.removeprefix(FOLDER_PREFIX)).expanduser() if model.startswith(FOLDER_PREFIX) else None
    return model if folder is None or not folder.is_dir() else f"{FOLDER_PREFIX}{folder.resolve().name}"


def _weights(out: Path, network: NetworkInfo, typed: str | None) -> str:
    is_named = WEIGHTS_NAME.fullmatch(network.asked) is not None
    if typed is None:
        if is_named:
            return network.asked
        if network.file is None:
            raise UsageError(f"--weights: none given, and {out} was made with a network from Python; {ANY_NETWORK}")
        raise must_type(out, "--weights", network.asked, "a file of weights")
    file = weights_file(typed)
    if file is not None and network.file_sha256 in (None, _sha256(typed, file[0])):
        return typed
    may_be_default = is_named and network.asked != "none"  # the network's checksum is compared later
    if file is None and (typed in (network.asked, network.weights) or (typed == "DEFAULT" and may_be_default)):
        return typed
    raise UsageError(
        f"--weights: {typed!r} given, and {out} was made with other weights; "
        f"type --weights {shlex.quote(network.asked)}, or the path of a file with the same content"
    )


def _sha256(typed: str, file: Path) -> str:
    try:
        return file_sha256(file)
    except OSError as error:
        raise WeightsError(f"--weights: {typed!r} given; {error.strerror or error}") from None


def _seed(network: NetworkInfo, usual: int) -> int:
    """Return the seed of random weights from their description, as a variant may have another seed."""
    digits = network.weights.rpartition("seed ")[2]
    return int(digits) if network.is_random and digits.isascii() and digits.isdecimal() and len(digits) < 20 else usual


def _directions(out: Path, plan: Plan, typed: "str | Directions | None") -> "Directions | None":
    if plan.directions is None:
        if typed is not None:
            raise UsageError(f"--directions: given, and {out} has no tiles of directions; leave it out")
        return None
    if typed is None and plan.directions.asked == FROM_PYTHON:
        raise UsageError(
            f"--directions: none given, and {out} was made with an array from Python; "
            "featlight.find_examples and featlight.find_circuits take it as directions=array"
        )
    if typed is None:
        raise must_type(out, "--directions", plan.directions.asked, "directions, which no plan holds")
    from featlight.objectives.directions import open_directions  # slow to import

    opened = open_directions(typed) if isinstance(typed, str) else typed
    if opened.checksum != plan.settings[plan.tiles[0].variant].directions:
        raise UsageError(f"--directions: {opened.asked} given, and {out} was made with other directions")
    return opened
