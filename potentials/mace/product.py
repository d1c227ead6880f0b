"""The many-body basis B of MACE: products of the message A with itself, in two ways.

| product | what couples the factors | weights for each element and channel | cost for a given number of factors |
|---|---|---|---|
| `SymmetricContraction` | every coupling, by coefficients | one for each path | grows steeply with lmax |
| `GauntProduct` | multiplication on the sphere | one for each degree of each factor | a small power of lmax |

Multiplication on the sphere is one coupling among many: paths whose degrees, that of the result included, add up to an
odd number are not in it, and those that are have fixed proportions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atomsml.nn.linear import irrep_blocks
from atomsml.o3.s2_grid import all_components
from atomsml.ops.contraction import ContractionTable, coefficients_from_weights, contract
from atomsml.ops.grid_product import grid_product


class SymmetricContraction(nn.Module):
    """All symmetric couplings of up to `correlation` factors (Batatia et al., arXiv:2206.07697, eqs. 10 and 11)."""

    def __init__(self, num_elements: int, channels: int, lmax: int, correlation: int, lmax_out: int) -> None:
        super().__init__()
        self.table = ContractionTable(lmax, correlation, lmax_out)
        for k, (_, _, paths) in enumerate(self.table.paths):  # the names are those of the model files
            self.register_parameter(str(k), nn.Parameter(torch.randn(num_elements, paths, channels) / paths))

    def coefficients(self) -> Tensor:
        """(elements, terms, channels): the factor of each term of the table."""
        return coefficients_from_weights(list(self.parameters(recurse=False)), self.table)

    def forward(self, message: Tensor, species: Tensor) -> Tensor:
        """(atoms, (lmax + 1)^2, channels) -> (atoms, (lmax_out + 1)^2, channels)."""
        return contract(message, self.coefficients(), species, self.table)


class GauntProduct(nn.Module):
    """Gaunt tensor products (Luo et al., arXiv:2401.10216), on a grid on the sphere instead of by Fourier transforms.

        B = F_1 + F_1 F_2 + F_1 F_2 F_3 + ...,    (F_k)_lm = w_k,l A_lm

    with `correlation` factors F_k as functions on the sphere, scaled as `grid_product` says, and weights w for each
    element and channel. Degrees of B above lmax_out are dropped.
    """

    def __init__(self, num_elements: int, channels: int, lmax: int, correlation: int, lmax_out: int) -> None:
        super().__init__()
        self.lmax, self.components_out = lmax, (lmax_out + 1) ** 2
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(num_elements, lmax + 1, channels)) for _ in range(correlation)
        )

    def forward(self, message: Tensor, species: Tensor) -> Tensor:
        """(atoms, (lmax + 1)^2, channels) -> (atoms, (lmax_out + 1)^2, channels)."""
        return self.multiply(self.factors(message, species))[:, : self.components_out]

    def factors(self, message: Tensor, species: Tensor) -> list[Tensor]:
        """The F_k."""
        blocks = irrep_blocks(message, self.lmax)
        factors = []
        for weight in self.weights:
            by_degree = weight[species].split(1, dim=1)
            factors.append(torch.cat([w * x for w, x in zip(by_degree, blocks, strict=True)], dim=1))
        return factors

    def multiply(self, factors: list[Tensor]) -> Tensor:
        """F_1 + F_1 F_2 + ..., with as many components as the factors, or those up to lmax_out."""
        return grid_product(factors, all_components(self.lmax))


PRODUCTS = {"clebsch_gordan": SymmetricContraction, "gaunt": GauntProduct}
