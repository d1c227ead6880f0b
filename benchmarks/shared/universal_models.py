"""Universal potentials side by side: ours, converted files, and CHGNet in its own environment, all as ASE calculators.

What was found of a structure is kept as a line of JSON in a file of the model and the part. A run that was stopped goes
on after the last line, and one with another model adds that one alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ase
import numpy as np
import torch
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray

from atomsml import AtomicGraph, AtomsMLCalculator, evaluate, load
from atomsml.modelfile import model_hash
from atomsml.potential import Potential
from benchmarks.shared.peers import ROOT, Program

CHGNET = ROOT / ".venv-chgnet" / "bin" / "python"
MODELS = ("universal-small", "sevennet-0", "sevennet-l3i5", "chgnet")

Item = TypeVar("Item")
Record = dict[str, Any]  # of one structure
Rows = dict[str, str]  # what was measured -> its figure


class PeerCalculator(Calculator):  # type: ignore[misc]  # ASE has no types
    """CHGNet, asked through a pipe."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.program = Program([CHGNET, "-W", "ignore", "-m", "benchmarks.shared.peer_chgnet"], threads=1)
        self.seconds = 0.0  # CPU time of the last calculation, without the pipe

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        parts = {
            "numbers": self.atoms.numbers.tolist(),
            "positions": self.atoms.positions.tolist(),
            "cell": self.atoms.cell.array.tolist(),
            "pbc": self.atoms.pbc.tolist(),
        }
        found = self.program.ask(json.dumps(parts))
        if "error" in found:
            raise ValueError(f"chgnet: {found['error']}")
        self.seconds = found["seconds"]
        self.results = {"energy": found["energy"]} | {key: np.array(found[key]) for key in ("forces", "stress")}


class Model:
    """One of the potentials: `label` in tables, `key` in file names, and a calculator, made when it is needed."""

    def __init__(self, name: str) -> None:
        self.name, self.label = name, Path(name).stem
        # new weights under an old name are another model
        self.key = self.label if name == "chgnet" else f"{self.label}-{model_hash(name)[:8]}"
        self._calculator: Calculator | None = None
        self._potential: Potential | None = None

    @property
    def calculator(self) -> Calculator:
        if self._calculator is None:
            self._calculator = PeerCalculator() if self.name == "chgnet" else AtomsMLCalculator(self.name, "cpu")
        return self._calculator

    def energies(self, images: Sequence[ase.Atoms]) -> NDArray[np.float64]:
        """Energies, eV, of molecules, radicals too, which the calculator would refuse; in float64 but for CHGNet's."""
        if self.name == "chgnet":
            boxed = [ase.Atoms(atoms.numbers, atoms.positions + 10, cell=[20] * 3, pbc=True) for atoms in images]
            return np.array([single_point(self, atoms)[0] for atoms in boxed])
        if self._potential is None:
            self._potential = load(self.name).cast(torch.float64)
        graph = AtomicGraph.from_list([AtomicGraph.from_ase(atoms) for atoms in images])
        graph = graph.with_neighbors(self._potential.cutoff)
        return np.asarray(evaluate(self._potential, graph, forces=False).energy.detach().numpy())

    def cpu_seconds(self, atoms: ase.Atoms) -> float:
        """CPU time of energy, forces and stress of atoms that the calculator has not just seen."""
        self.calculator.reset()
        start = time.process_time()
        self.calculator.calculate(atoms, ["energy", "forces", "stress"], all_changes)
        here = time.process_time() - start
        return self.calculator.seconds if isinstance(self.calculator, PeerCalculator) else here


def kept(file: Path, items: Sequence[Item], compute: Callable[[Item], Record]) -> list[Record]:
    """What `compute` says of each item: read from `file` where it stands there, appended to it otherwise."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = file.read_text().split("\n")[:-1] if file.exists() else []  # a line that was cut off has no end
    file.write_text("".join(f"{line}\n" for line in lines))
    start = time.perf_counter()
    with file.open("a") as opened:
        for i, item in enumerate(items[len(lines) :], len(lines)):
            lines.append(json.dumps(compute(item)))
            print(lines[-1], file=opened, flush=True)
            if (i + 1) % max(1, len(items) // 10) == 0:
                passed = time.perf_counter() - start
                print(f"{file.stem}  {i + 1}/{len(items)}  {passed:.0f} s", file=sys.stderr, flush=True)
    return [json.loads(line) for line in lines[: len(items)]]


def chosen(items: Sequence[Item], count: int, seed: int = 0) -> list[Item]:
    """So many of the items, or all, in an order that the seed decides."""
    order = np.random.default_rng(seed).permutation(len(items))
    return [items[i] for i in order[:count]]


def single_point(model: Model, atoms: ase.Atoms) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Energy in eV, forces in eV/A, stress in eV/A^3."""
    found = atoms.copy()
    found.calc = model.calculator
    return float(found.get_potential_energy()), found.get_forces(), found.get_stress()


def number(value: float, digits: int) -> str:
    return "-" if not np.isfinite(value) else f"{value:,.{digits}f}"


def shifted(energies: NDArray[np.float64], structures: Sequence[ase.Atoms]) -> NDArray[np.float64]:
    """What is left of total energies (structures,) after the best shift per element, by least squares; eV/atom."""
    elements = sorted({int(z) for atoms in structures for z in atoms.numbers})
    atoms_of = np.array([[np.count_nonzero(atoms.numbers == z) for z in elements] for atoms in structures], dtype=float)
    counts = atoms_of.sum(1)
    per_atom, share = energies / counts, atoms_of / counts[:, None]
    return np.asarray(per_atom - share @ np.linalg.lstsq(share, per_atom, rcond=None)[0])
