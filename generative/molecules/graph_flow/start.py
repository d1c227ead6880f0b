"""Weights of a flow that predicts bonds as the start of one that is told them.

The layers are the same. Of the first map of pairs the rows of bonds that were predicted have no counterpart, nor have
most of the rows of what the graph says, which start at zero: at first the graph is ignored.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from atomsml.generative.molecules.flow.network import BONDS, DISTANCES, MoleculeNetwork


@torch.no_grad()
def take_weights(network: MoleculeNetwork, source: MoleculeNetwork) -> None:
    """Fill a network that is told all bonds from one of the same widths that predicts them.

    Raises:
        ValueError: other widths.
    """
    given = source.state_dict()
    for name, parameter in network.named_parameters():
        weights: Tensor = given[name]
        if name == "pairs.weights.0":
            weights = _scaled(_of_pairs(weights, len(parameter)), weights)
        elif name == "globals.weights.0":  # conditions come last, and are dropped
            weights = _scaled(weights[: len(parameter)], weights)
        if weights.shape != parameter.shape:
            raise ValueError(
                f"{name} is {tuple(parameter.shape)} here and {tuple(weights.shape)} in what it starts from; "
                "give both the same widths and elements"
            )
        parameter.copy_(weights)


def _of_pairs(weights: Tensor, rows: int) -> Tensor:
    """Distances, what is known, what was said: its distances, its bonds, and that something was."""
    said = slice(len(weights) - 1 - BONDS - DISTANCES, len(weights) - 1 - BONDS)
    kept = weights.new_zeros(rows, weights.shape[1])
    kept[:DISTANCES], kept[-1 - DISTANCES : -1], kept[-1] = weights[:DISTANCES], weights[said], weights[-1]
    return kept


def _scaled(weights: Tensor, source: Tensor) -> Tensor:
    """Maps divide by the root of the number of their rows."""
    return weights * math.sqrt(len(weights) / len(source))
