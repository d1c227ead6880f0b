"""The graded convolution of features that have both parities of each degree.

Tensors of natural parity change by (-1)^l under inversion, as spherical harmonics do; pseudotensors by -(-1)^l. A path
(l1, l2, l3) of even l1 + l2 + l3 keeps the kind of a feature; one of odd sum, such as a cross product, makes a
pseudotensor of a natural one and the reverse. Both kinds are convolved by all their paths, and the results sorted.

| symbol | blocks |
|---|---|
| h | natural l = 0, 1, ...; then, where there are some, pseudotensors of l = 1, 2, ... and last pseudoscalars |
| out | in the same order; in a block first what came from natural features, then what came from pseudotensors |

What no path has reached yet stands at the end: the first layer of a network makes natural features of its scalars, the
second adds pseudotensors, the third pseudoscalars, which only a pseudotensor and a harmonic of its degree make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from atomsml.ops.convolution import Edges, Path
from atomsml.ops.graded_convolution.operation import GradedTable, graded_convolve, graded_table

Piece = tuple[int, int, int]
"""Some channels of one l3: whether pseudotensors gave them, the first of them, their number."""


@dataclass(frozen=True)
class ParityTable:
    """The paths of both kinds of features; `pseudo` is None where no path begins at pseudotensors."""

    channels: tuple[int, ...]  # of each block that goes in
    natural: GradedTable
    pseudo: GradedTable | None

    @property
    def kinds(self) -> tuple[GradedTable, ...]:
        return (self.natural,) if self.pseudo is None else (self.natural, self.pseudo)

    @property
    def num_weights(self) -> int:
        """Those of natural features come first."""
        return sum(table.num_weights for table in self.kinds)

    @property
    def channels_out(self) -> tuple[int, ...]:
        """Number of channels of each block that comes out."""
        return tuple(sum(width for _, _, width in pieces) for _, pieces in self.blocks_out)

    @cached_property
    def blocks_out(self) -> tuple[tuple[int, tuple[Piece, ...]], ...]:
        """Of each block that comes out its l3, and the pieces of which it is made."""
        degrees = range(len(self.natural.channels_out))
        found: dict[tuple[bool, int], list[Piece]] = {(kind, l3): [] for kind in (False, True) for l3 in degrees}
        for begin, table in enumerate(self.kinds):
            columns = [0] * len(degrees)
            for piece in table.slices:
                for path in piece.table.paths:
                    is_pseudo = (sum(path) + begin) % 2 == 1
                    found[is_pseudo, path[2]].append((begin, columns[path[2]], piece.width))
                    columns[path[2]] += piece.width
        order = [*((False, l3) for l3 in degrees), *((True, l3) for l3 in degrees[1:]), (True, 0)]
        return tuple((l3, tuple(found[kind, l3])) for kind, l3 in order if found[kind, l3])

    def weight_columns(self, begin: int, path: Path) -> list[int]:
        """Where the weights of a path stand, from natural features (`begin` 0) or from pseudotensors (1)."""
        first = sum(table.num_weights for table in self.kinds[:begin])
        return [first + column for column in self.kinds[begin].weight_columns(path)]

    def out_columns(self, begin: int, path: Path) -> list[int]:
        """Where the channels of such a path stand in the block at which it ends."""
        wanted = self.kinds[begin].out_columns(path)
        for l3, pieces in self.blocks_out:
            columns = [(k, start + i) for k, start, width in pieces for i in range(width)]
            place = {column: i for i, column in enumerate(columns)}
            if l3 == path[2] and (begin, wanted[0]) in place:
                return [place[begin, column] for column in wanted]
        raise LookupError(f"there is no path {path}")


@lru_cache
def parity_table(natural: tuple[int, ...], pseudo: tuple[int, ...], lmax: int, lmax_out: int) -> ParityTable:
    """All paths from features with natural[l] and pseudo[l - 1] channels; last in `pseudo` the pseudoscalars, if any.

    Raises:
        ValueError: what `graded_table` refuses.
    """
    of_natural = graded_table(natural, lmax, lmax_out, odd_paths=True)
    if not pseudo or lmax_out == 0:  # no path leads from pseudotensors to true scalars
        return ParityTable(natural, of_natural, None)
    has_scalars = len(pseudo) == len(natural)
    channels = (pseudo[-1], *pseudo[:-1]) if has_scalars else (pseudo[0], *pseudo)
    of_pseudo = graded_table(channels, lmax, lmax_out, odd_paths=True, lmin_in=0 if has_scalars else 1)
    return ParityTable((*natural, *pseudo), of_natural, of_pseudo)


def parity_convolve(
    blocks: Sequence[Tensor], harmonics: Tensor, weights: Tensor, edges: Edges, table: ParityTable
) -> list[Tensor]:
    """The convolution of the module docstring; arguments as of `graded_convolve`."""
    count = len(table.natural.channels)
    inputs = [blocks[:count]]
    if table.pseudo is not None:
        tensors, scalars = blocks[count : 2 * count - 1], blocks[2 * count - 1 :]
        # no path begins at pseudoscalars that are not there yet
        inputs.append([*(scalars or [torch.zeros_like(tensors[0][:, :1])]), *tensors])
    of_kinds = weights.split([kind.num_weights for kind in table.kinds], dim=1)
    found = [
        graded_convolve(h, harmonics, mine, edges, kind)
        for h, mine, kind in zip(inputs, of_kinds, table.kinds, strict=True)
    ]
    return [
        torch.cat([found[begin][l3][:, :, start : start + width] for begin, start, width in pieces], dim=2)
        for l3, pieces in table.blocks_out
    ]
