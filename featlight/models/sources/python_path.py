"""The user's own networks, by the path of a callable: `package.module:callable`."""

import importlib
import inspect
import io
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from torch import nn

from featlight.errors import UsageError, is_full_memory, one_line
from featlight.models.sources.entry import NetworkEntry

IMPORTING, CALLING = "importing it", "calling it"


def has(model: str) -> bool:
    return ":" in model


def names() -> list[str]:
    """Return no names: the user's modules are not known."""
    return []


def entry(path: str) -> NetworkEntry:
    """Return the network that `package.module:callable` names.

    Raises:
        UsageError: the callable cannot be imported. The builders raise it if the callable returns no module.
    """
    build = _imported(path)
    return NetworkEntry(build, lambda _: build(), build_with=lambda content, _: build(content))


def _imported(path: str) -> Callable[..., nn.Module]:
    """Import the callable and wrap it in a function that returns a module or raises UsageError."""
    module_name, _, name = path.partition(":")
    folder = str(Path.cwd())
    if not {folder, ""} & set(sys.path[:1]):
        # the installed command, unlike `python -m`, does not search the current folder; a network may import later
        sys.path.insert(0, folder)
    with _user_code(path, IMPORTING):
        factory: Any = importlib.import_module(module_name)
        for part in name.split("."):
            factory = getattr(factory, part)

    def build(checkpoint: Any = None) -> nn.Module:
        if isinstance(factory, nn.Module):
            return factory
        arguments = _arguments(factory, checkpoint)
        missing = _missing_arguments(factory, arguments)
        if missing:
            raise UsageError(
                f"--model {path}: it needs arguments ({', '.join(missing)}) and is called without any; give the path "
                f"of a function that returns {name}({', '.join(f'{each}=...' for each in missing)})"
            )
        with _user_code(path, CALLING):
            network = factory(**arguments)
        if not isinstance(network, nn.Module):
            inner = getattr(network, "model", None)
            instead = (
                f"; its .model is one ({type(inner).__name__}): give the path of a function that returns that"
                if isinstance(inner, nn.Module)
                else ""
            )
            raise UsageError(f"--model {path}: it gives a {type(network).__name__}, not an nn.Module{instead}")
        return network

    return build


def _parameters(factory: Any) -> list[inspect.Parameter]:
    """Return the parameters of a callable; none if it has no signature."""
    try:
        return list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):
        return []


def _missing_arguments(factory: Any, given: Container[str]) -> list[str]:
    """Return the names of the required arguments that are not given."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [each for each in _parameters(factory) if each.default is each.empty and each.kind not in variable]
    return [each.name for each in required if each.name not in given]


def _arguments(factory: Any, checkpoint: Any) -> dict[str, Any]:
    """Return the hyperparameters of a Lightning checkpoint that a callable takes."""
    given = checkpoint.get("hyper_parameters") if isinstance(checkpoint, Mapping) else None
    if not isinstance(given, Mapping):
        return {}
    parameters = _parameters(factory)
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return dict(given)
    names = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    whole = checkpoint.get("hparams_name")  # the single argument that held all hyperparameters
    return {whole: given} if whole in names else {name: value for name, value in given.items() if name in names}


@contextmanager
def _user_code(path: str, action: str) -> Iterator[None]:
    """Run the user's code without the arguments of our command, and turn any failure into one line.

    Raises:
        UsageError: the code failed or ended the program.
    """
    arguments, stderr = sys.argv, io.StringIO()
    sys.argv = [path.partition(":")[0]]
    try:
        with redirect_stderr(stderr):
            yield
    except SystemExit as error:
        last = (stderr.getvalue().strip().splitlines() or [""])[-1]
        reason = f" ({last})" if last else ""
        raise UsageError(
            f"--model {path}: {action} ended the program, with exit code {error.code or 0}{reason}; move what does not "
            "belong to the network under `if __name__ == '__main__'`"
        ) from None
    except Exception as error:
        if is_full_memory(error):
            raise
        failure = f"{action} failed: " if action == CALLING else ""
        raise UsageError(f"--model {path}: {failure}{_reason(error)}") from None
    finally:
        sys.argv = arguments
    sys.stderr.write(stderr.getvalue())


def _reason(error: Exception) -> str:
    text = one_line(error)
    return text if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {text}"
