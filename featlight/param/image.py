"""Images in pixel units (0 black, 1 white, unbounded): starting images, blur, resizing, conversion to bytes."""

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

from featlight.config.image_shape import ImageSize
from featlight.config.named_starts import NAMED_STARTS, has_own_start
from featlight.config.tile import Tile
from featlight.errors import UsageError, one_line
from featlight.files import open_regular
from featlight.image_io import MOST_BYTES, bands, open_photograph

MeanAndStd = tuple[Sequence[float], Sequence[float]]  # mean and std of each channel
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in luminance. Source: ITU-R BT.601.
UNITS = {torch.bool: 1, torch.uint8: 255, torch.uint16: 65535}  # value of white, by dtype
FAR, FAR_UNBOUNDED = 0.5, 10.0  # largest distance of a start from [0, 1], for a bounded and an unbounded range
MOST_OF_START = 40_000_000  # pixels of a photograph, each of which takes 16 bytes while it is read


def normalized(images: Tensor, pixels: MeanAndStd | None) -> Tensor:
    """Normalize images for a network.

    Args:
        images: (N, C, H, W).
        pixels: mean and std of each channel, or of all; ignored for images with another number of channels.
    """
    if pixels is None or len(pixels[0]) not in (1, images.shape[1]):
        return images
    mean, std = (torch.tensor(values, device=images.device, dtype=images.dtype).view(-1, 1, 1) for values in pixels)
    return (images - mean) / std


def own_seed(seed: int, tile: Tile) -> int:
    """Return a tile's seed, which depends only on the run's seed and on its layer, feature and face."""
    term = tile.terms[0]
    words: tuple[str, ...] = ("named", tile.name) if tile.is_named else (term.layer, str(term.feature))
    if tile.face is not None and not tile.is_named:
        words += (f"face {tile.face}",)
    return int.from_bytes(hashlib.sha256("\0".join((str(seed), *words)).encode()).digest()[:7])


def noise_seed(init: str, seed: int, tile: Tile) -> int:
    """Return the seed of a tile's starting noise: the run's seed, or the tile's own, as for the faces of a feature."""
    return own_seed(seed, tile) if has_own_start(init, tile.face) else seed


def starting_images(init: str | Tensor, size: ImageSize, seed: int, tiles: list[Tile], channels: int = 3) -> Tensor:
    """Return the starting image of each tile.

    Args:
        init: name of a start, the path of an image, or a tensor (C, H, W) or (len(tiles), C, H, W).
        size: size of the images, in pixels.
        seed: seed of the noise.
        tiles: tiles of the batch, N.
        channels: number of channels, C.

    Returns:
        (N, C, H, W), float32, or the tensor's own dtype.

    Raises:
        UsageError: the image cannot be read, its channels do not fit, or the tensor has a wrong shape.
    """
    n = len(tiles)
    if isinstance(init, Tensor):
        check_starts(init, n, channels)
        return resize(init.expand(n, *init.shape[-3:]), size, antialias=True).clone()  # never the caller's own
    if init in NAMED_STARTS:
        seeds = [noise_seed(init, seed, tile) for tile in tiles]
        drawn = {each: NAMED_STARTS[init].image(size, each, channels) for each in set(seeds)}
        return torch.stack([drawn[each] for each in seeds])  # (N, C, H, W)
    one = resize(in_channels(read_image(Path(init)), channels, init)[None], size, antialias=True)[0]
    return one.expand(n, *one.shape).clone()  # (N, C, H, W)


def in_channels(photograph: Tensor, channels: int, name: str, key: str = "init") -> Tensor:
    """Convert a photograph (3, H, W) to a number of channels: 3, or 1 for luminance.

    Raises:
        UsageError: the number of channels is neither 3 nor 1.
    """
    if channels == 3:
        return photograph
    if channels == 1:
        return torch.einsum("c,chw->hw", torch.tensor(LUMA, dtype=photograph.dtype), photograph)[None]
    raise UsageError(
        f"{key}: {name!r} given, a picture of three channels; the network takes images of {channels}: "
        f"{', '.join(NAMED_STARTS)}, or from Python a tensor ({channels}, H, W), is allowed"
    )


def check_starts(init: Tensor, n: int, channels: int = 3, key: str = "init") -> None:
    """Raise UsageError if a tensor is neither one start, (C, H, W), nor one for each of n tiles, (n, C, H, W)."""
    fits = init.ndim in (3, 4) and init.shape[-3] == channels and (init.ndim == 3 or init.shape[0] == n)
    if not fits or not init.numel():
        allowed = f"({channels}, S, S) or ({n}, {channels}, S, S)"
        raise UsageError(f"{key}: a tensor of {tuple(init.shape)} given; {allowed} is needed")


def starts_from(given: Any, n: int, channels: int, *, bounded: bool, key: str = "init") -> Tensor:
    """Convert images given in Python, arrays of any kind.

    Args:
        given: a Pillow image, or a tensor, numpy array or nested lists, channels first or last: bool, uint8 and uint16
            in the units of their type, floats in [0, 1]; or a list of such images.
        n: number of tiles.
        channels: number of channels, C.
        bounded: whether the recipe's range is bounded.
        key: setting that the messages name.

    Returns:
        (C, H, W) or (n, C, H, W), float32, on the CPU, a copy.

    Raises:
        UsageError: the type has no pixel units, the shape does not fit, or values are far outside [0, 1].
    """
    images = _images(given, channels, key)
    if images.ndim in (3, 4) and images.shape[-3] != channels and images.shape[-1] == channels:
        images = images.movedim(-1, -3)
    images = images[0] if images.ndim == 4 and len(images) == 1 else images
    check_starts(images, n, channels, key)
    low, high = (float(end) for end in images.aminmax())
    far = FAR if bounded else FAR_UNBOUNDED
    if not (-far <= low and high <= 1 + far):  # also refuses NaN
        raise UsageError(
            f"{key}: values from {low:.4g} to {high:.4g} given; 0 is black and 1 is white: pass uint8 for 0 to 255, "
            "and undo a normalization (x * std + mean)"
        )
    return images.clone(memory_format=torch.contiguous_format)


def _images(given: Any, channels: int, key: str) -> Tensor:
    """Convert to pixel units and float32; two dimensions are gray, and the channels keep their place."""
    if isinstance(given, Image.Image) and given.mode != "F":
        try:
            upright = ImageOps.exif_transpose(given)
            _check_levels(upright, key)
            upright = upright.convert("LA") if upright.mode == "La" else upright  # Pillow has no other conversion
            return in_channels(_pixels(upright).expand(3, -1, -1), channels, f"a picture of mode {given.mode}", key)
        except (OSError, ValueError, SyntaxError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"{key}: a damaged picture given ({one_line(error)})") from None
    if isinstance(given, list | tuple) and any(isinstance(one, Image.Image | Tensor | np.ndarray) for one in given):
        every = [_images(one, channels, key) for one in given]
        if len({image.shape for image in every}) > 1:
            raise UsageError(f"{key}: images of {every[0].shape} and others given; a list needs images of one shape")
        return torch.stack(every)
    array = _array(given, key)
    if array.dtype not in UNITS and not array.is_floating_point():
        raise UsageError(
            f"{key}: an array of {str(array.dtype).removeprefix('torch.')} given, whose white is not known; uint8 (0 "
            "to 255), uint16 (0 to 65535), bool, or floats from 0 to 1 are allowed"
        )
    images = array.float() / UNITS.get(array.dtype, 1)
    return images.expand(channels, -1, -1) if images.ndim == 2 and channels in (1, 3) else images


def _check_levels(image: Image.Image, key: str) -> None:
    """Raise UsageError if a picture of 16 or 32 bits has only values of 8 bits."""
    if image.mode.startswith("I"):
        levels = np.asarray(image, np.int32)
        low, high = int(levels.min()), int(levels.max())
        if 1 < high <= 255:
            raise UsageError(
                f"{key}: a picture of mode {image.mode} with values from {low} to {high} given, where white is 65535; "
                "if white is 255, give numpy.asarray(image).astype('uint8')"
            )


def _array(given: Any, key: str) -> Tensor:
    """Convert any array of numbers to a plain tensor on the CPU."""
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
        words = f"{', '.join(NAMED_STARTS)}, " if key == "init" else ""
        raise UsageError(
            f"{key}: a {type(given).__name__} given; {words}an image file, or an array of pixels is allowed "
            f"({one_line(error, 160)})"
        ) from None


def read_image(path: Path, key: str = "init") -> Tensor:
    """Read a PNG, JPEG or WebP file as (3, H, W), float32 in [0, 1], rotated by its EXIF tag, blended with gray.

    16-bit gray keeps all bits, 16-bit color the upper eight. `key` is the setting that the message names.

    Raises:
        UsageError: the file is missing, damaged, too large, or of another format.
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
        raise UsageError(f"{key}: {str(path)!r} given; {allowed} ({one_line(error)})") from None


def _pixels(image: Image.Image) -> Tensor:
    """Return the pixels of a picture, (3 or 1, H, W), blended with gray where it is transparent."""
    if image.mode.startswith("I"):  # 16-bit gray, which Pillow would clip at 255
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
    """Blur images with a 3 x 3 Gaussian kernel, with reflected borders.

    Args:
        images: (N, C, H, W).
        sigma: standard deviation, in pixels.
    """
    # on a CPU, a depthwise convolution is three times faster in channels last, with the same bits
    laid_out = images.contiguous(memory_format=torch.channels_last) if images.device.type == "cpu" else images
    blurred: Tensor = TF.gaussian_blur(laid_out, [3, 3], [sigma, sigma])
    return blurred.contiguous() if images.is_contiguous() else blurred


def resize(images: Tensor, size: int | tuple[int, int], *, antialias: bool = False) -> Tensor:
    """Resize images, bilinear; return images that have the size already unchanged.

    Args:
        images: (N, C, H, W).
        size: height and width, in pixels, or the side of a square.
        antialias: whether to smooth when shrinking, as for photographs; the article does not, between octaves.
    """
    size = (size, size) if isinstance(size, int) else size
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=antialias)


def to_bytes(images: Tensor, shown: Sequence[int] = (0, 1, 2)) -> Tensor:
    """Convert images to bytes, clipped to [0, 1].

    Args:
        images: (N, C, H, W).
        shown: channels to show, three as red, green and blue, or one as gray.

    Returns:
        (N, H, W, 3), uint8, on the CPU.
    """
    if tuple(shown) != (0, 1, 2) or images.shape[1] != 3:
        images = images[:, list(shown)].expand(-1, 3, -1, -1)
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()
