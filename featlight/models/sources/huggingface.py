"""Networks of transformers, `hf/<repository or folder>`: vision models, and the image towers of models such as CLIP.

featlight builds only classes of transformers itself and reads only safetensors, so no code of a repository runs.
"""

import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from featlight.errors import UsageError, WeightsError
from featlight.models import weights as weight_files
from featlight.models.sources import download
from featlight.models.sources.entry import NetworkEntry

PREFIX = "hf/"
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def has(model: str) -> bool:
    return model.startswith(PREFIX)


def names() -> list[str]:
    """Return no names: the hub has too many."""
    return []


class _Repository:
    """The files of a repository, in a folder or on the hub.

    Args:
        model: name of the network, as the user gave it.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        path = model.removeprefix(PREFIX)
        folder = Path(path).expanduser()
        self.folder = folder if folder.is_dir() else None
        self.repository, _, self.revision = path.partition("@")
        if self.folder is None and (not path or self.repository.count("/") > 1 or path[0] in "./~"):
            raise UsageError(f"--model {model}: no such folder, and not a repository's name, as in hf/owner/name")

    @property
    def name(self) -> str:
        """Name of the network in records: the prefix and the last part of a folder's path."""
        return self.model if self.folder is None else f"{PREFIX}{self.folder.resolve().name}"

    def file(self, *names: str) -> Path:
        """Return the first of these files that exists.

        Raises:
            WeightsError: none of them exists.
        """
        if self.folder is None:
            return download.from_hub(self.repository, names, self.model, self.revision or None)
        path = next((self.folder / name for name in names if (self.folder / name).is_file()), None)
        if path is None:
            raise WeightsError(f"--model {self.model}: {' or '.join(names)} is not in {self.folder}")
        return path

    def optional_json(self, name: str) -> Mapping[str, Any]:
        """Return the content of a JSON file; an empty dict if there is none."""
        try:
            return _json(self.file(name))
        except WeightsError:
            return {}


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: not JSON ({weight_files.short(str(error), 120)})") from None
    return content if isinstance(content, dict) else {}


def entry(model: str) -> NetworkEntry:
    """Return a network by its repository or folder.

    Raises:
        UsageError: transformers has no vision network of that kind.
        WeightsError: transformers is not installed, or a file is missing and cannot be downloaded.
    """
    try:
        import transformers
    except ImportError as error:
        raise WeightsError(f"--model {model}: transformers is needed ({error}); pip install 'featlight[hf]'") from None
    repository = _Repository(model)
    config, network_class = _network_class(transformers, model, _json(repository.file(CONFIG)))

    def build() -> nn.Module:
        network: nn.Module = network_class(config)
        return network

    def load(file: Path) -> nn.Module:
        return _loaded(network_class, config, repository, file)

    def find(weights: str) -> tuple[str, Path]:
        if weights != "DEFAULT":
            raise WeightsError(f"{model} has no weights named {weights!r}; DEFAULT, none, or a file of weights")
        return repository.name.removeprefix(PREFIX), repository.file(WEIGHTS, INDEX)

    labels = getattr(config, "id2label", None) or {}
    classes = [str(labels[i]) for i in sorted(labels)]
    mean, std = _mean_and_std(repository.optional_json(PREPROCESSOR))
    return NetworkEntry(
        build,
        lambda _: build(),
        find,
        load=load,
        mean=mean,
        std=std,
        size=_size(config),
        classes=None if classes == [f"LABEL_{i}" for i in range(len(classes))] else lambda: classes,
        name=repository.name,
    )


def _network_class(transformers: Any, model: str, content: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the configuration and the class of the part of a network that takes only images."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    kind = content.get("model_type")
    if kind is None and "architecture" in content:
        raise UsageError(f"--model {model}: it is a network of timm; give --model timm/{content['architecture']}")
    try:
        whole = AutoConfig.for_model(**content) if kind else None
    except (ValueError, TypeError, KeyError):
        whole = None
    if whole is None:
        raise UsageError(
            f"--model {model}: transformers has no networks of the kind {kind!r} (a repository's code is not run)"
        )
    config = getattr(whole, "vision_config", whole)
    names = content.get("architectures") or [] if config is whole else []
    network_class = getattr(transformers, names[0], None) if names else None
    if network_class is None:
        network_class = MODEL_MAPPING.get(type(config), None)
    network_class = network_class[0] if isinstance(network_class, tuple) else network_class
    if network_class is None or getattr(network_class, "main_input_name", "") != "pixel_values":
        raise UsageError(f"--model {model}: a network of the kind {kind!r} takes more than images")
    return config, network_class


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the table of unused weights that transformers prints, such as those of a text tower."""
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


def _mean_and_std(preprocessor: Mapping[str, Any]) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    mean, std = preprocessor.get("image_mean"), preprocessor.get("image_std")
    if not preprocessor.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return (None, None) if mean is None or std is None else (tuple(map(float, mean)), tuple(map(float, std)))


def read_mean_and_std(file: Path) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return the mean and std of a preprocessor's file.

    Raises:
        WeightsError: the file is not JSON.
    """
    return _mean_and_std(_json(file))


def _size(config: Any) -> tuple[int, int] | None:
    size = getattr(config, "image_size", None)
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) and len(size) == 2 else None


def _loaded(network_class: Any, config: Any, repository: _Repository, file: Path) -> nn.Module:
    """Build the network from a file of transformers, which translates the names of the tensors.

    Raises:
        WeightsError: the file does not fit, or has no weights for a part of the network.
    """
    shards = [file]
    if file.name == INDEX:
        names = sorted(set(_json(file).get("weight_map", {}).values()))
        if not all(Path(name).name == name for name in names):
            raise WeightsError(f"weights {file}: it names files of other folders")
        shards = [repository.file(name) for name in names]
    state: dict[str, Any] = {}
    for shard in shards:
        state |= weight_files.read(shard)
    try:
        with _quiet():
            network, info = network_class.from_pretrained(
                None, config=config, state_dict=state, output_loading_info=True
            )
    except MemoryError:
        raise
    except Exception as error:  # transformers may raise anything if the file is another network's
        raise weight_files.misfit(file, error) from None
    missing = sorted(map(str, info["missing_keys"])) + sorted(map(str, info.get("mismatched_keys", ())))
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise WeightsError(
            f"weights {file}: they do not fit {network_class.__name__}: nothing for {', '.join(missing[:3])}{more}"
        )
    result: nn.Module = network
    return result
