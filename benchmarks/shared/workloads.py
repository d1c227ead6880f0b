"""Models and structures on which programs are compared: the same ones in every interpreter, from their names alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import ase.build
import numpy as np
from ase import Atoms

AVG_NUM_NEIGHBORS = 28.0  # of silicon within 5 A
WATER_SPACING = 3.107  # A between molecules on a cubic grid: 0.997 g/cm3


@dataclass(frozen=True)
class Model:
    """MACE of 128 channels, lmax 3, correlation 3 and two layers, with random weights: the shapes of MACE-MP-0."""

    size: str  # "small": 128x0e, "medium": 128x0e + 128x1o
    cutoff: float  # A
    elements: tuple[int, ...] = (8, 14)

    @property
    def hidden_lmax(self) -> int:
        return {"small": 0, "medium": 1}[self.size]

    @property
    def name(self) -> str:
        return f"{self.size}, r {self.cutoff:g}"

    @property
    def file(self) -> str:
        many = len(self.elements) > 8
        elements = [f"{self.elements[0]}to{self.elements[-1]}"] if many else map(str, self.elements)
        return "-".join([self.size, f"{self.cutoff:g}", *elements]) + ".model"


SMALL, MEDIUM, WIDE = Model("small", 5.0), Model("medium", 5.0), Model("medium", 6.0)
ORGANIC = replace(SMALL, elements=(1, 6, 7, 8, 9, 16, 17, 35))
ELEMENTS = (*range(1, 84), *range(89, 95))  # the 89 of the published universal models
UNIVERSAL = replace(SMALL, elements=ELEMENTS)


@dataclass(frozen=True)
class Structure:
    """Systems that are evaluated together: `kind` is "silicon", "water" or "ethanol"."""

    kind: str
    repeat: int = 1  # of silicon's cubic cell of 8 atoms or of a molecule of water, along each axis
    copies: int = 1  # systems

    @property
    def elements(self) -> tuple[int, ...]:
        return {"silicon": (8, 14), "water": (1, 8), "ethanol": (1, 6, 8)}[self.kind]

    @property
    def atoms(self) -> int:
        return self.copies * {"silicon": 8, "water": 3, "ethanol": 9}[self.kind] * self.repeat**3

    @property
    def name(self) -> str:
        return f"{self.copies} x {self.kind}" if self.copies > 1 else self.kind

    def systems(self) -> list[Atoms]:
        """Every atom is displaced at random by 0.05 A along each axis, in each copy differently.

        Coordinates are numbers that float32 can hold, so that both precisions compute the same structure.
        """
        rng = np.random.default_rng(0)
        clean = {"silicon": self._silicon, "water": self._water, "ethanol": self._ethanol}[self.kind]()
        systems = [clean.copy() for _ in range(self.copies)]
        for atoms in systems:
            atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
            atoms.positions = atoms.positions.astype(np.float32)
            atoms.cell = atoms.cell.array.astype(np.float32)
        return systems

    def _silicon(self) -> Atoms:
        return ase.build.bulk("Si", cubic=True).repeat(self.repeat)

    def _ethanol(self) -> Atoms:
        return ase.build.molecule("CH3CH2OH")

    def _water(self) -> Atoms:
        """Molecules on a grid, each turned at random."""
        rng = np.random.default_rng(1)
        box = Atoms(cell=np.eye(3) * WATER_SPACING * self.repeat, pbc=True)
        for place in np.ndindex((self.repeat,) * 3):
            molecule = ase.build.molecule("H2O")
            molecule.euler_rotate(*rng.uniform(0, 360, 3))
            molecule.translate(np.array(place) * WATER_SPACING)
            box += molecule
        return box


SILICON = tuple(Structure("silicon", n) for n in (1, 2, 4, 8, 12, 20))  # 8, 64, 512, 4096, 13824, 64000 atoms
OTHERS = (Structure("water", 4), Structure("water", 8), Structure("ethanol"), Structure("ethanol", copies=64))
WATER, ETHANOL = OTHERS[0], OTHERS[2]
MODELS: dict[Model, Structure] = {  # and what forces of 1 eV/A are made of
    SMALL: SILICON[1],
    MEDIUM: SILICON[1],
    WIDE: SILICON[1],
    **{replace(model, elements=x.elements): x for model in (SMALL, MEDIUM) for x in (WATER, ETHANOL)},
    ORGANIC: ETHANOL,
    UNIVERSAL: SILICON[1],
}
