"""Replacing modules inside a network."""

import torch
from tiny import tiny_classifier
from torch import nn

from maskerlib.methods.copies import replace_modules, still_copy


def test_a_module_in_several_places_has_one_replacement_in_all_of_them():
    shared = nn.ReLU()
    network = nn.Sequential(shared, nn.Sequential(shared, nn.Tanh()), shared)
    network.add_module("none", None)
    made = replace_modules(network, lambda module: nn.Sigmoid() if isinstance(module, nn.ReLU) else None)
    assert made == [network[0]] and isinstance(made[0], nn.Sigmoid)
    assert network[0] is network[2] is network[1][0] and isinstance(network[1][1], nn.Tanh)


def test_what_is_inside_a_replacement_stays():
    network = nn.Sequential(nn.ReLU())
    replace_modules(network, lambda module: nn.Sequential(module) if isinstance(module, nn.ReLU) else None)
    assert isinstance(network[0], nn.Sequential) and isinstance(network[0][0], nn.ReLU)


def test_a_copy_shares_nothing_and_stands_still():
    classifier = tiny_classifier().train()
    copied = still_copy(classifier)
    assert classifier.training and not copied.training
    assert all(weight.requires_grad for weight in classifier.parameters())
    assert not any(weight.requires_grad for weight in copied.parameters())
    with torch.no_grad():
        next(copied.parameters()).zero_()
    assert next(classifier.parameters()).any()
    assert still_copy(classifier.to(torch.bfloat16)).dtype == torch.float32
    assert still_copy(classifier.double()).dtype == torch.float64
