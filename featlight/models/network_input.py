"""The normalization of the pixels that a run feeds to its network."""

from featlight.config.normalization import Named, Normalization
from featlight.config.schema import Config
from featlight.errors import UsageError
from featlight.models.catalog import Source
from featlight.param.image import MeanAndStd


def normalization_of(config: Config, source: Source, channels: int) -> Normalization | Named:
    """Resolve the normalization of the pixels.

    Raises:
        UsageError: the normalization of the weights is requested, but not known.
    """
    known = source.mean is not None and source.std is not None and len(source.mean) == channels
    if config.normalize == "weights" and not known:
        of = "" if channels == 3 else f" for images of {channels} channels"
        raise UsageError(f"normalize: weights given, but what {source.model} was trained with is not known{of}")
    if config.normalize != "auto":
        return config.normalize
    return "weights" if known and any(bounds(config)) else "none"


def likely_pixels(config: Config, source: Source) -> MeanAndStd | None:
    """Return the mean and std of a run's images, before the number of the network's channels is known.

    Raises:
        UsageError: the normalization of the weights is requested, but not known.
    """
    likely = normalization_of(config, source, 3 if source.mean is None else len(source.mean))
    return mean_and_std(likely, source)


def bounds(config: Config) -> list[bool]:
    """Return for each variant whether its images stay in [0, 1]."""
    return [settings.recipe.range != "unbounded" for settings in config.settings.values()]


def mean_and_std(normalize: Normalization | Named, source: Source) -> MeanAndStd | None:
    """Return a resolved normalization's mean and std; None for raw pixels."""
    if isinstance(normalize, Normalization):
        return normalize.mean, normalize.std
    if normalize == "none":
        return None
    assert source.mean is not None
    assert source.std is not None
    return source.mean, source.std
