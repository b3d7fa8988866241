"""Copies that share nothing with the network that they are of."""

import torch
from torch import nn

from featlight.models.copying import all_modules, duplicate, reachable
from tests.strange import networks as n


def memories(network):
    return {tensor.data_ptr() for tensor in reachable(network) if isinstance(tensor, torch.Tensor)}


def test_a_copy_shares_no_module_and_no_memory():
    for build in (
        n.closed_over,
        n.partly_applied,
        n.bound_anew,
        n.default_word,
        n.plain_list,
        n.locked,
        n.fourier_filter,
    ):
        network = build()
        before = dict(vars(network))
        other = duplicate(network)
        assert not set(all_modules(network)) & set(all_modules(other))
        assert not memories(network) & memories(other)
        assert vars(network) == before, "the network is left alone"
        images = torch.rand(2, 3, 16, 16)
        with torch.no_grad():
            expected = network.eval()(images)
            for parameter in reachable(network):
                if isinstance(parameter, nn.Parameter):
                    parameter.zero_()
            assert torch.equal(other.eval()(images), expected)


def test_a_copy_of_a_copy_runs_on_its_own():
    network = n.closed_over().eval()
    first = duplicate(network)
    second = duplicate(first)
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        expected = network(images)
        first[0].weight.zero_()
        assert torch.equal(second(images), expected)
        assert not torch.equal(first(images), expected)


def test_a_structure_shares_its_tensors_alone():
    network = n.hooked_norm()
    other = duplicate(network, share_tensors=True)
    assert not set(all_modules(network)) & set(all_modules(other))
    assert [id(p) for p in network.parameters()] == [id(p) for p in other.parameters()]
