"""The weights of a Facet as its CPU program reads them: scaled, tabulated, packed, for elements as they occur.

Features are kept as the slices of channels that the convolution gathers; so are the matrices that make them. What the
last layer makes are not features but the hidden channels of the readout, into whose matrix its own are multiplied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from atomsml.codegen.machine import whole, whole_vectors
from atomsml.potentials.facet.model import Facet
from atomsml.potentials.facet.product import ProductLayer
from atomsml.programs.graded_convolution import GradedConvolution
from atomsml.programs.growing_tables import SenderTables
from atomsml.programs.irrep_linear import Linear
from atomsml.programs.tabulated_convolution import RadialRows
from atomsml.radial.spline import spline_basis
from atomsml.radial.table import SplineGrid, tabulate

# of the largest value and the largest slope of a table: those of close pairs, ten times larger than of bonds
TOLERANCES = {torch.float32: 1e-7, torch.float64: 1e-9}


@dataclass(frozen=True)
class LayerWeights:
    """What a layer makes are the slices that the next one gathers, or in the last layer the hidden channels."""

    convolution: GradedConvolution
    radial: list[RadialRows]  # of each slice
    sums: list[Linear]  # of the convolution, for each slice, to the features v of the network on the sphere
    features: list[Linear]  # of each slice, to v; in the first layer a constant
    features_constant: Tensor | None  # (elements, channels)
    signals: tuple[Linear, Linear]  # of v
    scalars: Linear  # of the scalars of v, to those that SiLU acts on
    gates: Linear  # of these
    from_product: list[Linear]  # to what the layer makes
    from_scalars: list[Linear]
    residual: list[Linear]  # in the last layer, of slices; elsewhere features are added as they are
    residual_constants: list[Tensor]  # (elements, channels) in the first layer


class FacetWeights:
    """All weights; the tables of the first layer are made when an element first occurs.

    Args:
        model: float64.
        elements: atomic numbers for which there is room in any case.

    Raises:
        ValueError: the radial functions are not smooth enough for tables.
    """

    def __init__(self, model: Facet, elements: tuple[int, ...], dtype: torch.dtype) -> None:
        config, self._model = model.config, model
        intervals = config.num_splines - 3
        knots = tuple(config.cutoff * k / intervals for k in range(1, intervals))
        self._table = tabulate(
            lambda r: spline_basis(r, config.cutoff, config.num_splines, config.envelope_power)[None],
            SplineGrid.even(config.cutoff, 64, knots),
            TOLERANCES[dtype],
        )
        self.grid = self._table.grid
        self.deviations = self._table.value_deviation, self._table.slope_deviation
        table, rows = model.product_layers[0].table, self._table.coefficients.shape[1]
        self._first = SenderTables(model.elements, table, rows, len(elements), dtype, self._with_features)
        with torch.no_grad():
            packing = _Packing(model, dtype)
            self.layers = tuple(
                packing.layer(i, [self._first.rows] if i == 0 else self._rows(packing.convolution(i), i))
                for i in range(len(model.layers))
            )
            self.readout = packing.readout()  # (hidden channels,)

    def _coefficients(self, i: int) -> Tensor:
        """(rows, num_weights) of layer i."""
        layer = self._model.product_layers[i]
        return self._table.coefficients[0] @ (layer.splines * layer.scale)

    def _rows(self, convolution: GradedConvolution, i: int) -> list[RadialRows]:
        return convolution.rows(self._coefficients(i)[None], torch.zeros(len(self._model.elements) ** 2).long())

    def prepare(self, elements: tuple[int, ...]) -> None:
        """Make ready what atoms of these elements need; see GrowingWeights."""
        self._first.prepare(elements)

    def _with_features(self, species: int) -> Tensor:
        """(rows, num_weights) of the first layer, for neighbours of one element."""
        features = self._model.embedding[species]
        return (self._coefficients(0).unflatten(1, (-1, len(features))) * features).flatten(1)


class _Packing:
    """Weights scaled and filled up with zeros to whole vectors."""

    def __init__(self, model: Facet, dtype: torch.dtype) -> None:
        self._model, self._dtype = model, dtype
        self._components = (model.config.lmax + 1) ** 2

    def convolution(self, i: int) -> GradedConvolution:
        return GradedConvolution(self._model.product_layers[i].table, self._dtype, with_features=i > 0)

    def layer(self, i: int, radial: list[RadialRows]) -> LayerWeights:
        layer, convolution = self._model.product_layers[i], self.convolution(i)
        degrees, d, hidden = range(self._model.config.lmax + 1), self._components, layer.grid.hidden
        one, other = (self._both_whole(_scaled(w)) for w in layer.grid.signals.split(hidden, dim=1))
        first, second = (_scaled(w) for w in layer.grid.scalars.weights)
        from_product, from_scalars = self._to_made(i)
        embedding = self._model.embedding
        return LayerWeights(
            convolution=convolution,
            radial=radial,
            sums=self._sums(layer, convolution),
            features=self._features(layer) if i > 0 else [],
            features_constant=self._whole_columns(embedding @ _own(layer)[0]) if i == 0 else None,
            signals=(
                Linear.of([one for _ in degrees], d, d, (False, False)),
                Linear.of([other for _ in degrees], d, d, (False, True)),
            ),
            scalars=Linear.of([self._both_whole(first)], d, 1, (False, True)),
            gates=Linear.of([self._both_whole(second[:, -hidden:])], 1, 1, (False, False)),
            from_product=from_product,
            from_scalars=from_scalars,
            residual=self._to_readout(layer) if i > 0 and self._is_last(i) else [],
            residual_constants=[self._whole_columns(x) for x, _ in self._made(i, embedding)] if i == 0 else [],
        )

    def readout(self) -> Tensor:
        """(hidden channels,)."""
        return self._whole_columns(_scaled(list(self._model.readout.weights)[1])[:, 0])

    def _is_last(self, i: int) -> bool:
        return i == len(self._model.layers) - 1

    def _made(self, i: int, columns: Tensor) -> list[tuple[Tensor, int]]:
        """What becomes of the channels that layer i makes, (..., channels): for each array, and its highest degree.

        They are the slices that the next layer gathers, or the hidden channels of the readout.
        """
        if self._is_last(i):
            return [(columns @ self._first_readout(), 0)]
        pieces = self._model.product_layers[i + 1].table.slices
        return [(columns[:, piece.start : piece.stop], piece.table.lmax_in) for piece in pieces]

    def _to_made(self, i: int) -> tuple[list[Linear], list[Linear]]:
        """From the product on the sphere, and from the new scalars, which share the scalars of what is made."""
        grid, half = self._model.product_layers[i].grid, math.sqrt(0.5)
        scalars = _scaled(list(grid.scalars.weights)[1])[:, : -grid.hidden] * half
        from_product = []
        for matrix, lmax in self._made(i, grid.out / math.sqrt(grid.order * grid.hidden)):
            matrices = [self._both_whole(matrix * (half if l == 0 else 1.0)) for l in range(lmax + 1)]
            from_product.append(Linear.of(matrices, self._components, (lmax + 1) ** 2, (False, True)))
        from_scalars = [
            Linear.of([self._both_whole(matrix)], 1, (lmax + 1) ** 2, (True, True))
            for matrix, lmax in self._made(i, scalars)
        ]
        return from_product, from_scalars

    def _to_readout(self, layer: ProductLayer) -> list[Linear]:
        """From each slice of the features of the last layer."""
        matrix = self._first_readout()
        return [
            Linear.of([self._both_whole(matrix[p.start : p.stop])], p.table.dim_in, 1, (True, False))
            for p in layer.table.slices
        ]

    def _first_readout(self) -> Tensor:
        """(channels, hidden channels)."""
        return _scaled(next(iter(self._model.readout.weights)))

    def _sums(self, layer: ProductLayer, convolution: GradedConvolution) -> list[Linear]:
        """Of the matrices behind the convolution the rows of its sums, for each slice."""
        sizes = layer.table.channels_out
        rows = [self._whole_columns(_scaled(w)[:n]) for w, n in zip(layer.linear.weights, sizes, strict=True)]
        found: list[Linear] = []
        for piece, mine in zip(layer.table.slices, convolution.split_rows(rows), strict=True):
            joined = None if convolution.with_features else piece.table.dim_harmonics
            found.append(Linear.of(mine, joined, self._components, (bool(found), False)))
        return found

    def _features(self, layer: ProductLayer) -> list[Linear]:
        """The rows of the features, for each slice."""
        found = []
        for piece in layer.table.slices:
            mine = [self._both_whole(w[piece.start : piece.stop]) for w in _own(layer)[: piece.table.lmax_in + 1]]
            found.append(Linear.of(mine, piece.table.dim_in, self._components, (True, True)))
        return found

    def _both_whole(self, w: Tensor) -> Tensor:
        return pad(self._whole_columns(w), (0, 0, 0, whole(len(w), self._dtype) - len(w)))

    def _whole_columns(self, w: Tensor) -> Tensor:
        return whole_vectors(w.to(self._dtype))


def _scaled(w: Tensor) -> Tensor:
    return w.detach() / math.sqrt(len(w))


def _own(layer: ProductLayer) -> list[Tensor]:
    """For each degree the rows of the features, behind those of the sums."""
    return [_scaled(w)[n:] for w, n in zip(layer.linear.weights, layer.table.channels_out, strict=True)]
