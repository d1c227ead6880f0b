"""The weights of a NequIP as its CPU program reads them: scaled, tabulated, packed, for elements as they occur.

All of it is algebra that keeps the function: factors go into weights, and the two matrices of the readout into one
vector. Channels of zeros fill the last vectors: of each slice where the convolution gathers and sums, of each degree
elsewhere, and of each kind of gates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from atomsml.codegen.machine import whole, whole_vectors
from atomsml.potentials.corrections.zbl_kernel import ZBLWeights
from atomsml.potentials.nequip.cpu_tables import NequIPTables
from atomsml.potentials.nequip.model import GradedLinear, NequIP, NequIPLayer
from atomsml.programs.graded_convolution import GradedConvolution
from atomsml.programs.growing_tables import SenderTables
from atomsml.programs.irrep_linear import Linear
from atomsml.programs.tabulated_convolution import RadialRows


@dataclass(frozen=True)
class LayerWeights:
    convolution: GradedConvolution
    radial: list[RadialRows]  # of each slice
    up: list[Linear]  # of features, for the convolution: to each slice; in the first layer part of the radial functions
    up_constants: list[Tensor]  # (elements, scalars) of each slice; empty if none are added
    out: list[Linear]  # sums of each slice to what the gate takes
    constants: list[Tensor]  # (elements, scalars) for the gate; of the first layer its self-connection, if any, is one
    kept: Linear | None  # the self-connection; in the first layer a constant
    channels: tuple[int, ...]  # of each degree after the gate

    def feature_shapes(self) -> list[tuple[int, int]]:
        """Of one atom: (2l + 1, channels) of each degree after the gate."""
        return [(2 * l + 1, c) for l, c in enumerate(self.channels)]

    def gate_shapes(self) -> list[tuple[int, int]]:
        """The same before the gate."""
        return [(1, sum(self.channels)), *self.feature_shapes()[1:]]


class NequIPWeights:
    """All weights; the tables of the first layer are made when an element first occurs.

    Args:
        model: float64.
        elements: atomic numbers for which there is room in any case.

    Raises:
        ValueError: the radial functions are not smooth enough for tables.
    """

    def __init__(self, model: NequIP, elements: tuple[int, ...], dtype: torch.dtype) -> None:
        self.tables = NequIPTables(model, dtype)
        self.grid, self.by_element = self.tables.grid, model.config.self_connection != "linear"
        packing = _Packing(model, self.tables, dtype)
        with torch.no_grad():
            self._first = packing.first_tables(len(elements))
            self.layers = tuple(packing.layer(i, self._first.rows) for i in range(len(model.layers)))
            self.readout, self.readout_constant = packing.readout()  # (channels,), and what comes on top
        config = model.config
        scales = model.element_scales.to(dtype) if config.element_scales else None
        self.element_scales = scales  # (elements,) of the model, where each has one
        # energies are multiplied by the scale of the model afterwards
        given = model.elements, config.cutoff, config.envelope_power, 1 / config.scale
        self.zbl = ZBLWeights.of_lammps(*given) if config.zbl else None

    @property
    def deviations(self) -> tuple[float, float]:
        """Of values and slopes of the tables, over the largest value and slope of a table."""
        return self.tables.hidden.value_deviation, self.tables.hidden.slope_deviation

    def prepare(self, elements: tuple[int, ...]) -> None:
        """Make ready what atoms of these elements need; see GrowingWeights."""
        self._first.prepare(elements)


class _Packing:
    """Weights scaled and filled up with zeros to whole vectors."""

    def __init__(self, model: NequIP, tables: NequIPTables, dtype: torch.dtype) -> None:
        self._model, self._tables, self._dtype = model, tables, dtype

    def first_tables(self, most: int) -> SenderTables:
        rows, table = self._tables.hidden.coefficients.shape[1], self._model.all_layers[0].table
        return SenderTables(self._model.elements, table, rows, most, self._dtype, self._tables.with_features)

    def layer(self, i: int, first: RadialRows) -> LayerWeights:
        layer, model = self._model.all_layers[i], self._model
        convolution = GradedConvolution(layer.table, self._dtype, with_features=i > 0)
        kept, constants = self._kept(layer), self._constants(layer)
        if i == 0 and kept:
            features = whole_vectors(model.embedding.to(self._dtype))[:, None]
            constants.append((features @ kept[0])[:, 0].contiguous())
        of_one_table = torch.zeros(len(model.elements) ** 2, dtype=torch.int64)
        return LayerWeights(
            convolution=convolution,
            radial=[first] if i == 0 else convolution.rows(self._tables.coefficients(i)[None], of_one_table),
            up=self._up(layer) if i > 0 else [],
            up_constants=self._up_constants(layer) if i > 0 else [],
            out=self._out(layer, convolution),
            constants=constants,
            kept=Linear.of(kept, None, None, (False, True)) if i > 0 else None,
            channels=tuple(whole(c, self._dtype) for c in layer.channels_out),
        )

    def readout(self) -> tuple[Tensor, float]:
        first, *last = (cast(GradedLinear, linear) for linear in self._model.readout)
        vector = first.matrices()[0][0]
        constant = vector.new_zeros(vector.shape[1]) if first.bias is None else first.bias
        for linear in last:
            (following,) = linear.matrices()[0]
            vector, constant = vector @ following, constant @ following
        return whole_vectors(vector.flatten().to(self._dtype)), constant.item()

    def _kept(self, layer: NequIPLayer) -> list[Tensor]:
        """Of each degree; empty where a layer has no self-connection."""
        if layer.self_connection is None:
            return []
        matrices = layer.self_connection.matrices(self._model.embedding if layer.mixed else None)
        weights = [w if self._model.config.self_connection != "linear" else w[0] for w in matrices]
        return [self._to_gate(_whole_rows(w, self._dtype), layer, l) for l, w in enumerate(weights)]

    def _up(self, layer: NequIPLayer) -> list[Linear]:
        found: list[Linear] = []
        for piece in layer.table.slices:
            weights = [w[0, :, piece.start : piece.stop] for w in layer.linear_in.matrices()]
            mine = [whole_vectors(_whole_rows(w, self._dtype)) for w in weights[: piece.table.lmax_in + 1]]
            found.append(Linear.of(mine, None, piece.table.dim_in, (False, bool(found))))
        return found

    def _up_constants(self, layer: NequIPLayer) -> list[Tensor]:
        bias = layer.linear_in.bias
        return [] if bias is None else [self._rows(bias[piece.start : piece.stop]) for piece in layer.table.slices]

    def _constants(self, layer: NequIPLayer) -> list[Tensor]:
        bias = layer.linear_out.bias
        return [] if bias is None else [self._rows(self._to_gate(bias.to(self._dtype), layer, 0))]

    def _rows(self, bias: Tensor) -> Tensor:
        """The same for every element."""
        return whole_vectors(bias.to(self._dtype)).expand(len(self._model.elements), -1).contiguous()

    def _out(self, layer: NequIPLayer, convolution: GradedConvolution) -> list[Linear]:
        """Sums of slices one after the other; the rows of a matrix are in the same order."""
        found: list[Linear] = []
        weights = [w[0].to(self._dtype) / layer.divisor for w in layer.linear_out.matrices()]
        filled = convolution.split_rows([self._to_gate(w, layer, l3) for l3, w in enumerate(weights)])
        for piece, mine in zip(layer.table.slices, filled, strict=True):
            joined = None if convolution.with_features else piece.table.dim_harmonics
            accumulate = convolution.with_features or bool(found)  # to the self-connection, and to slices before
            found.append(Linear.of(mine, joined, None, (accumulate, False)))
        return found

    def _to_gate(self, w: Tensor, layer: NequIPLayer, l: int) -> Tensor:
        """Columns as the gate takes them: scalars and the gates of each degree, or a degree."""
        sizes = layer.channels_out if l == 0 else layer.channels_out[l : l + 1]
        return torch.cat([whole_vectors(part) for part in w.split(list(sizes), dim=-1)], dim=-1)


def _whole_rows(w: Tensor, dtype: torch.dtype) -> Tensor:
    """With rows of zeros for the channels that fill the last vector, in the type of the program."""
    return pad(w.to(dtype), (0, 0, 0, whole(w.shape[-2], dtype) - w.shape[-2]))
