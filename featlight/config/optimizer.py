"""How images move along their gradients, in words: the name of a rule and its constants. Plain data, no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from featlight.errors import unknown

# By rule, its constants and their defaults; what each does stands at the rule in `featlight/optimizers.py`
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
    """A rule of descent; its learning rates stand in the octaves.

    Args:
        name: `sgd` (the article's), `adam`, `nadam`, or `spectral` (Adam in the image's whitened spectrum); or, from
            Python alone, a rule of one's own: like those in `featlight/optimizers.py`, from parameters (N, ...), their
            gradient, what it remembers, `lr` and its constants to parameters and what it remembers.
        constants: of the rule, where not its defaults: `Optimizer("spectral", exponent=0.8)`.

    Raises:
        ValueError: no such rule, or no such constant of it.
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
        """In JSON's own types, every constant said: a default may change, and what was made with it must not."""
        return {"name": self.name, **dict(self.constants)}

    def in_words(self) -> str:
        return " ".join([self.name, *(f"{key} {value:g}" for key, value in self.constants)])


def python_name(value: Any) -> str:
    """What a function or class is called in Python."""
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def parse_optimizer(given: Any) -> Any:
    """A rule's name, or a table of its name and constants, as a config has them."""
    if isinstance(given, str) or callable(given):
        return Optimizer(given)
    if isinstance(given, Mapping):
        if not all(isinstance(key, str) for key in given):
            raise ValueError("optimizer: keys are words")
        return Optimizer(**given)
    return given
