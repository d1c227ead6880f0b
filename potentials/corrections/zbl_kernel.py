"""CPU kernel of the Ziegler-Biersack-Littmark repulsion (zbl.py), for programs without autograd.

With E(r) = C / r phi(r / a) f(r / R), C = k Z_i Z_j / 2 and R the sum of the two covalent radii, or one cutoff,

    dE/dr = C / r (phi' f / a + phi f' / R - phi f / r)

Edges are those of programs/edges.py; all of it runs in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from ase.data import covalent_radii
from torch import Tensor

from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.values import Value, total
from atomsml.potentials.corrections.zbl import (
    BOHR,
    COULOMB,
    EXPONENT,
    LAMMPS_COULOMB,
    LAMMPS_LENGTH,
    LAMMPS_SCREENING,
    SCREENING,
)
from atomsml.programs.edges import EdgeArrays
from atomsml.programs.plan import Count, Plan

Screening = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ZBLWeights:
    """Numbers of the elements of a model, float64."""

    elements: Tensor  # (elements, 3) charge, charge to the power of the exponent, its part of R in A
    constants: Tensor  # (2,) prefactor in A, and what the energy is multiplied with
    power: int  # of the envelope
    screening: Screening

    @staticmethod
    def of(elements: tuple[int, ...], power: int, exponent: float, prefactor: float, factor: float) -> ZBLWeights:
        charges, radii = torch.tensor(elements).double(), torch.from_numpy(covalent_radii)[list(elements)].double()
        rows = torch.stack([charges, charges**exponent, radii], dim=1)
        return ZBLWeights(rows, torch.tensor([prefactor * BOHR, factor], dtype=torch.float64), power, SCREENING)

    @staticmethod
    def of_lammps(elements: tuple[int, ...], cutoff: float, power: int, factor: float) -> ZBLWeights:
        """Of `lammps_zbl_energy`."""
        charges = torch.tensor(elements).double()
        rows = torch.stack([charges, charges**EXPONENT, torch.full_like(charges, cutoff / 2)], dim=1)
        constants = torch.tensor([LAMMPS_LENGTH, factor * LAMMPS_COULOMB / COULOMB], dtype=torch.float64)
        return ZBLWeights(rows, constants, power, LAMMPS_SCREENING)


def add_zbl(
    plan: Plan,
    edges: EdgeArrays,
    weights: ZBLWeights,
    species: Tensor,
    energies: Tensor,
    first: int | Count,
    last: int | Count,
    gradients: tuple[Tensor, Tensor] | None,
) -> None:
    """The energy of each slot from first to last - 1; species and energies (atoms,) are float64, by slot.

    With `gradients`, those of `edges.pull_back`, position_gradient and virial, it is added to what that has written.
    """
    given = [edges.begin, edges.end, edges.sender, species, weights.elements, weights.constants, edges.direction]
    kernel = _kernel(weights.power, weights.screening, gradients is not None)
    plan.add(kernel, [*given, energies, *([edges.force, *gradients] if gradients else [])], first, last)


@built_once
def _kernel(power: int, screening: Screening, gradients: bool) -> Kernel:
    indices = [f"{name}_index" for name in ("begin", "end", "sender", "species")]
    names = ["elements", "constants", "direction", "energy", *(["force", "gradient", "virial"] if gradients else [])]
    code = Code("zbl", [*indices, *(f"{name}_double" for name in names)], ["first", "last"], torch.float64)
    prefactor, factor = code["constants_double"].doubles(2)

    def atom(t: Value) -> None:
        charge, powered, radius = code["elements_double"].row(code["species_index"][t], 3).doubles(3)
        code["energy_double"][t] = code.double(0.0)

        def edge(e: Value) -> None:
            other = code["elements_double"].row(code["species_index"][code["sender_index"][e]], 3).doubles(3)
            *u, r = code["direction_double"].row(e, 4).doubles(4)
            reach = radius + other[2]
            with code.when(r < reach):
                energy, slope = _energy(code, r, reach, (powered + other[1]) / prefactor, power, screening)
                strength = factor * charge * other[0]
                code["energy_double"][t] = code["energy_double"][t] + strength * energy
                if gradients:
                    add_force(e, t, u, r, strength * slope)

        code.loop(code["begin_index"][t], code["end_index"][t], edge)

    def add_force(e: Value, t: Value, u: list[Value], r: Value, slope: Value) -> None:
        force = [slope * x for x in u]
        virial = [f * x * r for f in force for x in u]
        for name, row, sign, terms in (
            ("force", e, 1.0, force),
            ("gradient", t, -1.0, force),
            ("virial", t, 1.0, virial),
        ):
            place = code[f"{name}_double"].row(row, len(terms))
            place.fill([old + sign * x for old, x in zip(place.doubles(len(terms)), terms, strict=True)])

    code.loop(code.counts["first"], code.counts["last"], atom)
    return code.finish()


def _energy(
    code: Code, r: Value, reach: Value, inverse_length: Value, p: int, screening: Screening
) -> tuple[Value, Value]:
    """Of two charges of 1, and its derivative by r."""
    decays = [(weight, decay, (r * inverse_length * -decay).exp()) for weight, decay in screening]
    phi = total(weight * x for weight, _, x in decays)
    phi_slope = total(-weight * decay * x for weight, decay, x in decays) * inverse_length
    x = r / reach
    rest = 1.0 - x
    series = code.double(0.5 * p * (p + 1))  # as polynomial_envelope sums it up
    for k in range(p - 1, 0, -1):
        series = series * x + 0.5 * k * (k + 1)
    f = rest * rest * rest * series
    f_slope = prod([x] * (p - 1), start=rest * rest) * (-0.5 * p * (p + 1) * (p + 2)) / reach
    strength = 0.5 * COULOMB / r
    return strength * phi * f, strength * (phi_slope * f + phi * f_slope - phi * f / r)
