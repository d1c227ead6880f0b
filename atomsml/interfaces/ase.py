"""AtomsMLCalculator: a potential as an ASE calculator.

It keeps ASE's contract (`atomsml.testing.assert_ase_contract` checks it): energy, free_energy, energies, forces and,
where the cell has a volume, stress, as float64 numpy arrays in eV, eV/A and eV/A^3 with tension positive.

| precision | positions, edge vectors, sums | network |
|---|---|---|
| float32 | float32 | float32 |
| mixed | float64 | float32 |
| float64 | float64 | float64 |
"""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes, all_properties
from ase.outputs import Properties
from numpy.typing import NDArray
from torch import Tensor

from atomsml.device import PRECISIONS, select_device
from atomsml.dispersion import D3, WithD3
from atomsml.dispersion.functionals import doubts_about
from atomsml.dispersion.reference import reference
from atomsml.electronic_state import ElectronicState, check_atoms, state_of_atoms
from atomsml.graph import AtomicGraph
from atomsml.interfaces.models import Model, open_model, theory_of
from atomsml.neighbors.checks import CLOSEST, check_indices, connect_checked
from atomsml.neighbors.verlet import VerletList
from atomsml.potential import Potential, Prediction, Predictor, check_elements, finite
from atomsml.programs.predictor import PlannedPredictor
from atomsml.uncertainty.last_layer import LastLayerUncertainty

SKIN = 0.5  # A: how much farther than the cutoff a neighbour list reaches, to serve several steps
FEW = 100  # atoms whose energy takes hardly less time than energy and forces, where neither needs autograd

CHARGES = ("charges", "dipole")  # what ASE has names for of what a model with charges says

_VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])  # xx yy zz yz xz xy


class AtomsMLCalculator(Calculator):
    """Energies, forces and stress of a potential for ASE.

        >>> from ase.build import bulk
        >>> from atomsml import AtomsMLCalculator
        >>> atoms = bulk("W", cubic=True)
        >>> atoms.calc = AtomsMLCalculator("refractory-pbe")
        >>> atoms.get_forces().shape, atoms.get_stress().shape
        ((2, 3), (6,))

    `model` is a name ("organic-xtb", or that of a fetched model), a model file, or a Potential; a Potential is copied,
    so that training it further does not change what the calculator computes. "auto" takes CUDA where there is one, then
    Apple's MPS if the precision is float32 (it has no float64), then the CPU. A file with several heads names them;
    others have one. `d3` adds dispersion for the functional that the model learned, as "pbe", or with the three-body
    term, as "pbe+atm" (`atomsml.dispersion`); a warning says where the file of the model has another, or dispersion.
    Radial functions may come from tables, which change forces by less than 1e-5 eV/A, unless `exact`.

    Standard deviations come with the results of a committee, which is a list of models or a folder of
    member-*/model.safetensors, and of a file that `atomsml uncertainty` wrote. ASE has no names for them, so they are
    found in `atoms.calc.results` only: "energy_std" (eV), and of a committee, with forces and stress, "forces_std"
    (atoms, 3) and "stress_std" (6,).

    A model with charges has "charges" (e) and, of molecules, "dipole" (e A), which are `atoms.get_charges()` and
    `atoms.get_dipole_moment()`, and "quadrupole" (3, 3) (e A^2) in the results; see `atomsml.multipoles`.

    Several threads may ask one calculator, each for atoms of its own: they wait for each other, and `results` are those
    of whoever asked last. Options are fixed once the calculator is made. Copies share the weights; pickles carry them,
    and choose their device where they are unpickled.

    Raises:
        ValueError: an unknown model, device, precision, head or functional; says what exists. Atoms that the model
            cannot treat: see `check`.
        ImpossibleGeometry: atoms in one place, or another geometry whose energy or forces are not finite.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012  (and CHARGES)
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012  (the energy does not depend on them)

    def __init__(
        self,
        model: str | Path | Model | Sequence[str | Path | Potential],
        device: str = "auto",
        precision: str = "mixed",
        head: str | None = None,
        exact: bool = False,
        d3: str | None = None,
    ) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
        torch_device = select_device(device, precision)
        self._d3 = None if d3 is None else D3.of(d3)
        source, potential = open_model(model, head)
        doubts = "" if d3 is None else doubts_about(d3, theory_of(source))
        if doubts:
            warnings.warn(f"{source}: {doubts}", stacklevel=2)
        potential = copy.deepcopy(potential) if isinstance(model, Model | list | tuple) else potential
        self.parameters.update(model=source, device=device, precision=precision, head=head, exact=exact, d3=d3)
        self._start(_prepare(potential, torch_device, precision))

    def _start(self, potential: Model) -> None:
        """Take a prepared potential, and forget the last structure."""
        self.potential, self.device = potential, next(potential.parameters()).device
        self.implemented_properties = [*type(self).implemented_properties, *(CHARGES if potential.has_charges else ())]
        self._lock = threading.RLock()
        predict: Predictor = potential
        self._neighbors: VerletList | None = None  # the last-layer uncertainty looks for neighbours itself
        if not isinstance(potential, LastLayerUncertainty):
            exact = self.parameters["exact"]
            predict = potential.predictor(exact)
            # what lies in a skin would cost autograd as much as other neighbours, and a single point all of it
            self._neighbors = VerletList(potential.cutoff, 0.0 if exact else SKIN)
        self._planned = isinstance(predict, PlannedPredictor)
        # what it asks; it takes batches as well
        self.predict: Predictor = predict if self._d3 is None else WithD3(predict, self._d3)
        self._fixed: AtomicGraph | None = None  # everything but the positions, of the last call
        self._fixed_from: list[object] = []
        self._last: AtomicGraph | None = None  # all of it, with neighbours
        self._has_volume = False

    def check(self, atoms: ase.Atoms) -> None:
        """Refuse atoms that the model was not made for; `calculate` does so as well.

        Raises:
            ValueError: no atoms, an element unknown to the model or to D3, or another total charge or spin
                (`atomsml.electronic_state`).
        """
        if len(atoms) == 0:
            raise ValueError("there are no atoms to compute")
        check_elements(atoms.numbers.tolist(), self.potential.elements)
        if self._d3 is not None:
            reference(tuple(sorted(set(atoms.numbers.tolist()))))
        check_atoms(atoms, self.potential.electronic_state, f"the model {self.parameters['model']}")

    def get_property(self, name: str, atoms: ase.Atoms | None = None, allow_calculation: bool = True) -> Any:
        """One quantity of `atoms`; no other thread comes between the calculation and its result."""
        with self._lock:
            return super().get_property(name, atoms, allow_calculation)

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill `results`; forces and stress come together, energies of many atoms alone cost about half."""
        with self._lock:
            self._calculate(atoms, properties)

    def _calculate(self, atoms: ase.Atoms | None, properties: Sequence[str] | None) -> None:
        self.results = {}  # a call that fails must not leave the last structure's results behind
        properties = self.implemented_properties if properties is None else properties
        unknown = [name for name in properties if name not in self.implemented_properties]
        if unknown:
            raise PropertyNotImplementedError(f"{', '.join(unknown)}: not implemented")
        if atoms is not None:
            self.atoms = atoms.copy()
        if self.atoms is None:
            raise ValueError("calculate() needs atoms: none were given, now or before")
        graph = self._graph(self.atoms)
        together = self._planned and graph.num_atoms <= FEW
        derivatives = together or "forces" in properties or "stress" in properties
        self.results = _results(finite(self.predict(graph, derivatives, derivatives and self._has_volume)))

    def predict_batch(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        """What the model says of many systems at once, brought to its device and into its precision.

        A system whose energy is not finite is no error here: it must not stop the others.

        Raises:
            ValueError: edges that name atoms that are not there.
        """
        dtype, _ = PRECISIONS[self.parameters["precision"]]
        check_indices(graph)
        return self.predict(graph.to(self.device, dtype), forces, stress)

    def check_state(self, atoms: ase.Atoms, tol: float = 0.0) -> list[str]:
        """What changed since the last calculation; any change of a number counts, unless `tol` says otherwise.

        An MD step of ASE asks three times, and ASE's own comparison takes longer than everything else in this file.
        """
        if tol > 0 or self.atoms is None:
            changes: list[str] = super().check_state(atoms, tol)
            return changes
        known, now = _content(self.atoms), _content(atoms)
        changes = [name for name in now if known[name] != now[name]]
        states = self.potential.electronic_state != ElectronicState()
        if states and state_of_atoms(self.atoms) != state_of_atoms(atoms):  # which may be refused
            changes.append("info")
        return changes

    def set(self, **options: Any) -> dict[str, Any]:
        """Refused, where there is anything to set: the weights were prepared for the options of __init__."""
        if options:
            raise ValueError(f"cannot set {', '.join(options)}: make a new AtomsMLCalculator with the options you want")
        return {}

    def export_properties(self) -> Properties:
        """What ASE has names for: it would stumble over the standard deviations."""
        return Properties({name: value for name, value in self.results.items() if name in all_properties})

    def _graph(self, atoms: ase.Atoms) -> AtomicGraph:
        """The atoms as a graph; in a run where only positions change, only positions are converted.

        A list with a skin is for atoms that move: those of the first call get one without.
        """
        content = [array.tobytes() for array in (atoms.numbers, atoms.pbc, atoms.cell.array)] + [state_of_atoms(atoms)]
        before, last = self._fixed_from, self._last
        if before != content:
            self._fixed, self._has_volume = self._convert(atoms), _has_volume(atoms)
            self._fixed_from = content
        assert self._fixed is not None
        graph = self._fixed.replace(positions=self._tensor(atoms.positions))
        self._last = None  # where neighbours are refused, whoever asks again is told again
        if last is not None and before == content and torch.equal(last.positions, graph.positions):
            self._last = last
        elif self._neighbors is None or last is None or before[:2] != content[:2]:
            self._last = connect_checked(graph, self.potential.cutoff)
            if self._neighbors is not None:
                self._neighbors.forget()
        else:
            rebuilds = self._neighbors.rebuilds
            connected = self._neighbors.update(graph)
            if self._neighbors.rebuilds > rebuilds and self.device.type == "cpu":
                check_indices(connected, CLOSEST)
            self._last = connected
        return self._last

    def _convert(self, atoms: ase.Atoms) -> AtomicGraph:
        self.check(atoms)
        device = self.device
        return AtomicGraph(
            positions=self._tensor(atoms.positions),
            numbers=torch.tensor(atoms.numbers, dtype=torch.int64, device=device),
            cell=self._tensor(atoms.cell.array[None]),
            pbc=torch.tensor(atoms.pbc[None], device=device),
            batch=torch.zeros(len(atoms), dtype=torch.int64, device=device),
        )

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        dtype, _ = PRECISIONS[self.parameters["precision"]]
        return torch.from_numpy(array.copy()).to(self.device, dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> AtomsMLCalculator:
        for shared in (self.potential, self.predict):
            memo[id(shared)] = shared  # never written to
        memo[id(self._lock)] = threading.RLock()
        clone = memo[id(self)] = object.__new__(type(self))
        clone.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return clone

    def __getstate__(self) -> dict[str, Any]:
        potential = copy.deepcopy(self.potential).to("cpu")  # the reader may have no such device
        working = {
            "potential",
            "device",
            "predict",
            "_neighbors",
            "_fixed",
            "_fixed_from",
            "_last",
            "_has_volume",
            "_lock",
        }
        return {**{k: v for k, v in self.__dict__.items() if k not in working}, "potential": potential}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        precision = self.parameters["precision"]
        self._start(_prepare(state["potential"], select_device(self.parameters["device"], precision), precision))


def _content(atoms: ase.Atoms) -> dict[str, bytes]:
    """All that the energy depends on, by ASE's names. Bytes are compared ten times faster than small arrays."""
    arrays = {"positions": atoms.positions, "numbers": atoms.numbers, "cell": atoms.cell.array, "pbc": atoms.pbc}
    return {name: array.tobytes() for name, array in arrays.items()}


def _prepare(potential: Model, device: torch.device, precision: str) -> Model:
    """Make a potential that belongs to the calculator ready: precision, device, no gradients of weights."""
    _, dtype = PRECISIONS[precision]
    potential.cast(dtype)
    if device.type == "mps":
        potential.float()  # the references as well, which cast leaves in float64
    return potential.requires_grad_(False).eval().to(device)


def _has_volume(atoms: ase.Atoms) -> bool:
    """Whether a stress means anything: a periodic system, and three cell vectors that span more than rounding."""
    if not atoms.pbc.any():
        return False
    with np.errstate(invalid="ignore"):  # the neighbour list refuses cells that are not finite, in clearer words
        return bool(abs(np.linalg.det(atoms.cell.array)) > 1e-8 * np.linalg.norm(atoms.cell.array, axis=1).prod())


def _results(prediction: Prediction) -> dict[str, Any]:
    energies = _array(prediction.atom_energies)
    energy = float(energies.sum())  # in float64 also where the network is not
    results = {"energy": energy, "free_energy": energy, "energies": energies}
    if prediction.forces is not None:
        results["forces"] = _array(prediction.forces)
    if prediction.stress is not None:
        results["stress"] = _array(prediction.stress[0])[_VOIGT]
    for name, value in prediction.atom_data.items():
        results[name] = _array(value)
    for name, value in prediction.system_data.items():
        if name in ("dipole", "quadrupole") and value.isnan().any():  # of a periodic system
            continue
        row = _array(value[0])
        results[name] = float(row) if row.ndim == 0 else row[_VOIGT] if name == "stress_std" else row
    return results


def _array(tensor: Tensor) -> NDArray[np.float64]:
    return np.array(tensor.numpy(force=True), dtype=np.float64, order="C")
