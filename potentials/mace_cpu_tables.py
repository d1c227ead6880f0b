"""The radial functions of a MACE as tables, for its CPU program.

A kind is an ordered pair of elements (receiver, sender). Kinds share a table unless the functions differ: by the Agnesi
transform, whose distances depend on both elements, and in the first layer, where the features of a neighbour depend on
its element alone, so that embedding and linear maps (of the receiver too, without residual) go into the functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.ops.tabulated_convolution_cpu import RadialRows
from atomsml.potentials.mace import MACE
from atomsml.radial_table import RadialTable, tabulate

# of the largest value and the largest slope of a table
TOLERANCES = {torch.float32: 5e-7, torch.float64: 1e-8}
FEWEST_PIECES = 128  # most networks need more, and finding out that fewer are too few takes time


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


Function = Callable[[Tensor], Tensor]  # distances (points,) -> (1, points, functions)


def tabulate_model(model: MACE, species: list[int], dtype: torch.dtype) -> tuple[list[Tables], list[Tables | None]]:
    """Radial functions of every layer, and its densities where it has some, all in equally many pieces.

    The model is float64; species are those of its elements that occur.

    Raises:
        ValueError: the functions are not smooth enough for tables.
    """
    kinds = [(r, s) for r in species for s in species]
    groups: list[tuple[list[Function], list[int]]] = []
    for i, layer in enumerate(model.layers):
        groups.append(_distinct(model, kinds, i == 0, i == 0 and not layer.residual, _radial_function(model, i)))
        if layer.density is not None:
            groups.append(_distinct(model, kinds, False, False, _density_function(model, i)))
    found: list[list[RadialTable]] = []
    pieces = FEWEST_PIECES
    for functions, _ in groups:
        found.append([])
        for function in functions:
            found[-1].append(tabulate(function, model.cutoff, TOLERANCES[dtype], pieces))
            pieces = found[-1][-1].pieces  # as fine as those before at least
    tables = iter(
        [
            Tables(
                [_with_pieces(t, f, TOLERANCES[dtype], pieces) for t, f in zip(made, functions, strict=True)], of_kind
            )
            for made, (functions, of_kind) in zip(found, groups, strict=True)
        ]
    )
    radial: list[Tables] = []
    density: list[Tables | None] = []
    for layer in model.layers:
        radial.append(next(tables))
        density.append(None if layer.density is None else next(tables))
    return radial, density


def _with_pieces(table: RadialTable, function: Function, tolerance: float, pieces: int) -> RadialTable:
    return table if table.pieces == pieces else tabulate(function, table.cutoff, tolerance, pieces)


def _distinct(
    model: MACE,
    kinds: list[tuple[int, int]],
    by_sender: bool,
    by_receiver: bool,
    function: Callable[[int, int], Function],
) -> tuple[list[Function], list[int]]:
    """Functions of the kinds that differ, and which of them belongs to every kind."""
    keys: dict[tuple[int, ...], int] = {}
    functions, of_kind = [], []
    for r, s in kinds:
        distances = (min(r, s), max(r, s)) if model.radial_basis.agnesi is not None else ()
        key = (*distances, s * by_sender, r * by_receiver)
        if key not in keys:
            keys[key] = len(functions)
            functions.append(function(r, s))
        of_kind.append(keys[key])
    return functions, of_kind


def _basis(model: MACE, r: int, s: int) -> Function:
    receiver, sender = (torch.tensor(model.elements[x]) for x in (r, s))
    return lambda x: model.radial_basis(x, sender.expand(len(x)), receiver.expand(len(x)))


def _radial_function(model: MACE, i: int) -> Callable[[int, int], Function]:
    """Receiver, sender -> radial functions of layer i, (1, points, paths * channels)."""
    layer, c = model.layers[i], model.config.channels

    def of_kind(r: int, s: int) -> Function:
        basis = _basis(model, r, s)
        if i > 0:
            return lambda x: layer.radial(basis(x))[None]
        scale = (1.0 if layer.density is not None else 1 / model.config.avg_num_neighbors) / math.sqrt(c)
        maps = torch.stack(list(layer.linear.weights)) * scale  # (degrees, channels, channels)
        if not layer.residual:
            maps = maps @ torch.stack([w[r] for w in layer.skip.weights]) / math.sqrt(len(model.elements) * c)
        features = layer.linear_up(model.embedding[s][None, None].split(1))[0, 0]
        maps = features[:, None] * maps
        return lambda x: torch.einsum("xlc,lcd->xld", layer.radial(basis(x)).unflatten(1, (-1, c)), maps).flatten(1)[
            None
        ]

    return of_kind


def _density_function(model: MACE, i: int) -> Callable[[int, int], Function]:
    """Receiver, sender -> an edge's share in the density of layer i, (1, points, 1)."""

    def of_kind(r: int, s: int) -> Function:
        basis = _basis(model, r, s)
        return lambda x: torch.tanh(model.layers[i].density(basis(x)) ** 2)[None]

    return of_kind
