"""The feature dimension of a layer's output, from the kind of its module or from the sizes at two image sizes."""

from collections.abc import MutableMapping, Sequence

from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary
from torchvision.ops.misc import Permute

FIRST = 1  # the feature dimension of outputs (N, C, H, W) and (N, C, T)

# Kinds that hold a parameter for each feature: their definition fixes the feature dimension
_FIRST_KINDS: tuple[type[nn.Module], ...] = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm2d, nn.GroupNorm),
    *(nn.PixelShuffle, nn.PixelUnshuffle, nn.Conv1d, nn.BatchNorm1d, nn.InstanceNorm1d),
)
_LAST_KINDS: tuple[type[nn.Module], ...] = (nn.Linear, nn.LayerNorm, nn.RMSNorm)
# Norms of other libraries over the last dimension, by name, because importing them takes seconds
_LAST_NORMS = {f"timm.layers.norm.{name}" for name in ("LayerNorm", "LayerNormFp32", "RmsNorm", "RmsNormFp32")}
# Kinds that keep the order of dimensions
_KEEPING_KINDS: tuple[type[nn.Module], ...] = (
    *(nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout),
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink, nn.Softplus),
    *(nn.Softsign, nn.Softshrink, nn.Hardshrink, nn.Threshold),
)
_KEEPING_MODULES = ("timm.layers.activations", "transformers.activations")  # all their classes act on single values
# Kinds that work on the last two dimensions, so that the feature dimension is the first
_POOLING_KINDS: tuple[type[nn.Module], ...] = (
    *(nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(nn.Upsample, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ZeroPad2d, nn.ConstantPad2d),
)


def _is(module: nn.Module, kinds: Sequence[type[nn.Module]]) -> bool:
    """Return whether a module has one of these kinds and its `forward`: a subclass may permute the output."""
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in kinds)


def _name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def by_kind(module: nn.Module, shape: Sequence[int]) -> int | None:
    """Return the feature dimension of a module's output (3-D or 4-D); None if its kind does not fix it."""
    if _is(module, _FIRST_KINDS):
        return FIRST
    size = getattr(module, "normalized_shape", None) or (getattr(module, "out_features", 0),)
    return _last(module, shape, tuple(size))


def by_consumer(module: nn.Module, shape: Sequence[int]) -> int | None:
    """Return the feature dimension of a module's input; None if its kind does not fix it."""
    size = getattr(module, "normalized_shape", None) or (getattr(module, "in_features", 0),)
    return _last(module, shape, tuple(size))


def _last(module: nn.Module, shape: Sequence[int], size: tuple[int, ...]) -> int | None:
    known = _is(module, _LAST_KINDS) or _name(module) in _LAST_NORMS
    return len(shape) - 1 if known and size == (shape[-1],) else None  # a norm over several dimensions does not fix it


def by_input(module: nn.Module, dimension: int | None) -> int | None:
    """Return the feature dimension of a module's output, given the feature dimension of its input; None if unknown."""
    if _is(module, (Permute,)):
        dims = list(module.dims)  # type: ignore[arg-type]
        return dims.index(dimension) if dimension in dims else None
    if _is(module, _KEEPING_KINDS) or type(module).__module__ in _KEEPING_MODULES:
        return dimension
    return FIRST if dimension == FIRST and _is(module, _POOLING_KINDS) else None


def by_image_size(shape: Sequence[int], other: Sequence[int]) -> int | None:
    """Return the only dimension of an output that does not change with the image size; None if there is no such one.

    Args:
        shape: shape of an output (3-D or 4-D).
        other: shape of the same output at another image size.
    """
    constant = [dimension for dimension in range(1, len(shape)) if shape[dimension] == other[dimension]]
    return constant[0] if len(constant) == 1 else None


def by_ones(shape: Sequence[int]) -> int | None:
    """Return the feature dimension of a map with one neuron: the only dimension that is not 1."""
    wide = [dimension for dimension in range(1, len(shape)) if shape[dimension] != 1]
    return (wide or [FIRST])[0] if len(wide) < 2 else None


class ChannelTracker:
    """The feature dimensions of the tensors of a running network, as far as the kinds of its modules fix them.

    Args:
        network: network before featlight adds hooks. The kind of a module that has hooks fixes nothing.
    """

    def __init__(self, network: nn.Module) -> None:
        self._changed = {module for module in network.modules() if module._forward_hooks or "forward" in vars(module)}
        self._known: MutableMapping[Tensor, int] = WeakTensorKeyDictionary()

    def by_kind(self, module: nn.Module, output: Tensor) -> int | None:
        """Return the feature dimension of an output, from the kind of its module."""
        return None if module in self._changed else by_kind(module, output.shape)

    def by_consumer(self, module: nn.Module, tensor: Tensor) -> int | None:
        """Return the feature dimension of an input, from the kind of the module that takes it."""
        return None if module in self._changed else by_consumer(module, tensor.shape)

    def track(self, module: nn.Module, inputs: Sequence[object], output: Tensor) -> int | None:
        """Record and return the feature dimension of a module's output (3-D or 4-D); None if it is unknown."""
        dimension = self.by_kind(module, output)
        if dimension is None and inputs and isinstance(inputs[0], Tensor) and module not in self._changed:
            dimension = by_input(module, self._known.get(inputs[0]))
        if dimension is None:
            dimension = self._known.get(output)  # a container returns the tensor of its last part
        if dimension is not None:
            self._known[output] = dimension
        return dimension
