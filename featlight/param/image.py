"""Images in pixel units (0 black, 1 white, unbounded): how they start, are blurred, resized and shown."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import functional as TF

from featlight.config.inputs.sizes import ImageSize, both_sides
from featlight.config.recipe import NAMED_STARTS
from featlight.config.tile import Tile
from featlight.errors import UsageError
from featlight.files import open_regular
from featlight.image_io import MOST_BYTES, bands, open_photograph

MeanAndStd = tuple[Sequence[float], Sequence[float]]  # mean and std of each channel
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in what is seen as gray. Source: ITU-R BT.601.
UNITS = {torch.bool: 1, torch.uint8: 255, torch.uint16: 65535}  # values that white has, by type of array
FAR, FAR_UNBOUNDED = 0.5, 10.0  # how far outside [0, 1] a start's floats may be, by the recipe's range
MOST_OF_START = 40_000_000  # pixels of a photograph, each of which takes 16 bytes while it is read


def noise(size: ImageSize, seed: int, channels: int = 3) -> Tensor:
    """Uniform noise in [0.5, 0.6), drawn in float32 on the CPU whatever the run's device and precision.

    Args:
        size: in pixels.
        seed: of its own generator.
        channels: of the image.

    Returns:
        (channels, H, W), float32.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.rand((channels, *both_sides(size)), generator=generator, dtype=torch.float32, device="cpu") / 10 + 0.5


def normalized(images: Tensor, pixels: MeanAndStd | None) -> Tensor:
    """Images as a network is given them.

    Args:
        images: (N, C, H, W).
        pixels: mean and std of each channel, or of all; of images with other channels, none are known.
    """
    if pixels is None or len(pixels[0]) not in (1, images.shape[1]):
        return images
    mean, std = (torch.tensor(values, device=images.device, dtype=images.dtype).view(-1, 1, 1) for values in pixels)
    return (images - mean) / std


def own_seed(seed: int, tile: Tile) -> int:
    """A seed for one tile that depends on the run's seed, its layer, feature and face, and on nothing else."""
    term = tile.terms[0]
    words: tuple[str, ...] = ("named", tile.name) if tile.is_named else (term.layer, str(term.feature))
    if tile.face is not None and not tile.is_named:
        words += (f"face {tile.face}",)
    return int.from_bytes(hashlib.sha256("\0".join((str(seed), *words)).encode()).digest()[:7])


def noise_seed(init: str, seed: int, tile: Tile) -> int:
    """Of the noise that a tile starts from: the run's, or the tile's own; the faces of one feature start apart."""
    return own_seed(seed, tile) if init == "noise-per-feature" or tile.face is not None else seed


def starting_images(init: str | Tensor, size: ImageSize, seed: int, tiles: list[Tile], channels: int = 3) -> Tensor:
    """Where the descent of each tile starts.

    Args:
        init: `noise` (the same for all), `noise-per-feature`, `gray`, the path of an image, or a tensor
            (C, H, W) or (len(tiles), C, H, W).
        size: in pixels.
        seed: of the noise.
        tiles: N of them.
        channels: C.

    Returns:
        (N, C, H, W), float32, or the tensor's own dtype.

    Raises:
        UsageError: the image cannot be read, or has other channels, or the tensor has another shape.
    """
    n = len(tiles)
    if isinstance(init, Tensor):
        check_starts(init, n, channels)
        return resize(init.expand(n, *init.shape[-3:]), size, antialias=True).clone()  # never the caller's own
    if init.startswith("noise"):
        seeds = [noise_seed(init, seed, tile) for tile in tiles]
        drawn = {each: noise(size, each, channels) for each in set(seeds)}
        return torch.stack([drawn[each] for each in seeds])  # (N, C, H, W)
    if init == "gray":
        one = torch.full((channels, *both_sides(size)), 0.5, dtype=torch.float32, device="cpu")
    else:
        one = resize(in_channels(read_image(Path(init)), channels, init)[None], size, antialias=True)[0]
    return one.expand(n, *one.shape).clone()  # (N, C, H, W)


def in_channels(photograph: Tensor, channels: int, name: str, key: str = "init") -> Tensor:
    """A photograph (3, H, W) as a network of so many channels takes it: as it is, or in gray as people see it.

    Raises:
        UsageError: for other channels there is no telling.
    """
    if channels == 3:
        return photograph
    if channels == 1:
        return torch.einsum("c,chw->hw", torch.tensor(LUMA, dtype=photograph.dtype), photograph)[None]
    raise UsageError(
        f"{key}: {name!r} given, a picture of three channels; the network takes images of {channels}: noise, "
        f"noise-per-feature, gray, or from Python a tensor ({channels}, H, W), is allowed"
    )


def check_starts(init: Tensor, n: int, channels: int = 3) -> None:
    """Raise UsageError where a tensor is neither one start, (C, H, W), nor one for each of n tiles, (n, C, H, W)."""
    fits = init.ndim in (3, 4) and init.shape[-3] == channels and (init.ndim == 3 or init.shape[0] == n)
    if not fits or not init.numel():
        allowed = f"({channels}, S, S) or ({n}, {channels}, S, S)"
        raise UsageError(f"init: a tensor of {tuple(init.shape)} given; {allowed} is needed")


def starts_from(given: Any, n: int, channels: int, *, bounded: bool) -> Tensor:
    """Starting images handed over in Python: the one door for arrays of every kind.

    Args:
        given: a Pillow image, or a tensor, numpy array or nested lists, channels first or last: bool, uint8 and uint16
            in the units of their type, floats in [0, 1]; or a list of such images.
        n: number of tiles.
        channels: C, of the images.
        bounded: whether the recipe's range is.

    Returns:
        (C, H, W) or (n, C, H, W), float32, on the CPU, a copy.

    Raises:
        UsageError: the type has no pixel units, the shape does not fit, or values are far outside [0, 1].
    """
    images = _images(given, channels)
    if images.ndim in (3, 4) and images.shape[-3] != channels and images.shape[-1] == channels:
        images = images.movedim(-1, -3)
    images = images[0] if images.ndim == 4 and len(images) == 1 else images
    check_starts(images, n, channels)
    low, high = (float(end) for end in images.aminmax())
    far = FAR if bounded else FAR_UNBOUNDED
    if not (-far <= low and high <= 1 + far):  # NaN is not either
        raise UsageError(
            f"init: values from {low:.4g} to {high:.4g} given; 0 is black and 1 is white: pass uint8 for 0 to 255, and "
            "undo a normalization (x * std + mean)"
        )
    return images.clone(memory_format=torch.contiguous_format)


def _images(given: Any, channels: int) -> Tensor:
    """The same in pixel units and float32, channels where they were; a picture of two dimensions is gray."""
    if isinstance(given, Image.Image) and given.mode != "F":
        try:
            upright = ImageOps.exif_transpose(given)
            upright = upright.convert("LA") if upright.mode == "La" else upright  # Pillow brings it nowhere else
            return in_channels(_pixels(upright).expand(3, -1, -1), channels, f"a picture of mode {given.mode}")
        except (OSError, ValueError, SyntaxError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"init: a damaged picture given ({' '.join(str(error).split())})") from None
    if isinstance(given, list | tuple) and any(isinstance(one, Image.Image | Tensor | np.ndarray) for one in given):
        every = [_images(one, channels) for one in given]
        if len({image.shape for image in every}) > 1:
            raise UsageError(f"init: images of {every[0].shape} and others given; a list needs images of one shape")
        return torch.stack(every)
    array = _array(given)
    if array.dtype not in UNITS and not array.is_floating_point():
        raise UsageError(
            f"init: an array of {str(array.dtype).removeprefix('torch.')} given, whose white is not known; uint8 (0 to "
            "255), uint16 (0 to 65535), bool, or floats from 0 to 1 are allowed"
        )
    images = array.float() / UNITS.get(array.dtype, 1)
    return images.expand(channels, -1, -1) if images.ndim == 2 and channels in (1, 3) else images


def _array(given: Any) -> Tensor:
    """Numbers of any array as a plain tensor on the CPU."""
    try:
        if isinstance(given, Tensor):
            if given.is_nested:
                raise TypeError("a nested tensor has no shape")
            plain = given.detach().cpu()
            plain = plain.dequantize() if plain.is_quantized else plain
            plain = (plain if plain.layout == torch.strided else plain.to_dense()).as_subclass(Tensor)
            return plain.float() if plain.is_floating_point() else plain
        array = np.asarray(given)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"numbers are needed, not {array.dtype}")
        native = array.astype(np.float64 if array.dtype.itemsize > 8 else array.dtype.newbyteorder("="))
        return torch.from_numpy(native)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise UsageError(
            f"init: a {type(given).__name__} given; {', '.join(NAMED_STARTS)}, an image file, or an array of pixels is "
            f"allowed ({' '.join(str(error).split())[:160]})"
        ) from None


def read_image(path: Path, key: str = "init") -> Tensor:
    """A PNG, JPEG or WebP file as (3, H, W), float32 in [0, 1]: upright as its EXIF says, transparency laid on gray.

    Of 16-bit gray all bits count, of 16-bit colours the upper eight. `key` names the setting, for the message.

    Raises:
        UsageError: it is missing, of another format, damaged, or too large to be a photograph.
    """
    try:
        with open_regular(path, MOST_BYTES, links=True) as file, open_photograph(file, MOST_OF_START) as image:
            pixels = torch.empty(3, image.height, image.width, dtype=torch.float32, device="cpu")
            for (_, top, _, bottom), part in bands(image):
                pixels[:, top:bottom] = _pixels(part)
            return pixels
    except (OSError, ValueError) as error:
        allowed = f"{', '.join(NAMED_STARTS)}, or a PNG, JPEG or WebP file, is allowed"
        allowed = allowed if key == "init" else "a PNG, JPEG or WebP file is needed"
        raise UsageError(f"{key}: {str(path)!r} given; {allowed} ({' '.join(str(error).split())})") from None


def _pixels(image: Image.Image) -> Tensor:
    """What a picture shows, (3 or 1, H, W), on gray where it shows nothing."""
    if image.mode.startswith("I"):  # 16-bit gray, which Pillow would cut off at 255
        clear = image.info.get("transparency")
        levels = torch.from_numpy(np.asarray(image, np.int32).copy())[None]  # (1, H, W)
        alpha = (levels != clear).float() if isinstance(clear, int) else torch.ones(levels.shape)
        color = levels.float() / 65535
    elif image.has_transparency_data:
        color, alpha = TF.pil_to_tensor(image.convert("RGBA")).float().div(255).split([3, 1])
    else:
        pixels: Tensor = TF.pil_to_tensor(image.convert("RGB"))
        return pixels.float() / 255
    return alpha * color + (1 - alpha) * 0.5


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with a 3 x 3 kernel, the border reflected.

    Args:
        images: (N, C, H, W).
        sigma: standard deviation, in pixels.
    """
    # on a CPU, a depthwise convolution takes a third of the time in channels last, and gives the same bits
    laid_out = images.contiguous(memory_format=torch.channels_last) if images.device.type == "cpu" else images
    blurred: Tensor = TF.gaussian_blur(laid_out, [3, 3], [sigma, sigma])
    return blurred.contiguous() if images.is_contiguous() else blurred


def resize(images: Tensor, size: int | tuple[int, int], *, antialias: bool = False) -> Tensor:
    """Bilinear resize; images of that size already are given back as they are.

    Args:
        images: (N, C, H, W).
        size: height and width, in pixels, or the side of a square.
        antialias: for photographs that shrink; between octaves the article has none.
    """
    size = (size, size) if isinstance(size, int) else size
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=antialias)


def to_bytes(images: Tensor, shown: Sequence[int] = (0, 1, 2)) -> Tensor:
    """What is shown of them: clipped to [0, 1], in 256 steps.

    Args:
        images: (N, C, H, W).
        shown: the channels to show: three as red, green and blue, or one as gray.

    Returns:
        (N, H, W, 3), uint8, on the CPU.
    """
    if tuple(shown) != (0, 1, 2) or images.shape[1] != 3:
        images = images[:, list(shown)].expand(-1, 3, -1, -1)
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()
