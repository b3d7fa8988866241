"""Networks of transformers, `hf/<repository or folder>`: vision models, and the image towers of CLIP and its like.

Only classes of transformers itself are built, and only safetensors are read: no code of a repository runs.
"""

import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch import nn

from featlight.errors import UsageError, WeightsError
from featlight.models import weights as weight_files
from featlight.models.sources import hub
from featlight.models.sources.entry import NetworkEntry

PREFIX = "hf/"
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


class _HubPlace:
    """Where a repository's files are: a folder, or the hub.

    Args:
        model: as the user names it.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        word = model.removeprefix(PREFIX)
        folder = Path(word).expanduser()
        self.folder = folder if folder.is_dir() else None
        self.repository, _, self.revision = word.partition("@")
        if self.folder is None and (not word or self.repository.count("/") > 1 or word[0] in "./~"):
            raise UsageError(f"--model {model}: no such folder, and no repository's name, as in hf/owner/name")

    @property
    def name(self) -> str:
        """Without the folders that a folder lies in."""
        return self.model if self.folder is None else f"{PREFIX}{self.folder.resolve().name}"

    def file(self, *names: str) -> Path:
        """The first of these files that is there.

        Raises:
            WeightsError: none is.
        """
        if self.folder is None:
            return hub.cached(self.repository, names, self.model, self.revision or None)
        found = [self.folder / name for name in names if (self.folder / name).is_file()]
        if not found:
            raise WeightsError(f"--model {self.model}: {' or '.join(names)} is not in {self.folder}")
        return found[0]

    def optional(self, name: str) -> Mapping[str, Any]:
        """What a JSON file says; nothing where there is none."""
        try:
            return _json(self.file(name))
        except WeightsError:
            return {}


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: not JSON ({shorten(str(error), 120, placeholder=' ...')})") from None
    return content if isinstance(content, dict) else {}


def entry(model: str) -> NetworkEntry:
    """A network by its repository or folder.

    Raises:
        UsageError: it is no vision network that transformers knows.
        WeightsError: transformers is not installed, or its files cannot be had.
    """
    try:
        import transformers
    except ImportError as error:
        raise WeightsError(f"--model {model}: transformers is needed ({error}); pip install 'featlight[hf]'") from None
    place = _HubPlace(model)
    config, kind = _kind(transformers, model, _json(place.file(CONFIG)))
    pixels = place.optional(PREPROCESSOR)

    def build() -> nn.Module:
        network: nn.Module = kind(config)
        return network

    def load(file: Path) -> nn.Module:
        return _loaded(kind, config, place, file)

    def find(weights: str) -> tuple[str, Path]:
        if weights != "DEFAULT":
            raise WeightsError(f"{model} has no weights named {weights!r}; DEFAULT, none, or a file of weights")
        return place.name.removeprefix(PREFIX), place.file(WEIGHTS, INDEX)

    labels = getattr(config, "id2label", None) or {}
    named = [str(labels[i]) for i in sorted(labels)]
    mean, std = _pixels(pixels)
    return NetworkEntry(
        build,
        lambda _: build(),
        find,
        load=load,
        mean=mean,
        std=std,
        size=_size(config),
        classes=None if named == [f"LABEL_{i}" for i in range(len(named))] else lambda: named,
        name=place.name,
    )


def _kind(transformers: Any, model: str, content: Mapping[str, Any]) -> tuple[Any, Any]:
    """The configuration and the class of a network that takes images alone."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    word = content.get("model_type")
    if word is None and "architecture" in content:
        raise UsageError(f"--model {model}: it is a network of timm's; as in --model timm/{content['architecture']}")
    try:
        whole = AutoConfig.for_model(**content) if word else None
    except (ValueError, TypeError, KeyError):
        whole = None
    if whole is None:
        raise UsageError(f"--model {model}: transformers knows no networks of the kind {word!r} (its code is not run)")
    config = getattr(whole, "vision_config", whole)
    names = content.get("architectures") or [] if config is whole else []
    kinds = [getattr(transformers, name, None) for name in names]
    kind = kinds[0] if kinds and kinds[0] is not None else MODEL_MAPPING.get(type(config), None)
    kind = kind[0] if isinstance(kind, tuple) else kind
    if kind is None or getattr(kind, "main_input_name", "") != "pixel_values":
        raise UsageError(f"--model {model}: a network of the kind {word!r} does not take images alone")
    return config, kind


@contextmanager
def _quiet() -> Iterator[None]:
    """Of the weights that a part of a network does not need, the text tower's say, transformers prints a table."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    before, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if had_bar:
            logging.enable_progress_bar()


def _pixels(content: Mapping[str, Any]) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    mean, std = content.get("image_mean"), content.get("image_std")
    if not content.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return (None, None) if mean is None or std is None else (tuple(map(float, mean)), tuple(map(float, std)))


def pixels_of(file: Path) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and std in a preprocessor's file.

    Raises:
        WeightsError: it is no JSON.
    """
    return _pixels(_json(file))


def _size(config: Any) -> tuple[int, int] | None:
    size = getattr(config, "image_size", None)
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) and len(size) == 2 else None


def _loaded(kind: Any, config: Any, place: _HubPlace, file: Path) -> nn.Module:
    """The network with weights as transformers keeps them, whose names it translates itself.

    Raises:
        WeightsError: the file does not fit, or leaves a part of the network without weights.
    """
    shards = [file]
    if file.name == INDEX:
        names = sorted(set(_json(file).get("weight_map", {}).values()))
        if not all(Path(name).name == name for name in names):
            raise WeightsError(f"weights {file}: it names files of other folders")
        shards = [place.file(name) for name in names]
    state: dict[str, Any] = {}
    for shard in shards:
        state |= weight_files.read(shard)
    try:
        with _quiet():
            network, said = kind.from_pretrained(None, config=config, state_dict=state, output_loading_info=True)
    except Exception as error:  # of any kind, where the file is another network's
        raise WeightsError(
            f"weights {file}: they do not fit ({shorten(str(error), 240, placeholder=' ...')})"
        ) from None
    without = sorted(map(str, said["missing_keys"])) + sorted(map(str, said.get("mismatched_keys", ())))
    if without:
        more = f" and {len(without) - 3} more" if len(without) > 3 else ""
        raise WeightsError(
            f"weights {file}: they do not fit {kind.__name__}: nothing for {', '.join(without[:3])}{more}"
        )
    result: nn.Module = network
    return result
