"""Networks of the user's own, by the path of a callable: `package.module:callable`."""

import importlib
import inspect
import io
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from torch import nn

from featlight.errors import UsageError
from featlight.models.sources.entry import NetworkEntry

IMPORTING, CALLING = "importing it", "calling it"


def entry(path: str) -> NetworkEntry:
    """What `package.module:callable` names.

    Raises:
        UsageError: it cannot be imported; when it is built, that it gives no module.
    """
    build = _imported(path)
    return NetworkEntry(build, lambda _: build(), None, build_with=lambda content, _: build(content))


def _imported(path: str) -> Callable[..., nn.Module]:
    """The callable, as one that surely gives a module."""
    module_name, _, name = path.partition(":")
    here = str(Path.cwd())
    if not {here, ""} & set(sys.path[:1]):
        # the installed command does not look where the user stands, as `python -m` does; a network may import late
        sys.path.insert(0, here)
    with _as_alone(path, IMPORTING):
        factory: Any = importlib.import_module(module_name)
        for part in name.split("."):
            factory = getattr(factory, part)

    def build(checkpoint: Any = None) -> nn.Module:
        arguments = {} if isinstance(factory, nn.Module) else _arguments(factory, checkpoint)
        needed = [] if isinstance(factory, nn.Module) else _needed_arguments(factory, arguments)
        if needed:
            raise UsageError(
                f"--model {path}: it needs arguments ({', '.join(needed)}) and is called without any; write a function "
                f"that returns {name}({', '.join(f'{each}=...' for each in needed)}), and name that"
            )
        with _as_alone(path, CALLING):
            network = factory if isinstance(factory, nn.Module) else factory(**arguments)
        if not isinstance(network, nn.Module):
            inner = getattr(network, "model", None)
            instead = (
                f"; its .model is one ({type(inner).__name__}): write a function that returns that, and name it"
                if isinstance(inner, nn.Module)
                else ""
            )
            raise UsageError(f"--model {path}: it gives a {type(network).__name__}, not an nn.Module{instead}")
        return network

    return build


def _parameters(factory: Any) -> list[inspect.Parameter]:
    """What a callable takes; nothing where it does not say."""
    try:
        return list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):
        return []


def _needed_arguments(factory: Any, given: Container[str]) -> list[str]:
    """Names of the arguments that a callable cannot do without, besides those that are given."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [each for each in _parameters(factory) if each.default is each.empty and each.kind not in variable]
    return [each.name for each in needed if each.name not in given]


def _arguments(factory: Any, checkpoint: Any) -> dict[str, Any]:
    """What of a Lightning checkpoint's hyperparameters a callable takes."""
    given = checkpoint.get("hyper_parameters") if isinstance(checkpoint, Mapping) else None
    if not isinstance(given, Mapping):
        return {}
    takes = _parameters(factory)
    if any(each.kind is each.VAR_KEYWORD for each in takes):
        return dict(given)
    names = {each.name for each in takes if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    whole = checkpoint.get("hparams_name")  # the one argument that all of them were given in
    return {whole: given} if whole in names else {name: value for name, value in given.items() if name in names}


@contextmanager
def _as_alone(path: str, doing: str) -> Iterator[None]:
    """Run the user's own code, which may fail in any way, and has nothing to do with our command's words.

    Raises:
        UsageError: it failed, or ended the program.
    """
    words, said = sys.argv, io.StringIO()
    sys.argv = [path.partition(":")[0]]
    try:
        with redirect_stderr(said):
            yield
    except SystemExit as error:
        last = (said.getvalue().strip().splitlines() or [""])[-1]
        reason = f" ({last})" if last else ""
        raise UsageError(
            f"--model {path}: {doing} ended the program, with exit code {error.code or 0}{reason}; put what is not the "
            "network's under `if __name__ == '__main__'`"
        ) from None
    except Exception as error:
        slip = f"{doing} failed: " if doing == CALLING else ""
        raise UsageError(f"--model {path}: {slip}{_reason(error)}") from None
    finally:
        sys.argv = words
    sys.stderr.write(said.getvalue())


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {text}"
