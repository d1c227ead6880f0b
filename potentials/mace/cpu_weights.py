"""The weights of a MACE as its CPU program reads them: scaled, tabulated, packed, for elements as they occur.

All of it is algebra that keeps the function: factors go into weights, and the weights of the many-body products are
multiplied out for each element (ops/contraction/).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from atomsml.codegen.machine import lanes
from atomsml.ops.contraction import ContractionTable, coefficients_from_weights
from atomsml.potentials.mace.cpu_tables import MACETables
from atomsml.potentials.mace.model import MACE, MACELayer
from atomsml.potentials.mace.product import SymmetricContraction
from atomsml.programs.irrep_linear import Linear
from atomsml.programs.tabulated_convolution import RadialRows, TabulatedConvolution


@dataclass(frozen=True)
class LayerWeights:
    convolution: TabulatedConvolution
    radial: RadialRows
    density: RadialRows | None  # an edge's share in the density
    linear: Linear | None  # sums of all paths to the message; in the first layer part of the radial functions
    contraction: ContractionTable
    coefficients: Tensor  # (elements, terms, channels) of the contraction, of elements that have occurred
    out: Linear
    skip: Linear | None  # a map for each element
    skip_constant: Tensor | None  # (elements, channels): what it comes to in the first layer
    up: Linear | None  # of the updated features, for the convolution of the next layer
    readout: Linear  # the energy in the first column; in the last layer the hidden channels
    energy_gradient: Tensor  # (2, channels): that first column, and zeros for atoms whose energies do not count
    lmax_in: int
    lmax_out: int


class MACEWeights:
    """All weights; what only atoms of some elements need is made ready when the elements first occur.

    Args:
        model: float64.
        elements: atomic numbers for which there is room in any case.

    Raises:
        ValueError: the radial functions are not smooth enough for tables.
    """

    def __init__(self, model: MACE, elements: tuple[int, ...], dtype: torch.dtype) -> None:
        packing = _Packing(model, dtype)
        self.tables = MACETables(model, dtype, len(elements) ** 2)
        self.grid, self.channels = self.tables.grid, packing.channels
        self.cores = model.cores if model.config.core > 0 else None
        with torch.no_grad():
            self.layers = tuple(
                packing.layer(i, radial.rows, None if density is None else density.rows)
                for i, (radial, density) in enumerate(zip(self.tables.radial, self.tables.density, strict=True))
            )
            hidden = list(model.all_readouts[-1].weights)[1].squeeze(1)
        self.last_readout = packing.whole(hidden / math.sqrt(len(hidden)), packing.next_whole(len(hidden)))  # (hidden,)
        self._packing = packing
        self._species = {z: i for i, z in enumerate(model.elements)}
        self._ready: set[tuple[int, int]] = set()  # receiver, sender
        self._growing = threading.Lock()

    @property
    def deviations(self) -> tuple[float, float]:
        """Of values and slopes of the tables, over the largest value and slope of a table."""
        return self.tables.value_deviation, self.tables.slope_deviation

    def prepare(self, elements: tuple[int, ...]) -> None:
        """Make ready what atoms of these elements need together; see GrowingWeights."""
        species = [self._species[z] for z in elements]
        if self._ready.issuperset(product(species, species)):
            return
        with self._growing, torch.inference_mode(False):  # slopes of radial functions are found by autograd
            for s in species:
                if (s, s) not in self._ready:
                    for i, layer in enumerate(self.layers):
                        layer.coefficients[s] = self._packing.contraction(i, s)
            for pair in product(species, species):
                if pair not in self._ready:
                    self.tables.add(*pair)
            self._ready.update(product(species, species))


class _Packing:
    """Weights scaled and filled up with zeros to whole vectors."""

    def __init__(self, model: MACE, dtype: torch.dtype) -> None:
        self.model, self.dtype = model, dtype
        self.channels = self.next_whole(model.config.channels)
        products = [layer.product.parameters(recurse=False) for layer in model.all_layers]
        self.product_weights = [torch.cat(list(weights), dim=1) for weights in products]  # (elements, paths, channels)

    def layer(self, i: int, radial: RadialRows, density: RadialRows | None) -> LayerWeights:
        layer, last = self.model.all_layers[i], i == len(self.model.all_layers) - 1
        before, after = (layer.lmax_in + 1) ** 2, (layer.lmax_out + 1) ** 2
        skip, skip_constant = None, None
        if layer.residual:
            maps = [w / math.sqrt(len(w) * w.shape[1]) for w in layer.skip.weights]
            if i == 0:
                constant = torch.einsum("sc,scd->sd", self.model.embedding, maps[0])
                skip_constant = self.whole(constant, self.channels)
            else:
                skip = Linear.of([self._square(w) for w in maps], before, after, (True, True))
        up = None if last else self._scaled(self.model.all_layers[i + 1].linear_up.weights)
        contraction = cast(SymmetricContraction, layer.product).table
        readout = self._readout(next(iter(self.model.all_readouts[i].weights)))
        return LayerWeights(
            convolution=TabulatedConvolution(layer.table, self.channels, self.dtype, with_features=i > 0),
            radial=radial,
            density=density,
            linear=Linear.of(self._message(layer), None, layer.table.dim_harmonics, (False, False)) if i > 0 else None,
            contraction=contraction,
            coefficients=torch.empty(len(self.model.elements), len(contraction.index), self.channels, dtype=self.dtype),
            out=Linear.of(self._scaled(layer.linear_out.weights), after, after, (False, False)),
            skip=skip,
            skip_constant=skip_constant,
            up=None if up is None else Linear.of(up, after, after, (False, True)),
            readout=Linear.of([readout], after, 1, (False, False)),
            energy_gradient=torch.stack([readout[:, 0], torch.zeros_like(readout[:, 0])]),
            lmax_in=layer.lmax_in,
            lmax_out=layer.lmax_out,
        )

    def contraction(self, i: int, element: int) -> Tensor:
        """(terms, channels) of one element."""
        table = cast(SymmetricContraction, self.model.all_layers[i].product).table
        weights = self.product_weights[i][element, None]
        return self.whole(coefficients_from_weights([weights], table)[0], self.channels)

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
