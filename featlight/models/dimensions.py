"""Which dimension of a layer's output is the feature: told by its module's kind, or by what moves with the image."""

from collections.abc import MutableMapping, Sequence

from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary
from torchvision.ops.misc import Permute

FIRST, LAST = 1, 3  # of a 4-D output, where the feature stands; in one of three dimensions, 1 and 2

# Kinds that hold something for each feature: where it stands in their output is theirs by definition
_FIRST_KINDS: tuple[type[nn.Module], ...] = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm2d, nn.GroupNorm),
    *(nn.PixelShuffle, nn.PixelUnshuffle, nn.Conv1d, nn.BatchNorm1d, nn.InstanceNorm1d),
)
_LAST_KINDS: tuple[type[nn.Module], ...] = (nn.Linear, nn.LayerNorm, nn.RMSNorm)
# Other libraries' own norms over the last dimension, by name: importing them takes seconds
_LAST_NORMS = {f"timm.layers.norm.{name}" for name in ("LayerNorm", "LayerNormFp32", "RmsNorm", "RmsNormFp32")}
# Kinds that change no order: where the feature was before, it is after
_KEEPING_KINDS: tuple[type[nn.Module], ...] = (
    *(nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout),
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink, nn.Softplus),
    *(nn.Softsign, nn.Softshrink, nn.Hardshrink, nn.Threshold),
)
_KEEPING_MODULES = ("timm.layers.activations", "transformers.activations")  # whose kinds all act on single values
# Those that work on the last two dimensions: the feature stands before them
_POOLING_KINDS: tuple[type[nn.Module], ...] = (
    *(nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(nn.Upsample, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ZeroPad2d, nn.ConstantPad2d),
)


def _is(module: nn.Module, kinds: Sequence[type[nn.Module]]) -> bool:
    """Whether it is of such a kind and does what that does: a subclass may permute what its parent gives."""
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in kinds)


def _name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def by_kind(module: nn.Module, shape: Sequence[int]) -> int | None:
    """Where the feature stands in an output of three or four dimensions, where the module's kind says it.

    Args:
        module: that gave it.
        shape: of the output.
    """
    if _is(module, _FIRST_KINDS):
        return FIRST
    size = getattr(module, "normalized_shape", None) or (getattr(module, "out_features", 0),)
    return _last(module, shape, tuple(size))


def by_taker(module: nn.Module, shape: Sequence[int]) -> int | None:
    """Where the feature stands in what a module takes, where the module's kind says it.

    Args:
        module: that takes it.
        shape: of what it takes.
    """
    size = getattr(module, "normalized_shape", None) or (getattr(module, "in_features", 0),)
    return _last(module, shape, tuple(size))


def _last(module: nn.Module, shape: Sequence[int], size: tuple[int, ...]) -> int | None:
    known = _is(module, _LAST_KINDS) or _name(module) in _LAST_NORMS
    return len(shape) - 1 if known and size == (shape[-1],) else None  # a norm over several dimensions says nothing


def by_input(module: nn.Module, dimension: int | None) -> int | None:
    """Where the feature stands in an output, given where it stood in the input.

    Args:
        module: that gave it.
        dimension: of the input; None where it is not known.
    """
    if _is(module, (Permute,)):
        dims = list(module.dims)  # type: ignore[arg-type]
        return dims.index(dimension) if dimension in dims else None
    if _is(module, _KEEPING_KINDS) or type(module).__module__ in _KEEPING_MODULES:
        return dimension
    return FIRST if dimension == FIRST and _is(module, _POOLING_KINDS) else None


def by_movement(shape: Sequence[int], other: Sequence[int]) -> int | None:
    """The one dimension that stays while all others move with the image's size.

    Args:
        shape: of an output of three or four dimensions.
        other: of the same output for an image of another size.
    """
    stay = [dimension for dimension in range(1, len(shape)) if shape[dimension] == other[dimension]]
    return stay[0] if len(stay) == 1 else None


def by_ones(shape: Sequence[int]) -> int | None:
    """The feature's dimension where the map is a single neuron: the one that is not 1."""
    wide = [dimension for dimension in range(1, len(shape)) if shape[dimension] != 1]
    return (wide or [FIRST])[0] if len(wide) < 2 else None


class ChannelTracker:
    """Where the feature stands in the tensors of a network while it runs, as far as modules' kinds tell.

    Args:
        network: before anybody looks into it: what a hook changes is not told by its module's kind.
    """

    def __init__(self, network: nn.Module) -> None:
        self._changed = {each for each in network.modules() if each._forward_hooks or "forward" in vars(each)}
        self._known: MutableMapping[Tensor, int] = WeakTensorKeyDictionary()

    def kind(self, module: nn.Module, output: Tensor) -> int | None:
        """As `by_kind`, where nobody has changed what the module gives."""
        return None if module in self._changed else by_kind(module, output.shape)

    def taken(self, module: nn.Module, given: Tensor) -> int | None:
        """As `by_taker`, likewise."""
        return None if module in self._changed else by_taker(module, given.shape)

    def note(self, module: nn.Module, given: Sequence[object], output: Tensor) -> int | None:
        """Follow a module's output of three or four dimensions; None where nothing tells."""
        found = self.kind(module, output)
        if found is None and given and isinstance(given[0], Tensor) and module not in self._changed:
            found = by_input(module, self._known.get(given[0]))
        if found is None:
            found = self._known.get(output)  # a container gives what its last part gave
        if found is not None:
            self._known[output] = found
        return found
