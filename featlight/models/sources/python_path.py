"""Networks of the user's own, by the path of a callable: `package.module:callable`."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from featlight.errors import UsageError
from featlight.models.sources.entry import Entry


def entry(path: str) -> Entry:
    """What `package.module:callable` names.

    Raises:
        UsageError: it cannot be imported; when it is built, that it gives no module.
    """
    build = _imported(path)
    return Entry(build, lambda _: build(), None)


def _imported(path: str) -> Callable[[], nn.Module]:
    """The callable, as one that surely gives a module."""
    module_name, _, name = path.partition(":")
    here = str(Path.cwd())
    try:
        sys.path.insert(0, here)  # the installed command does not look where the user stands
        factory: Any = importlib.import_module(module_name)
        for part in name.split("."):
            factory = getattr(factory, part)
    except Exception as error:  # the module is the user's own, and may fail in any way
        raise UsageError(f"--model {path}: {_reason(error)}") from None
    finally:
        sys.path.remove(here)

    def build() -> nn.Module:
        try:
            network = factory() if not isinstance(factory, nn.Module) else factory
        except Exception as error:
            raise UsageError(f"--model {path}: calling it failed: {_reason(error)}") from None
        if not isinstance(network, nn.Module):
            raise UsageError(f"--model {path}: it gives a {type(network).__name__}, not an nn.Module")
        return network

    return build


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {text}"
