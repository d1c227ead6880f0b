"""The radial functions of a NequIP as tables, for its CPU program.

They depend on the distance alone. In the first layer the features of a neighbour depend on its element alone, so that
embedding and linear map go into the functions: those have a table for each element. Where harmonics grow with the
distance, its power r^l goes into the functions too.

What is tabulated are the last hidden functions of the radial networks, or their products with each power: all others
are linear combinations of them, and so are the coefficients of their splines.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from atomsml.ops.activation import silu
from atomsml.potentials.nequip.model import NequIP, NequIPLayer
from atomsml.radial.table import SplineGrid, tabulate

# of the largest value and the largest slope of a table
TOLERANCES = {torch.float32: 5e-7, torch.float64: 1e-8}


class NequIPTables:
    """Coefficients of the radial functions of every layer.

    Args:
        model: float64.
        dtype: of the program that reads them.

    Raises:
        ValueError: the functions are not smooth enough for tables.
    """

    def __init__(self, model: NequIP, dtype: torch.dtype) -> None:
        self._model = model
        self._powers = range(model.config.lmax + 1 if model.config.harmonics == "solid" else 1)
        self.hidden = tabulate(self._hidden_functions, _grid(model), TOLERANCES[dtype])
        self.grid = self.hidden.grid

    def coefficients(self, i: int) -> Tensor:
        """(rows, num_weights) of layer i, whose features are not part of them."""
        layer, widths = self._model.all_layers[i], [len(_last(layer)) for layer in self._model.all_layers]
        of_powers = [
            x.split(widths, dim=1)[i] @ _last(layer) for x in self.hidden.coefficients[0].chunk(len(self._powers), 1)
        ]
        if len(of_powers) == 1:
            return of_powers[0]
        degrees = [path[1] for piece in layer.table.slices for path in piece.table.paths for _ in range(piece.width)]
        chosen = torch.tensor(degrees).expand(1, *of_powers[0].shape)
        return torch.stack(of_powers).gather(0, chosen)[0]

    def with_features(self, species: int) -> Tensor:
        """(rows, num_weights) of the first layer, for neighbours of one element."""
        layer = self._model.all_layers[0]
        features = layer.linear_in([self._model.embedding[species][None, None]])[0].flatten()
        return (self.coefficients(0).unflatten(1, (-1, len(features))) * features).flatten(1)

    def _hidden_functions(self, r: Tensor) -> Tensor:
        """(1, distances, functions) of all layers: what the last matrices of their radial networks map."""
        basis = self._model.radial_basis(r)
        functions = []
        for layer in self._model.all_layers:
            x = layer.basis(basis)
            for weight in list(layer.radial.weights)[:-1]:
                x = silu(x @ (weight / math.sqrt(len(weight))))
            functions.append(x)
        hidden = torch.cat(functions, dim=1)
        return torch.cat([hidden * (r**power)[:, None] for power in self._powers], dim=1)[None]


def _last(layer: NequIPLayer) -> Tensor:
    """(hidden, num_weights)."""
    weight = list(layer.radial.weights)[-1]
    return weight / math.sqrt(len(weight))


def _grid(model: NequIP) -> SplineGrid:
    """With breaks where XPLOR's envelope sets in, and at the knots of splines."""
    config = model.config
    knots = [config.cutoff * k / (config.num_splines - 3) for k in range(1, config.num_splines - 3)]
    if config.xplor_onset is None:
        return SplineGrid.even(config.cutoff, 64, tuple(knots))
    apart = [knot for knot in knots if abs(knot - config.xplor_onset) > 1e-6]
    onset = [config.xplor_onset] if config.xplor_onset > 0 else []
    return SplineGrid.even(config.cutoff, 64, tuple(sorted([*apart, *onset])), power=2)
