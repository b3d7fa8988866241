"""The choice of an optimizer: the name of an update rule and its constants. No torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from featlight.errors import unknown

# Constants of each rule and their defaults; `featlight/optimizers.py` explains them
CONSTANTS: dict[str, dict[str, float]] = {
    "sgd": {},
    "adam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    "nadam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "momentum_decay": 4e-3},
    "spectral": {
        "exponent": 1.0,
        "beta1": 0.9,
        "beta2": 0.9,
        "contrast": 0.25,
        "bound": 0.95,
        "pull": 0.03,
        "floor": 1e-3,
    },
}


@dataclass(frozen=True, init=False)
class Optimizer:
    """An update rule; the octaves give its learning rates.

    Args:
        name: `sgd` (as in the article), `adam`, `nadam`, or `spectral` (Adam in the image's whitened spectrum); from
            Python also a function with the signature of the rules in `featlight/optimizers.py`: (parameters (N, ...),
            gradient, state, lr, **constants) to (parameters, state).
        constants: constants of the rule that differ from their defaults: `Optimizer("spectral", exponent=0.8)`.

    Raises:
        ValueError: the rule or a constant does not exist, or a constant is not a number of 0 or more.
    """

    name: str
    constants: tuple[tuple[str, float], ...]
    function: Callable[..., Any] | None

    def __init__(self, name: str | Callable[..., Any] = "sgd", **constants: float) -> None:
        function = None if isinstance(name, str) else name
        object.__setattr__(self, "function", function)
        if not isinstance(name, str):
            object.__setattr__(self, "name", python_name(name))
            object.__setattr__(self, "constants", tuple(constants.items()))
            return
        if name not in CONSTANTS:
            raise ValueError(f"optimizer: {unknown('optimizer', str(name), CONSTANTS)}")
        defaults = CONSTANTS[name]
        for key, value in constants.items():
            if key not in defaults:
                raise ValueError(f"optimizer: {unknown('constant', key, defaults, f'of {name}')}")
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise ValueError(f"optimizer: {key}: {value!r} given; a number, 0 or more, is needed")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "constants", tuple((key, constants.get(key, defaults[key])) for key in defaults))

    def plain(self) -> dict[str, Any]:
        """Return JSON types with every constant, so that a later change of defaults does not change old runs."""
        return {"name": self.name, **dict(self.constants)}

    def in_words(self) -> str:
        return " ".join([self.name, *(f"{key} {value:g}" for key, value in self.constants)])


def python_name(value: Any) -> str:
    """Return the qualified name of a function or class."""
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def parse_optimizer(given: Any) -> Any:
    """Parse a rule's name, or a table of its name and constants."""
    if isinstance(given, str) or callable(given):
        return Optimizer(given)
    if isinstance(given, Mapping):
        if not all(isinstance(key, str) for key in given):
            raise ValueError(f"optimizer: {dict(given)!r} given; keys must be text")
        return Optimizer(**given)
    return given
