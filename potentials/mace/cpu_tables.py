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
        self._model, self._dtype, self._residual = model, dtype, model.all_layers[0].residual
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
        self._widths = [
            width
            for layer in model.all_layers
            for width in (len(list(layer.radial.weights)[-1]), int(layer.density is not None))
        ]
        with torch.no_grad():
            self._combinations = _Combinations(model)
        self.radial: list[Shelf] = []
        self.density: list[Shelf | None] = []
        rows, c = table.coefficients.shape[1], model.config.channels
        of_senders = agnesi is None and self._residual
        first = len(elements) if of_senders else len(elements) ** 2
        for i, layer in enumerate(model.all_layers):

            def shelf(tables: int, paths: int, channels: int) -> Shelf:
                return Shelf(len(elements) ** 2, paths, channels, rows, tables, most, dtype)

            self.radial.append(shelf(len(keys) if i > 0 else first, len(layer.table.paths), c))
            self.density.append(None if layer.density is None else shelf(len(keys), 1, 1))

    def add(self, r: int, s: int) -> None:
        """Tables for a receiver and a sender, as numbers among the elements of the model; raises NoRoom."""
        kind, pair = r * len(self._model.elements) + s, self._distance_key(r, s)
        for i, (radial, density) in enumerate(zip(self.radial, self.density, strict=True)):
            key = self._key(i, r, s)
            if not radial.has(key):
                radial.add(key, self._hidden_coefficients(2 * i, r, s) @ self._combinations.matrix(i, r, s))
            radial.assign(kind, key)
            if density is not None:
                if not density.has(pair):
                    density.add(pair, self._hidden_coefficients(2 * i + 1, r, s))
                density.assign(kind, pair)

    def _key(self, i: int, r: int, s: int) -> Hashable:
        """What tells tables of layer i apart."""
        pair = self._distance_key(r, s)
        if i > 0:
            return pair
        return (pair, s) if self._residual else (pair, s, r)

    def _distance_key(self, r: int, s: int) -> float:
        """What the transform of distances depends on: the sum of two radii."""
        return self._radii[r] + self._radii[s]

    def _hidden_coefficients(self, part: int, r: int, s: int) -> Tensor:
        """(rows, functions): of layer i the hidden ones (part 2 i) or the density (part 2 i + 1)."""
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
        return self._hidden[key].split(self._widths, dim=1)[part]


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


class _Combinations:
    """The functions of a layer as combinations of the hidden ones: what follows in the network, as one matrix."""

    def __init__(self, model: MACE) -> None:
        first, self._channels = model.all_layers[0], model.config.channels
        last = [list(layer.radial.weights)[-1] for layer in model.all_layers]
        self._last = [w / math.sqrt(len(w)) for w in last]
        scale = (1.0 if first.density is not None else 1 / model.config.avg_num_neighbors) / math.sqrt(self._channels)
        self._maps = torch.stack(list(first.linear.weights)) * scale  # (degrees, channels, channels)
        self._skip = None if first.residual else torch.stack(list(first.skip.weights))
        self._skip_scale = 1 / math.sqrt(len(model.elements) * self._channels)
        self._features = first.linear_up((model.embedding[:, None],))[:, 0]  # (elements, channels)

    def matrix(self, i: int, r: int, s: int) -> Tensor:
        """(hidden, paths * channels): the last matrix of layer i; in the first layer times all that follows."""
        if i > 0:
            return self._last[i]
        maps = self._maps if self._skip is None else self._maps @ self._skip[:, r] * self._skip_scale
        sent = self._last[0].unflatten(1, (-1, self._channels)) * self._features[s]  # (hidden, degrees, channels)
        return (sent.movedim(0, 1) @ maps).movedim(1, 0).flatten(1)
