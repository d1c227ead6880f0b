"""The radial functions of a MACE as tables, for its CPU program.

A kind is an ordered pair of elements (receiver, sender). Kinds share a table unless the functions differ: by the Agnesi
transform, whose distances depend on both elements, and in the first layer, where the features of a neighbour depend on
its element alone, so that embedding and linear maps (of the receiver too, without residual) go into the functions.

What is tabulated are the last hidden functions of the radial networks: all others are linear combinations of them, and
so are the coefficients of their splines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from atomsml.ops.activation import silu
from atomsml.potentials.mace.model import MACE
from atomsml.programs.tabulated_convolution import RadialRows
from atomsml.radial.table import RadialTable, SplineGrid, tabulate

# of the largest value and the largest slope of a table
TOLERANCES = {torch.float32: 5e-7, torch.float64: 1e-8}


@dataclass(frozen=True)
class Tables:
    """One set of functions for every kind."""

    tables: list[RadialTable]
    of_kind: list[int]  # receiver * number of elements + sender -> table

    def rows(self, num_paths: int, whole_channels: int, dtype: torch.dtype) -> RadialRows:
        """As kernels read them, with the channels of zeros that fill the last vector."""
        coefficients = torch.cat([table.coefficients for table in self.tables]).unflatten(2, (num_paths, -1))
        missing = whole_channels - coefficients.shape[3]
        padded = torch.nn.functional.pad(coefficients, (0, missing)).flatten(2)
        return RadialRows.from_coefficients(padded, torch.tensor(self.of_kind), num_paths, dtype)


def tabulate_model(model: MACE, species: list[int], dtype: torch.dtype) -> tuple[list[Tables], list[Tables | None]]:
    """Radial functions of every layer, and its densities where it has some, all on one grid.

    The model is float64; species are those of its elements that occur.

    Raises:
        ValueError: the functions are not smooth enough for tables.
    """
    kinds = [(r, s) for r in species for s in species]
    pairs = kinds[:1] if model.radial_basis.agnesi is None else [(r, s) for r, s in kinds if r <= s]
    pair = [pairs.index((min(kind), max(kind))) if len(pairs) > 1 else 0 for kind in kinds]
    table = tabulate(lambda x: _hidden_functions(model, pairs, x), SplineGrid(model.cutoff, (64,)), TOLERANCES[dtype])
    widths = [
        width
        for layer in model.all_layers
        for width in (len(list(layer.radial.weights)[-1]), int(layer.density is not None))
    ]
    coefficients = table.coefficients.split(widths, dim=2)
    radial: list[Tables] = []
    density: list[Tables | None] = []
    with torch.no_grad():
        for i, layer in enumerate(model.all_layers):
            hidden, dense = coefficients[2 * i : 2 * i + 2]
            found: dict[tuple[int, ...], tuple[int, Tensor]] = {}
            of_kind = []
            for p, (r, s) in zip(pair, kinds, strict=True):
                key = (p, s, r) if i == 0 and not layer.residual else (p, s) if i == 0 else (p,)
                if key not in found:
                    found[key] = len(found), hidden[p, None] @ _combinations(model, i, r, s)
                of_kind.append(found[key][0])
            radial.append(Tables([replace(table, coefficients=c) for _, c in found.values()], of_kind))
            shares = [replace(table, coefficients=c[None]) for c in dense]
            density.append(None if layer.density is None else Tables(shares, pair))
    return radial, density


def _hidden_functions(model: MACE, pairs: list[tuple[int, int]], x: Tensor) -> Tensor:
    """Of every layer what the last matrix of its radial network maps, and an edge's share in the density."""
    receiver, sender = (
        torch.tensor([[model.elements[i] for i in pair] for pair in pairs]).repeat_interleave(len(x), 0).T
    )
    basis = model.radial_basis(x.repeat(len(pairs)), sender, receiver)
    functions = []
    for layer in model.all_layers:
        hidden = basis
        for weight in list(layer.radial.weights)[:-1]:
            hidden = silu(hidden @ (weight / math.sqrt(len(weight))))
        functions.append(hidden)
        if layer.density is not None:
            functions.append(torch.tanh(layer.density(basis) ** 2))
    return torch.cat(functions, dim=1).unflatten(0, (len(pairs), -1))


def _combinations(model: MACE, i: int, r: int, s: int) -> Tensor:
    """(hidden, paths * channels): the last matrix of layer i; in the first layer times all that follows."""
    layer, c = model.all_layers[i], model.config.channels
    last = list(layer.radial.weights)[-1]
    last = last / math.sqrt(len(last))
    if i > 0:
        return last
    scale = (1.0 if layer.density is not None else 1 / model.config.avg_num_neighbors) / math.sqrt(c)
    maps = torch.stack(list(layer.linear.weights)) * scale  # (degrees, channels, channels)
    if not layer.residual:
        maps = maps @ torch.stack([w[r] for w in layer.skip.weights]) / math.sqrt(len(model.elements) * c)
    features = layer.linear_up(model.embedding[s][None, None].split(1))[0, 0]
    return torch.einsum("xlc,c,lcd->xld", last.unflatten(1, (-1, c)), features, maps).flatten(1)
