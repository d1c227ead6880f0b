"""The radial functions of a MACE as tables, for its CPU program; made for pairs of elements when they first occur.

A kind is an ordered pair of elements (receiver, sender). Kinds share a table unless the functions differ: by the Agnesi
transform, whose distances depend on the sum of two radii, and in the first layer, where the features of a neighbour
depend on its element alone, so that embedding and linear maps (of the receiver too, without residual) go into the
functions.

What is tabulated are the last hidden functions of the radial networks: all others are linear combinations of them, and
so are the coefficients of their splines. All tables of a model have one grid, which does not depend on the elements
that occur: equal structures give equal bits, whatever came before.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from atomsml.ops.activation import silu
from atomsml.potentials.mace.model import MACE
from atomsml.programs.growing_tables import Shelf
from atomsml.radial.table import SplineGrid, tabulate

# of the largest value and the largest slope of a table
TOLERANCES = {torch.float32: 5e-7, torch.float64: 1e-8}
MARGIN = 0.8  # of the tolerance, where a grid is chosen by some of the tables that will be on it
SAMPLED = 9  # of the Agnesi transforms of a model


class MACETables:
    """Radial functions of every layer, and its densities where it has some.

    Args:
        model: float64.
        most: kinds of pairs for which there is room in any case.

    Raises:
        ValueError: the functions are not smooth enough for tables.
    """

    def __init__(self, model: MACE, dtype: torch.dtype, most: int) -> None:
        self._model, self._dtype = model, dtype
        elements, agnesi = range(len(model.elements)), model.radial_basis.agnesi
        self._radii = [0.0] * len(elements) if agnesi is None else agnesi.covalent_radii[list(model.elements)].tolist()
        pairs = {self._distance_key(r, s): (r, s) for r in elements for s in elements if r <= s}
        keys = sorted(pairs)
        sampled = [keys[i] for i in sorted({*np.linspace(0, len(keys) - 1, SAMPLED).astype(int).tolist()})]
        table = tabulate(
            lambda x: _hidden_functions(model, [pairs[key] for key in sampled], x),
            SplineGrid(model.cutoff, (64,)),
            TOLERANCES[dtype] * (MARGIN if len(sampled) < len(keys) else 1.0),
        )
        self.grid, self.value_deviation, self.slope_deviation = table.grid, table.value_deviation, table.slope_deviation
        self._hidden = dict(zip(sampled, table.coefficients, strict=True))  # (rows, functions) of each
        self.radial: list[Shelf] = []
        self.density: list[Shelf | None] = []
        rows, c = table.coefficients.shape[1], model.config.channels
        of_senders = agnesi is None and model.all_layers[0].residual
        first = len(elements) if of_senders else len(elements) ** 2
        for i, layer in enumerate(model.all_layers):

            def shelf(tables: int, paths: int, channels: int) -> Shelf:
                return Shelf(len(elements) ** 2, paths, channels, rows, tables, most, dtype)

            self.radial.append(shelf(len(keys) if i > 0 else first, len(layer.table.paths), c))
            self.density.append(None if layer.density is None else shelf(len(keys), 1, 1))

    def add(self, r: int, s: int) -> None:
        """Tables for a receiver and a sender, as numbers among the elements of the model; raises NoRoom."""
        kind, pair = r * len(self._model.elements) + s, self._distance_key(r, s)
        hidden = self._hidden_coefficients(r, s)
        for i, (radial, density) in enumerate(zip(self.radial, self.density, strict=True)):
            functions, dense = hidden[2 * i : 2 * i + 2]
            key = self._key(i, r, s)
            if not radial.has(key):
                radial.add(key, functions @ _combinations(self._model, i, r, s))
            radial.assign(kind, key)
            if density is not None:
                if not density.has(pair):
                    density.add(pair, dense)
                density.assign(kind, pair)

    def _key(self, i: int, r: int, s: int) -> Hashable:
        """What tells tables of layer i apart."""
        pair = self._distance_key(r, s)
        if i > 0:
            return pair
        return (pair, s) if self._model.all_layers[0].residual else (pair, s, r)

    def _distance_key(self, r: int, s: int) -> float:
        """What the transform of distances depends on: the sum of two radii."""
        return self._radii[r] + self._radii[s]

    def _hidden_coefficients(self, r: int, s: int) -> list[Tensor]:
        """For each layer (rows, hidden functions) and (rows, 1 or 0 densities)."""
        key = self._distance_key(r, s)
        if key not in self._hidden:
            table = tabulate(partial(_hidden_functions, self._model, [(r, s)]), self.grid, TOLERANCES[self._dtype])
            if table.grid != self.grid:
                raise ValueError(
                    f"radial functions of the elements {self._model.elements[r]} and {self._model.elements[s]} are "
                    "not smooth enough for the table of a model with these elements: ask for exact predictions"
                )
            self.value_deviation = max(self.value_deviation, table.value_deviation)
            self.slope_deviation = max(self.slope_deviation, table.slope_deviation)
            self._hidden[key] = table.coefficients[0]
        widths = [
            width
            for layer in self._model.all_layers
            for width in (len(list(layer.radial.weights)[-1]), int(layer.density is not None))
        ]
        return list(self._hidden[key].split(widths, dim=1))


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
