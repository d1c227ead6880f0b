"""The tabulated convolution where the number of channels falls with the degree: one for each slice of channels.

Slices are those of ops/graded_convolution/: channels that end at the same degree. Each of them has features, radial
functions and sums of its own, with channels of zeros that fill its last vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from atomsml.codegen.machine import whole
from atomsml.ops.graded_convolution import GradedTable
from atomsml.programs.edges import EdgeArrays
from atomsml.programs.plan import Array, Count, Plan
from atomsml.programs.tabulated_convolution import RadialRows, TabulatedConvolution


class GradedConvolution:
    """Kernels for one table of graded paths.

    Args:
        with_features: False in a first layer, whose features are part of the radial functions.
    """

    def __init__(self, table: GradedTable, dtype: torch.dtype, with_features: bool) -> None:
        self.table, self.dtype, self.with_features = table, dtype, with_features
        self.widths = [whole(piece.width, dtype) for piece in table.slices]
        self._kernels = [
            TabulatedConvolution(piece.table, width, dtype, with_features)
            for piece, width in zip(table.slices, self.widths, strict=True)
        ]

    def scratch_size(self, most_neighbors: int) -> int:
        return max(kernels.scratch_size(most_neighbors) for kernels in self._kernels)

    def feature_shapes(self) -> list[tuple[int, int]]:
        """Of one atom: (components, channels) of each slice."""
        return [(piece.table.dim_in, width) for piece, width in zip(self.table.slices, self.widths, strict=True)]

    def sum_shapes(self) -> list[list[tuple[int, int]]]:
        """Of one atom: (2 l3 + 1, channels) of each slice and l3; all l3 in one array where there are no features."""
        pieces = list(zip(self.table.slices, self.widths, strict=True))
        if not self.with_features:
            return [[(piece.table.dim_harmonics, width)] for piece, width in pieces]
        return [
            [(2 * l3 + 1, len(paths) * width) for l3, paths in piece.table.by_degree.items()] for piece, width in pieces
        ]

    def rows(self, coefficients: Tensor, table_of_kind: Tensor) -> list[RadialRows]:
        """Tables (tables, rows, num_weights) as the kernels read them."""
        of_slices = coefficients.split([piece.num_weights for piece in self.table.slices], dim=2)
        found = []
        for piece, width, mine in zip(self.table.slices, self.widths, of_slices, strict=True):
            paths = len(piece.table.paths)
            padded = pad(mine.unflatten(2, (paths, -1)), (0, width - piece.width)).flatten(2)
            found.append(RadialRows.from_coefficients(padded, table_of_kind, paths, self.dtype))
        return found

    def split_rows(self, weights: Sequence[Tensor]) -> list[list[Tensor]]:
        """Rows of matrices that map all sums, (channels of l3, columns) for each l3: those of each slice."""
        remaining, found = list(weights), []
        for piece, width in zip(self.table.slices, self.widths, strict=True):
            mine = []
            for l3, paths in piece.table.by_degree.items():
                rows, remaining[l3] = remaining[l3].tensor_split([len(paths) * piece.width])
                filled = pad(rows.unflatten(0, (len(paths), -1)), (0, 0, 0, width - piece.width))
                mine.append(filled.flatten(0, 1))
            found.append(mine)
        return found

    def forward(
        self,
        plan: Plan,
        edges: EdgeArrays,
        radial: Sequence[RadialRows],
        h: Sequence[Array],
        sums: Sequence[Sequence[Array]],
        scratch: Tensor,
        first: int | Count,
        last: int | Count,
    ) -> None:
        """sums: for each slice and l3 an array whose first row is slot `first`."""
        for kernels, rows, features, out in zip(self._kernels, radial, h, sums, strict=True):
            kernels.forward(plan, edges, rows, features, out, scratch, first, last)

    def backward(
        self,
        plan: Plan,
        edges: EdgeArrays,
        radial: Sequence[RadialRows],
        h: Sequence[Array],
        g: Sequence[Sequence[Array]],
        grad_h: Sequence[Array],
        scratch: Tensor,
        first: int | Count,
        last: int | Count,
    ) -> None:
        """Adds to edges.gradient and, at the senders, to grad_h."""
        for kernels, rows, features, by_sums, total in zip(self._kernels, radial, h, g, grad_h, strict=True):
            kernels.backward(plan, edges, rows, features, by_sums, total, scratch, first, last)
