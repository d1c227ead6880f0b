"""The weights of a MACE as its CPU program reads them: scaled, tabulated, packed, for the elements at hand.

All of it is algebra that keeps the function: factors go into weights, and the weights of the many-body products are
multiplied out for each element (ops/contraction/).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from atomsml.codegen.machine import lanes
from atomsml.ops.contraction import ContractionTable
from atomsml.potentials.mace.cpu_tables import tabulate_model
from atomsml.potentials.mace.model import MACE, MACELayer
from atomsml.potentials.mace.product import SymmetricContraction
from atomsml.programs.irrep_linear import Linear
from atomsml.programs.tabulated_convolution import RadialRows, TabulatedConvolution
from atomsml.radial.table import SplineGrid


@dataclass(frozen=True)
class LayerWeights:
    convolution: TabulatedConvolution
    radial: RadialRows
    density: RadialRows | None  # an edge's share in the density
    linear: Linear | None  # sums of all paths to the message; in the first layer part of the radial functions
    contraction: ContractionTable
    coefficients: Tensor  # (elements, terms, channels) of the contraction
    out: Linear
    skip: Linear | None  # a map for each element
    skip_constant: Tensor | None  # (elements, channels): what it comes to in the first layer
    up: Linear | None  # of the updated features, for the convolution of the next layer
    readout: Linear  # the energy in the first column; in the last layer the hidden channels
    energy_gradient: Tensor  # (elements, channels): that first column, for every element
    lmax_in: int
    lmax_out: int


@dataclass(frozen=True)
class MACEWeights:
    elements: tuple[int, ...]
    layers: tuple[LayerWeights, ...]
    last_readout: Tensor  # (hidden channels,)
    channels: int  # with those of zeros that fill the last vector
    grid: SplineGrid  # of all radial tables
    value_deviation: float  # of the tables, over the largest value of a table
    slope_deviation: float


def prepare(model: MACE, elements: tuple[int, ...], dtype: torch.dtype) -> MACEWeights:
    """Weights for atoms of these elements, ascending atomic numbers; the model is float64.

    Raises:
        ValueError: the radial functions are not smooth enough for tables.
    """
    species = [model.elements.index(z) for z in elements]
    radial, density = tabulate_model(model, species, dtype)
    every = [table for group in (*radial, *density) if group is not None for table in group.tables]
    packing = _Packing(model, species, dtype)
    layers = []
    with torch.no_grad():
        for i, layer in enumerate(model.all_layers):
            paths, dense = len(layer.table.paths), density[i]
            layers.append(
                packing.layer(
                    i,
                    radial[i].rows(paths, packing.channels, dtype),
                    None if dense is None else dense.rows(1, lanes(dtype), dtype),
                )
            )
        hidden = list(model.all_readouts[-1].weights)[1].squeeze(1)
    return MACEWeights(
        elements=elements,
        layers=tuple(layers),
        last_readout=packing.whole(hidden / math.sqrt(len(hidden)), packing.next_whole(len(hidden))),
        channels=packing.channels,
        grid=every[0].grid,
        value_deviation=max(table.value_deviation for table in every),
        slope_deviation=max(table.slope_deviation for table in every),
    )


class _Packing:
    """Weights scaled and filled up with zeros to whole vectors."""

    def __init__(self, model: MACE, species: list[int], dtype: torch.dtype) -> None:
        self.model, self.species, self.dtype = model, species, dtype
        self.channels = self.next_whole(model.config.channels)

    def layer(self, i: int, radial: RadialRows, density: RadialRows | None) -> LayerWeights:
        layer, last = self.model.all_layers[i], i == len(self.model.all_layers) - 1
        before, after = (layer.lmax_in + 1) ** 2, (layer.lmax_out + 1) ** 2
        skip, skip_constant = None, None
        if layer.residual:
            maps = [w[self.species] / math.sqrt(len(w) * w.shape[1]) for w in layer.skip.weights]
            if i == 0:
                features = self.model.embedding[self.species]
                skip_constant = self.whole(torch.einsum("sc,scd->sd", features, maps[0]), self.channels)
            else:
                skip = Linear.of([self._square(w) for w in maps], before, after, (True, True))
        up = None if last else self._scaled(self.model.all_layers[i + 1].linear_up.weights)
        product = cast(SymmetricContraction, layer.product)
        readout = self._readout(next(iter(self.model.all_readouts[i].weights)))
        return LayerWeights(
            convolution=TabulatedConvolution(layer.table, self.channels, self.dtype, with_features=i > 0),
            radial=radial,
            density=density,
            linear=Linear.of(self._message(layer), None, layer.table.dim_harmonics, (False, False)) if i > 0 else None,
            contraction=product.table,
            coefficients=self.whole(product.coefficients()[self.species], self.channels),
            out=Linear.of(self._scaled(layer.linear_out.weights), after, after, (False, False)),
            skip=skip,
            skip_constant=skip_constant,
            up=None if up is None else Linear.of(up, after, after, (False, True)),
            readout=Linear.of([readout], after, 1, (False, False)),
            energy_gradient=readout[:, 0].expand(len(self.species), -1).contiguous(),
            lmax_in=layer.lmax_in,
            lmax_out=layer.lmax_out,
        )

    def _message(self, layer: MACELayer) -> list[Tensor]:
        scale = 1.0 if layer.density is not None else 1 / self.model.config.avg_num_neighbors
        c = self.model.config.channels
        return [
            self._square((w * (scale / math.sqrt(len(w)))).unflatten(0, (-1, c))).flatten(0, 1)
            for w in layer.linear.weights
        ]

    def _scaled(self, weights: Iterable[Tensor]) -> list[Tensor]:
        return [self._square(w / math.sqrt(len(w))) for w in weights]

    def _readout(self, w: Tensor) -> Tensor:
        return self._rows(self.whole(w / math.sqrt(len(w)), self.next_whole(w.shape[1])))

    def _square(self, w: Tensor) -> Tensor:
        """(..., channels, channels)."""
        return self._rows(self.whole(w, self.channels))

    def _rows(self, w: Tensor) -> Tensor:
        return pad(w, (0, 0, 0, self.channels - w.shape[-2]))

    def whole(self, x: Tensor, size: int) -> Tensor:
        """Filled up along the last axis, in the type of the program."""
        return pad(x, (0, size - x.shape[-1])).to(self.dtype).contiguous()

    def next_whole(self, size: int) -> int:
        return math.ceil(size / lanes(self.dtype)) * lanes(self.dtype)
