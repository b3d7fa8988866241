"""The networks, each a function that builds it anew with the same weights."""

import functools
import random
import threading
import weakref
from types import MethodType

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Does(nn.Module):
    """A module whose forward is a function of itself and what it is given."""

    def __init__(self, does, **parts):
        super().__init__()
        self.does = does
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.does(self, x)


def seeded(build):
    @functools.wraps(build)
    def made(*words):
        torch.manual_seed(0)
        return build(*words)

    return made


def conv(inner=3, outer=6, size=3, **options):
    return nn.Conv2d(inner, outer, size, **options)


def norm(features=6):
    """Of statistics that do something, so that folding does too."""
    found = nn.BatchNorm2d(features)
    nn.init.uniform_(found.running_mean, -0.5, 0.5)
    nn.init.uniform_(found.running_var, 0.5, 2.0)
    nn.init.uniform_(found.weight, 0.5, 1.5)
    return found


def start():
    """What is worth rewriting: a ReLU goes behind its pool."""
    return nn.Sequential(conv(), nn.ReLU(), nn.MaxPool2d(2))


def statement(does):
    """A convolution, something that is done to its output as a statement, and another convolution."""

    def run(self, x):
        x = self.first(self.start(x))
        does(x)
        return self.last(x)

    return seeded(lambda: nn.Sequential(Does(run, start=start(), first=conv(6), last=conv(6, 4)), nn.Identity()))


def between(does, **parts):
    """A convolution, a module of one's own, and another convolution."""
    return seeded(lambda: nn.Sequential(start(), Does(does, **{k: v() for k, v in parts.items()}), conv(6, 4)))


# Which dimension is the feature


@seeded
def permuted():
    return nn.Sequential(conv(3, 6, 4, stride=4), Does(lambda self, x: x.permute(0, 2, 3, 1)), nn.Linear(6, 24))


@seeded
def normed_by_hand():
    return nn.Sequential(
        conv(3, 5, 4, stride=4), Does(lambda self, x: torch.tanh(F.layer_norm(x.permute(0, 2, 3, 1), (5,))))
    )


class Patches(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).permute(0, 2, 3, 1)


@seeded
def convolution_that_permutes():
    return nn.Sequential(Patches(3, 7, 4, stride=4), nn.GELU())


@seeded
def feature_in_the_middle():
    return nn.Sequential(conv(3, 5, 4, stride=4), Does(lambda self, x: x.permute(0, 2, 1, 3).sin()))


@seeded
def hook_that_permutes():
    network = nn.Sequential(conv(3, 5, 4, stride=4), nn.ReLU())
    network[0].register_forward_hook(lambda module, given, output: output.permute(0, 2, 3, 1))
    return network


@seeded
def of_one_size():
    """Maps of 7 x 7 whatever the image."""
    even = Does(lambda self, x: F.adaptive_avg_pool2d(x, 7))
    return nn.Sequential(even, conv(3, 5, 1), Does(lambda self, x: x.permute(0, 2, 3, 1).tanh()))


@seeded
def flattened():
    return nn.Sequential(conv(stride=4), nn.Flatten())


# What a rewriting changes


class More(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).clamp(-4, 4)


@seeded
def norm_that_does_more():
    network = nn.Sequential(conv(), More(6), conv(6, 4))
    nn.init.uniform_(network[1].running_mean, -0.5, 0.5)
    return network


@seeded
def hooked_norm():
    network = nn.Sequential(conv(), norm(), conv(6, 4))
    network[1].register_forward_hook(lambda module, given, output: output.clamp(max=4))
    return network


@seeded
def hooked_convolution():
    network = nn.Sequential(conv(), norm(), conv(6, 4))
    network[0].register_forward_pre_hook(lambda module, given: (given[0].clamp(0.2, 0.9),))
    return network


@seeded
def norm_with_a_forward_of_its_own():
    network = nn.Sequential(conv(), norm(), conv(6, 4))
    usual = network[1].forward
    network[1].forward = lambda x: usual(x).clamp(max=4)
    return network


@seeded
def guided():
    """As guided backpropagation does: the gradient of a ReLU is cut by a hook."""
    network = nn.Sequential(conv(), norm(), nn.ReLU(), conv(6, 4))
    network[2].register_full_backward_hook(lambda module, inner, outer: (inner[0].clamp(min=0),))
    return network


@seeded
def seen_twice():
    """A convolution's output is taken by its norm, and once more where it is large."""

    def run(self, x):
        z = self.first(x)
        return self.norm(z) + F.relu(z - 4)

    return nn.Sequential(Does(run, first=conv(), norm=norm()), conv(6, 4))


@seeded
def read_norm():
    """The network looks into its norm's numbers."""
    return nn.Sequential(
        Does(lambda self, x: self.norm(self.first(x)) * self.norm.running_var[0], first=conv(), norm=norm()), conv(6, 4)
    )


@seeded
def activated_in_place():
    """Two layers, and between them an activation that writes into the first one's output."""

    def run(self, x):
        return self.last(F.hardtanh(self.first(self.start(x)), -1.0, 1.0, inplace=True))

    return Does(run, start=start(), first=conv(6), last=conv(6, 4))


@seeded
def module_as_a_statement():
    def run(self, x):
        x = self.first(self.start(x))
        self.clip(x)
        return self.last(x)

    return Does(run, start=start(), first=conv(6), clip=nn.Hardtanh(-1.0, 1.0, inplace=True), last=conv(6, 4))


@seeded
def taken_before_and_after():
    """What an activation has written into is taken once more, under its old name."""

    def run(self, x):
        x = self.first(self.start(x))
        return self.last(self.clip(x) * x)

    return Does(run, start=start(), first=conv(6), clip=nn.Hardtanh(-1.0, 1.0, inplace=True), last=conv(6, 4))


def cut_gradient(x):
    if x.requires_grad:
        x.register_hook(lambda gradient: gradient.clamp(min=0))


class Step(torch.autograd.Function):
    """A step forward, a line back."""

    @staticmethod
    def forward(context, x):
        return (x > 0.1).to(x.dtype)

    @staticmethod
    def backward(context, gradient):
        return gradient


def gated(self, x):
    with torch.no_grad():
        gate = torch.sigmoid(4 * x)
    return x * gate


def added(x):
    x += 0.5 * x.detach().flip(1)


def zeroed(x):
    x[:, :2] = 0


def clamped_part(x):
    x[:, 1:].clamp_(-0.2, 0.2)


# Modules that run as often as the size asks


def pyramid(self, x):
    """One and the same convolution on an image that is halved as often as it can be."""
    found = self.first(x)
    while x.shape[-1] > 18:
        x = F.avg_pool2d(x, 2)
        found = self.first(x)
    return self.last(found)


def by_logarithm(self, x):
    for _ in range(int(np.log2(x.shape[-1])) - 3):
        x = torch.tanh(self.first(x))
    return self.last(x)


def halves(self, x):
    """Recursion, the inner calls last."""
    found = self.first(x)
    return found if x.shape[-1] < 20 else found + halves(self, x[..., ::2, ::2]).mean()


# What an image must not depend on


def counted(self, x):
    self.calls = getattr(self, "calls", 0) + 1
    return x * self.calls


def late(self, x):
    """It keeps count for long before that shows, and no graph can be made of it."""
    self.calls = getattr(self, "calls", 0) + 1
    return x * (2 if x.sum() != 0 and self.calls > 40 else 1)


def remembered(self, x):
    last, self.last = getattr(self, "last", 0.0), x.detach().mean()
    return x + last


def rarely(self, x):
    return x * 2 if torch.rand(()) < 1e-6 else x


def attended(self, x):
    rows = x.flatten(1)
    return (torch.softmax(rows @ rows.T / 1e4, 1) @ rows).view_as(x)


def paired(self, x):
    return (x.view(-1, 2, *x.shape[1:]) - x.view(-1, 2, *x.shape[1:]).mean(1, keepdim=True)).flatten(0, 1)


def tail(self, x):
    return torch.cat([x[:2], x[2:] - x[2:].mean(0)]) if len(x) > 3 else x


def flagged(self, x):
    """All is well until some image is far out."""
    return x.tanh() if x.abs().amax() > 2 else x


@seeded
def hidden_norm():
    """A batch norm in a plain list, which no `eval` reaches."""
    network = Does(lambda self, x: self.last(self.parts[0](self.first(x))), first=conv(), last=conv(6, 4))
    network.parts = [nn.BatchNorm2d(6)]
    return network


def python_chance(self, x):
    return x * random.random()


def numpy_chance(self, x):
    return x + np.random.rand()


# Complex weights


@seeded
def fourier_filter():
    weight = nn.Parameter(torch.randn(6, 1, 1, dtype=torch.complex64))
    return nn.Sequential(
        conv(), Does(lambda self, x: torch.fft.irfft2(torch.fft.rfft2(x) * self.weight, x.shape[-2:]), weight=weight)
    )


@seeded
def turned():
    network = nn.Sequential(conv(), Does(lambda self, x: (x * self.phase).real + (x * self.phase).imag), conv(6, 4))
    network[1].register_buffer("phase", torch.exp(1j * torch.rand(6, 1, 1)).to(torch.complex64))
    return network


@seeded
def complex_convolution():
    weight = nn.Parameter(torch.randn(4, 6, 3, 3, dtype=torch.complex64) / 8)
    return nn.Sequential(
        conv(), Does(lambda self, x: F.conv2d(x.to(self.weight.dtype), self.weight).abs(), weight=weight)
    )


# Copies that would use the network itself


@seeded
def closed_over():
    network = nn.Sequential(conv(), norm(), conv(6, 4))
    usual = network.forward
    network.forward = lambda x: usual(x.clamp(0, 0.9))
    return network


@seeded
def partly_applied():
    network = nn.Sequential(conv(), nn.ReLU(), conv(6, 4))
    network.forward = functools.partial(lambda usual, x: usual(x * 2), network.forward)
    return network


@seeded
def bound_anew():
    network = nn.Sequential(conv(), nn.ReLU(), conv(6, 4))
    usual = network.forward
    network.forward = MethodType(lambda self, x: usual(x * 2) + self[0].bias[0], network)
    return network


@seeded
def default_word():
    network = nn.Sequential(conv(), conv(6, 4))
    network[0].forward = lambda x, usual=network[0].forward: usual(x).tanh()
    return network


@seeded
def plain_list():
    network = Does(lambda self, x: self.last(self.parts[1](self.parts[0](x))), last=conv(6, 4))
    network.parts = [conv(), nn.ReLU()]
    return network


BACKBONE = seeded(conv)()


@seeded
def globally_named():
    return nn.Sequential(Does(lambda self, x: BACKBONE(x)), conv(6, 4))


class OfTheClass(nn.Module):
    backbone = BACKBONE

    def __init__(self):
        super().__init__()
        self.last = conv(6, 4)

    def forward(self, x):
        return self.last(type(self).backbone(x))


@seeded
def weakly_held():
    network = nn.Sequential(conv(), Does(lambda self, x: self.owner()[0].weight.mean() * x), conv(6, 4))
    network[1].owner = weakref.ref(network)
    return network


# What can work, works


class Locked(nn.Sequential):
    def __init__(self, *parts):
        super().__init__(*parts)
        self.lock, self.log = threading.Lock(), [{"running": (i for i in range(3))}]

    def forward(self, x):
        with self.lock:
            return super().forward(x)


@seeded
def locked():
    return Locked(conv(), nn.ReLU(), conv(6, 4))


class Silent(nn.Sequential):
    """Overrides `train` and forgets to give itself back."""

    def train(self, mode=True):
        super().train(mode)


@seeded
def silent():
    return Silent(conv(), norm(), nn.Dropout(0.5), conv(6, 4))


@seeded
def scripted_part():
    return nn.Sequential(torch.jit.script(nn.Sequential(conv(), nn.Tanh())), conv(6, 4))


@seeded
def unscripted_part():
    return nn.Sequential(nn.Sequential(conv(), nn.Tanh()), conv(6, 4))


scripted_part.reference = unscripted_part  # torch lets nobody hook what is scripted


@seeded
def compiled_part():
    return nn.Sequential(torch.compile(conv()), nn.ReLU(), conv(6, 4))


@seeded
def five_dimensions():
    network = nn.Sequential(conv(), norm(), conv(6, 4))
    network.register_buffer("table", torch.rand(1, 2, 1, 2, 1))
    return network


@seeded
def sparse():
    network = nn.Sequential(conv(stride=4), nn.AdaptiveAvgPool2d(2), nn.Flatten(), Does(lambda s, x: (s.mix @ x.T).T))
    network[3].register_buffer("mix", (torch.rand(5, 24) * (torch.rand(5, 24) > 0.5)).to_sparse())
    return network


@seeded
def squeezed():
    return nn.Sequential(conv(), Does(lambda self, x: x.squeeze()), conv(6, 4))


@seeded
def quantized():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 5)).eval()
    return torch.ao.quantization.quantize_dynamic(network, {nn.Linear})


@seeded
def keeps_a_graph():
    def run(self, x):
        self.mean = x.mean() + getattr(self, "mean", 0)
        return x + 0 * self.mean

    return nn.Sequential(conv(), Does(run), conv(6, 4))
