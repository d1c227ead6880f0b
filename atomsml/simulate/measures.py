"""How a matrix of nine numbers says by what a cell is deformed: MEASURES, by the names that settings take."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from atomsml.codegen.checks import address
from atomsml.codegen.loops import Floats, compiled


class Measure(ABC):
    """The matrix that is varied, and the deformation D that it stands for."""

    start: Tensor  # (3, 3) of the undeformed cell

    @abstractmethod
    def deformation(self, matrix: Tensor) -> Tensor:
        """(systems, 3, 3) D."""

    @abstractmethod
    def along(self, matrix: Tensor, deformation: Tensor, gradient: Tensor) -> Tensor:
        """The gradient with respect to the matrix, whose deformation is D, from that with respect to D^T."""


class Frechet(Measure):
    """The matrix is L = log D^T: strains add up, det D = exp(tr L), and what a cell resists is alike at any size.

    Along L the gradient is the adjoint of the Frechet derivative of exp, which is the upper right block of
    exp [[L^T, G], [0, L^T]] (Higham, Functions of Matrices, SIAM 2008, eq. 3.16). L itself is what is remembered, so
    that no logarithm has to be taken.

    On a CPU both are series of products of small matrices, which torch's exponential takes many times as long for.
    """

    start = torch.zeros(3, 3, dtype=torch.float64)

    def deformation(self, matrix: Tensor) -> Tensor:
        if matrix.device.type != "cpu":
            return torch.linalg.matrix_exp(matrix).mT
        arrays = [matrix.mT.contiguous(), *matrix.new_empty(3, *matrix.shape)]
        exponentials(*(address(x) for x in arrays), len(matrix))
        return arrays[1]

    def along(self, matrix: Tensor, deformation: Tensor, gradient: Tensor) -> Tensor:
        if matrix.device.type != "cpu":
            size = torch.linalg.matrix_norm(gradient)[:, None, None].clamp(min=torch.finfo(gradient.dtype).tiny)
            across = torch.cat([matrix.mT, gradient / size], dim=2)
            below = torch.cat([torch.zeros_like(matrix), matrix.mT], dim=2)
            return size * torch.linalg.matrix_exp(torch.cat([across, below], dim=1))[:, :3, 3:]
        inputs = [x.contiguous() for x in (matrix.mT, deformation, gradient)]
        arrays = [*inputs, *matrix.new_empty(4, *matrix.shape)]
        derivatives(*(address(x) for x in arrays), len(matrix))
        return arrays[3]


class Deformation(Measure):
    """The matrix is D^T itself (Tadmor et al., Phys. Rev. B 59, 235 (1999))."""

    start = torch.eye(3, dtype=torch.float64)

    def deformation(self, matrix: Tensor) -> Tensor:
        return matrix.mT

    def along(self, matrix: Tensor, deformation: Tensor, gradient: Tensor) -> Tensor:
        return gradient


MEASURES: dict[str, Measure] = {"frechet": Frechet(), "deformation": Deformation()}

TERMS = 12  # of the exponential of a matrix whose rows sum to less than 1/4: the next one is below 1e-17
SQUARINGS = 40  # at most


@compiled
def exponentials(matrices: Floats, found: Floats, left: Floats, right: Floats, systems: int) -> None:
    """exp A = (exp A / 2^n)^(2^n), of A / 2^n by Taylor's series; `left` and `right` are memory of the same size."""
    for s in range(systems):
        factor, squarings = 1.0, 0
        while squarings < SQUARINGS and factor * largest(matrices, s) > 1.0 / 12.0:
            factor, squarings = 0.5 * factor, squarings + 1
        for n in range(9 * s, 9 * s + 9):
            left[n] = factor * matrices[n]
            right[n] = 1.0 if (n - 9 * s) % 4 == 0 else 0.0
        for k in range(TERMS):
            multiply(left, right, s, found)
            for n in range(9 * s, 9 * s + 9):
                right[n] = (1.0 if (n - 9 * s) % 4 == 0 else 0.0) + found[n] / (TERMS - k)
        for n in range(9 * s, 9 * s + 9):
            found[n] = right[n]
        for _ in range(squarings):
            for n in range(9 * s, 9 * s + 9):
                left[n] = found[n]
                right[n] = found[n]
            multiply(left, right, s, found)


@compiled
def derivatives(
    matrices: Floats,
    exponential: Floats,
    along: Floats,
    found: Floats,
    term: Floats,
    product: Floats,
    total: Floats,
    systems: int,
) -> None:
    """exp A (G - [A, G] / 2! + [A, [A, G]] / 3! - ...), the derivative of exp A along G, until no term counts.

    Rossmann, Lie Groups (Oxford 2002), section 1.2; the last three arrays are memory.
    """
    for s in range(systems):
        for n in range(9 * s, 9 * s + 9):
            term[n] = along[n]
            total[n] = along[n]
        k = 1
        while k < 100 and largest(term, s) > 1e-18 * largest(total, s):
            multiply(matrices, term, s, product)
            multiply(term, matrices, s, found)
            k += 1
            for n in range(9 * s, 9 * s + 9):
                term[n] = (found[n] - product[n]) / k
                total[n] += term[n]
        multiply(exponential, total, s, found)


@compiled
def multiply(left: Floats, right: Floats, s: int, found: Floats) -> None:
    """Of matrices 3 x 3."""
    for i in range(3):
        for j in range(3):
            x = 0.0
            for k in range(3):
                x += left[9 * s + 3 * i + k] * right[9 * s + 3 * k + j]
            found[9 * s + 3 * i + j] = x


@compiled
def largest(matrices: Floats, s: int) -> float:
    """Of the absolute values of a matrix."""
    found = 0.0
    for n in range(9 * s, 9 * s + 9):
        found = max(found, abs(matrices[n]))
    return found
