"""How many images are optimised together, and so how many chunks there are."""

from featlight.config.choice.features import Sample
from featlight.config.choice.patterns import is_pattern
from featlight.config.schema import Config

CPU_BATCH, GPU_BATCH = 8, 64  # images; a chunk that held a whole layer would leave other workers idle


def fewest_chunks(config: Config) -> int | None:
    """How few chunks a config may make on a CPU, where it says by itself how many tiles it asks for."""
    ways = sum(settings.diversity for settings in config.settings.values())
    if config.tiles is not None:
        tiles = len(config.tiles) * config.interpolate
    else:
        specs = [config.features if spec is None else spec for spec in (config.layer or {}).values()]
        indices = [config.index, *(variant.index for variant in config.variants or ())]
        if "all" in (*specs, *indices) or any(map(is_pattern, config.layer or {})):
            return None
        tiles = sum(spec.count if isinstance(spec, Sample) else len(spec) for spec in specs) * config.interpolate
    batch_size = CPU_BATCH if config.batch_size == "auto" else config.batch_size
    return -(-tiles * ways // batch_size)


def auto_batch_size(tiles: int, *, gpu: bool, image: int, memory: int) -> int:
    """How many images to optimise together; bits depend on it, so it depends on nothing that changes from day to day.

    Args:
        tiles: to be made.
        gpu: whether a GPU makes them.
        image: what one takes, in bytes.
        memory: of the device, in bytes, all of it.

    Returns:
        A power of two: no more than the device gains from, nor than the tiles rounded up, nor than half of a GPU's
        memory holds, or an eighth of a machine's, which several workers share.
    """
    fits = max(1, memory // (2 if gpu else 8) // max(image, 1))
    return min(GPU_BATCH if gpu else CPU_BATCH, 1 << max(tiles - 1, 0).bit_length(), 1 << (fits.bit_length() - 1))
