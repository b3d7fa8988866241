"""A literal implementation of the method as a reference: one image, one loop, no code of featlight."""

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor


def layer_function(network: nn.Module, layer: str):
    """Return a function from images to the layer's output, by torchvision's feature extraction.

    It removes later in-place operations, which would overwrite the output.
    """
    extract = create_feature_extractor(network, [layer])
    return lambda x: extract(x)[layer]


def chosen(z: Tensor, region: str, index, first: tuple[int, int]) -> list[Tensor]:
    """Return the neurons of a region of one map (H, W), row by row."""
    height, width = z.shape
    if region == "map":
        return [z[m] for m in range(height)]
    if region == "row":
        return [z[int((index + 0.5) * height / first[0])]]
    if region == "neuron":
        m, n = int((index[0] + 0.5) * height / first[0]), int((index[1] + 0.5) * width / first[1])
        return [z[m, n : n + 1]]
    r, c = index // first[1], index % first[1]
    r = int(-((-(r + 1) * height) // first[0])) - 1
    c = int(-((-(c + 1) * width) // first[1])) - 1
    return [*(z[m] for m in range(r)), z[r, : c + 1]]


def loss_of(rows: list[Tensor], metric: str, target: float) -> Tensor:
    z = torch.cat(rows)
    if metric == "l1":
        return torch.sum(target - z)
    if metric == "l2":
        return 5 * torch.sqrt(torch.sum((target - z) ** 2))
    if metric == "squares":
        return -torch.sum(z**2)
    if metric == "linf":
        return (target - z).abs().max()
    return max(torch.sum((target - row).abs()) for row in rows)


def layer_loss(
    function, x: Tensor, feature: int | None, region="map", index=None, metric="l1", target=200.0, first=None
):
    """Return the loss of one image (1, 3, S, S); positions refer to the map size `first`, or to the image's own map."""
    z = function(x)
    if z.ndim == 2:
        z = z[:, :, None, None]
    features = range(z.shape[1]) if feature is None else [feature]
    rows = [row for f in features for row in chosen(z[0, f], region, index, first or tuple(z.shape[2:]))]
    return loss_of(rows, metric, target)


def trajectory(function, feature, octaves, dtype=torch.float64, seed=999, rms=False, **objective):
    """Yield every image of the optimization with its gradient, then the final image with None.

    Args:
        octaves: octaves as (size, steps, (lr0, lr1), (sigma0, sigma1) or None).
    """
    size = octaves[0][0]
    first = tuple(function(torch.zeros(1, 3, size, size, dtype=dtype)).shape[2:]) or (1, 1)
    yield from descent(lambda x: layer_loss(function, x, feature, first=first, **objective), octaves, dtype, seed, rms)


def descent(loss, octaves, dtype=torch.float64, seed=999, rms=False):
    """Yield images and gradients as `trajectory` does, for any loss of an image (1, 3, S, S)."""
    size = octaves[0][0]
    x = (torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(seed)) / 10 + 0.5).to(dtype)
    for size, n, lr, sigma in octaves:
        if x.shape[-1] != size:
            x = torchvision.transforms.functional.resize(x, [size, size], antialias=False)
        for i in range(n):
            x = x.detach().requires_grad_(True)
            (g,) = torch.autograd.grad(loss(x), x)
            x = x.detach()
            yield x, g
            step = g / g.pow(2).mean().sqrt() if rms else g
            x = x - (lr[0] * (n - i) / n + lr[1] * i / n) * step
            if sigma is not None:
                s = sigma[0] * (n - i) / n + sigma[1] * i / n
                x = torchvision.transforms.functional.gaussian_blur(x, 3, [s, s])
    yield x, None
