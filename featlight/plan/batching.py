"""How many images are optimized together, and how many chunks that gives."""

from featlight.config.choices import Sample, is_pattern
from featlight.config.schema import Config

CPU_BATCH, GPU_BATCH = 8, 64  # images; larger chunks would leave workers idle


def fewest_chunks(config: Config) -> int | None:
    """Return the smallest number of chunks on a CPU; None if only the network tells how many tiles there are."""
    pictures_per_tile = sum(settings.diversity for settings in config.settings.values())
    if config.tiles is not None:
        tiles = len(config.tiles) * config.interpolate
    else:
        specs = [config.features if spec is None else spec for spec in (config.layer or {}).values()]
        indices = [config.index, *(variant.index for variant in config.variants or ())]
        if "all" in (*specs, *indices) or any(map(is_pattern, config.layer or {})):
            return None
        tiles = sum(spec.count if isinstance(spec, Sample) else len(spec) for spec in specs) * config.interpolate
    batch_size = CPU_BATCH if config.batch_size == "auto" else config.batch_size
    return -(-tiles * pictures_per_tile // batch_size)


def auto_batch_size(tiles: int, *, gpu: bool, image: int, memory: int) -> int:
    """Return the number of images to optimize together, from fixed properties alone, as bits depend on it.

    Args:
        tiles: number of tiles to make.
        gpu: whether a GPU makes them.
        image: memory per image, in bytes.
        memory: total memory of the device, in bytes.

    Returns:
        A power of two, limited by the number of tiles, by half of a GPU's memory, and by an eighth of a CPU's, which
        several workers share.
    """
    fits = max(1, memory // (2 if gpu else 8) // max(image, 1))
    return min(GPU_BATCH if gpu else CPU_BATCH, 1 << max(tiles - 1, 0).bit_length(), 1 << (fits.bit_length() - 1))
