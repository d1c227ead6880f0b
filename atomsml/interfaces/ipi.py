"""Potentials in i-PI: a driver in the process of i-PI that answers all beads of a ring polymer as one batch.

i-PI has atomic units, and cells whose columns are the vectors; a model has A and eV, and rows.
`atomsml.interfaces.ipi_driver` is the file that i-PI loads, `forcefield_xml` writes the part of its input that says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import ase
import numpy as np
import torch
from numpy.typing import NDArray

from atomsml.interfaces.ase import AtomsMLCalculator
from atomsml.interfaces.models import Model as Potentials
from atomsml.io import read
from atomsml.potential import Prediction, finite
from atomsml.simulate.model import Model
from atomsml.simulate.state import State, place_of
from atomsml.units import BOHR, HARTREE

if find_spec("ipi") is None:
    raise ValueError('i-PI is not installed; run `pip install "atomsml[ipi]"`')

from ipi.pes.dummy import Dummy_driver

Answer = tuple[float, NDArray[np.float64], NDArray[np.float64], str]

DRIVER = Path(__file__).with_name("ipi_driver.py")  # what i-PI loads
RESERVED = ",{}"  # what i-PI's parameters cannot hold in a value


def forcefield_xml(
    model: str | Path,
    template: str | Path,
    beads: int = 1,
    *,
    name: str = "atomsml",
    device: str = "auto",
    precision: str = "mixed",
    d3: str | None = None,
) -> str:
    """The <ffdirect> element of an input of i-PI, for as many beads, which are answered as one batch.

        >>> from atomsml.interfaces.ipi import forcefield_xml
        >>> print(forcefield_xml("organic-xtb", "water.xyz", beads=32).splitlines()[0])
        <ffdirect name="atomsml">

    The driver is asked in the main thread of i-PI: in a thread of its own an error would leave i-PI waiting for ever.

    Args:
        model: a name or a model file.
        template: a structure file, whose elements are those of i-PI's atoms in their order. Where it has no periodic
            axes the cell of i-PI is ignored.
        beads: those of i-PI's <initialize nbeads=...>, or a divisor: i-PI waits for ever for a batch that stays short.
        name: by which the <force> elements of the input know it.

    Raises:
        ValueError: no beads; a value with characters that i-PI's parameters cannot hold.
    """
    if beads < 1:
        raise ValueError(f"beads must be at least 1, got {beads}")
    found = {"model": str(model), "template": str(template), "device": device, "precision": precision}
    found |= {} if d3 is None else {"d3": d3}
    for key, value in found.items():
        reserved = [x for x in RESERVED if x in value]
        if reserved:
            raise ValueError(f"{key} {value!r}: parameters of i-PI cannot hold {reserved[0]!r}; rename it")
    parameters = escape(", ".join(f"{key}: {value}" for key, value in found.items()))
    return f"""<ffdirect name={quoteattr(name)}>
  <pes> custom </pes>
  <pes_path> {escape(str(DRIVER))} </pes_path>
  <batch_size> {beads} </batch_size>
  <parameters> {{{parameters}}} </parameters>
</ffdirect>"""


class AtomsMLDriver(Dummy_driver):
    """What i-PI asks for energies, forces and virials, of one structure or of a list of them.

    A list is one batch, with one neighbour list that has a skin and serves several steps. The dipole (e A) of a
    molecule, where the model has charges, is among i-PI's extras.

    Args:
        model: a name, a model file or, in Python, a Potential.
        template: a structure file, whose elements are those of i-PI's atoms in their order. Where it has no periodic
            axes the cell of i-PI is ignored.
        device, precision, d3: as in `AtomsMLCalculator`.
        verbosity, verbose: given by i-PI; nothing is printed.

    Raises:
        ValueError: a template that cannot be read, or that the model was not made for; more or fewer atoms in i-PI.
        ImpossibleGeometry: atoms in one place, or numbers that are not finite.
    """

    def __init__(
        self,
        model: str | Path | Potentials,
        template: str | Path,
        device: str = "auto",
        precision: str = "mixed",
        d3: str | None = None,
        verbosity: str | None = None,
        verbose: bool = False,
    ) -> None:
        self._calculator = AtomsMLCalculator(model, device, precision, d3=d3)
        self._template = _read(template)
        self._calculator.check(self._template)
        self._model, self._state = Model.of(self._calculator), self._start(1)
        super().__init__(verbose=verbose)

    def _start(self, count: int) -> State:
        """The template as often."""
        return State.of([self._template] * count, place_of(self._calculator.device))

    def compute_structure(self, cell: NDArray[np.float64], pos: NDArray[np.float64]) -> Answer:
        """Energy (hartree), forces (atoms, 3) (hartree/bohr) and virial -dE/dstrain (3, 3) (hartree) of one."""
        return self._answer([cell], [pos])[0]

    def compute(self, cell: Any, pos: Any) -> Answer | list[Answer]:
        """The same; of lists, a list."""
        return self._answer(cell, pos) if isinstance(cell, list) else self.compute_structure(cell, pos)

    def _answer(self, cells: Sequence[NDArray[np.float64]], positions: Sequence[NDArray[np.float64]]) -> list[Answer]:
        atoms = len(self._template)
        wrong = [x for x in positions if x.size != 3 * atoms]
        if wrong:
            raise ValueError(f"the template has {atoms} atoms, i-PI {wrong[0].size // 3}; they must be the same")
        where = np.stack([x.reshape(-1, 3) for x in positions]) * BOHR
        if self._state.num_systems != len(where):
            self._state = self._start(len(where))
        state = self._state
        state.positions = torch.from_numpy(where.reshape(-1, 3)).to(state.positions)
        if self._template.pbc.any():
            state.cell = torch.from_numpy(np.stack([x.T for x in cells]) * BOHR).to(state.cell)
        found = finite(self._model(state, stress=True))
        energies, forces = state.energy.tolist(), state.forces.numpy(force=True).reshape(where.shape)
        virials = self._virials(where, forces)
        extras = _extras(found, len(where))
        answers = zip(energies, forces, virials, extras, strict=True)
        return [(e / HARTREE, f * (BOHR / HARTREE), v / HARTREE, extra) for e, f, v, extra in answers]

    def _virials(self, positions: NDArray[np.float64], forces: NDArray[np.float64]) -> NDArray[np.float64]:
        """(structures, 3, 3) -dE/dstrain, eV."""
        if not self._template.pbc.any():  # nothing but positions is strained
            return np.einsum("sai,saj->sij", positions, forces)
        volumes = self._state.cell.det().abs()[:, None, None]
        return (-volumes * self._state.stress).numpy(force=True)


def _read(template: str | Path) -> ase.Atoms:
    found = read(template)
    if len(found) != 1:
        raise ValueError(f"the template {template} has {len(found)} structures; give one, whose elements are i-PI's")
    found[0].set_constraint()  # which are i-PI's affair
    return found[0]


def _extras(found: Prediction, structures: int) -> list[str]:
    dipoles = found.system_data.get("dipole")
    if dipoles is None or not dipoles.isfinite().all():  # of periodic systems there are none
        return [""] * structures
    return [json.dumps({"dipole": each}) for each in dipoles.tolist()]
