"""The full tensor product: Clebsch-Gordan coefficients, path by path."""

from functools import lru_cache
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from atomsml.nn.tensor_products.tensor_product import Paths, TensorProduct
from atomsml.o3.clebsch_gordan import clebsch_gordan


class ClebschGordanProduct(TensorProduct):
    """The sum over paths itself, with any weights.

    Coefficients are stored densely: they multiply as matrices, which runs many times as fast as one multiplication
    after the other for the fraction of them, a fifth at lmax 6, that is not zero.
    """

    def _multiply(self, x: Tensor, y: Tensor) -> Tensor:
        weights = self.weights.to(x)
        return self._one_channel(x, y, weights) if y.shape[2] == 1 else self._each_channel(x, y, weights)

    def _each_channel(self, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        """The products x_a y_b of all components of two degrees, then a matrix that couples them to every l3."""
        coupled: list[list[Tensor]] = [[] for _ in range(self.lmax + 1)]
        for (l1, l2), numbers, matrix in _tables_of_pairs(self.paths, x.dtype, x.device):
            pairs = x[:, l1 * l1 : (l1 + 1) ** 2, None] * y[:, None, l2 * l2 : (l2 + 1) ** 2]
            results = (matrix @ pairs.flatten(1, 2)).split([2 * self.paths[p][2] + 1 for p in numbers], dim=1)
            for p, result in zip(numbers, results, strict=True):
                coupled[self.paths[p][2]].append(result * weights[p])
        return torch.cat([sum(results[1:], results[0]) for results in coupled], dim=1)

    def _one_channel(self, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        """For each l3 the matrices that y makes of the coefficients, then their product with the weighted x."""
        results = []
        for table in _tables_of_degrees(self.lmax, self.paths, x.dtype, x.device):
            parts = [y[:, l2 * l2 : (l2 + 1) ** 2, 0] @ part for l2, part in table.coefficients]
            matrices = torch.cat([part.unflatten(1, (table.size, -1)) for part in parts], dim=2)
            results.append(matrices @ (x[:, table.rows] * weights[table.path_of_row]))
        return torch.cat(results, dim=1)


class _DegreeTable(NamedTuple):
    """All paths to one l3, ordered by l2; a row is a path and a component of x_l1."""

    size: int  # 2 l3 + 1
    coefficients: list[tuple[int, Tensor]]  # l2 and (2 l2 + 1, (2 l3 + 1) * rows)
    rows: Tensor  # component of x
    path_of_row: Tensor


@lru_cache
def _tables_of_degrees(lmax: int, paths: Paths, dtype: torch.dtype, device: torch.device) -> list[_DegreeTable]:
    tables = []
    for l3 in range(lmax + 1):
        numbers = sorted((p for p, path in enumerate(paths) if path[2] == l3), key=lambda p: paths[p][1])
        rows = [(a, p) for p in numbers for a in range(paths[p][0] ** 2, (paths[p][0] + 1) ** 2)]
        coefficients = []
        for l2 in sorted({paths[p][1] for p in numbers}):
            matrices = [_coefficients(paths[p]).permute(1, 2, 0) for p in numbers if paths[p][1] == l2]
            coefficients.append((l2, torch.cat(matrices, dim=2).flatten(1)))
        with torch.inference_mode(False):  # what is first asked for there must still serve later gradients
            components, path_of_row = torch.tensor(rows, device=device, dtype=torch.long).view(-1, 2).unbind(1)
            on_device = [(l2, part.to(device, dtype)) for l2, part in coefficients]
            tables.append(_DegreeTable(2 * l3 + 1, on_device, components, path_of_row))
    return tables


@lru_cache
def _tables_of_pairs(
    paths: Paths, dtype: torch.dtype, device: torch.device
) -> list[tuple[tuple[int, int], list[int], Tensor]]:
    """For each (l1, l2): its paths, and their coefficients (sum of 2 l3 + 1, (2 l1 + 1) (2 l2 + 1))."""
    tables = []
    for pair in sorted({path[:2] for path in paths}):
        numbers = [p for p, path in enumerate(paths) if path[:2] == pair]
        matrix = torch.cat([_coefficients(paths[p]).flatten(0, 1).T for p in numbers])
        with torch.inference_mode(False):
            tables.append((pair, numbers, matrix.to(device, dtype)))
    return tables


def _coefficients(path: tuple[int, int, int]) -> Tensor:
    return clebsch_gordan(*path) * sqrt(2 * path[2] + 1)
