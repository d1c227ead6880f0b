"""assert_ase_contract(): what ASE and its users expect of a calculator, checked from outside.

| point | rule |
|---|---|
| 1 implemented_properties | a list of its own, of ASE's names; anything else raises PropertyNotImplementedError |
| 2 free_energy | there, and equal to energy: filters and optimizers ask for it |
| 3 stress | (6,) xx yy zz yz xz xy, eV/A^3, (1/V) dE/dstrain, tension positive |
| 4 no volume | no stress, neither asked for nor in results |
| 5 pbc | per axis; atoms may lie outside the cell; vectors of open axes do not matter |
| 6 forces | minus the gradient, whatever the constraints: ASE applies those itself |
| 7 cache | computed again when, and only when, the structure changed |
| 8 calculate | works when called directly, keeps nothing of the last structure, leaves its input alone |
| 9 results | floats and C-contiguous float64 arrays, finite, that a caller cannot spoil |
| 10 energies | sum to energy |
| 11 composable | SumCalculator adds it up |
| 12 global state | types, random states, error handling, environment and folder of the process stay |
| 13 copies | deepcopy and pickle compute the same, apart from the original; todict() is JSON |
| 14 memory | a step leaves no tensors behind |
| 15 strict options | unknown ones are refused: depends on the options, not checked here |
| 16 extxyz | energy and forces survive a file |
"""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import torch
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_properties
from ase.calculators.mixing import SumCalculator
from ase.constraints import FixAtoms
from numpy.typing import NDArray

_RELATIVE = 1e-5  # same physics computed twice; float32 networks differ by about 1e-6
_DERIVATIVE = 0.03  # finite differences of float32 energies; a wrong sign, order or unit is off by far more
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def assert_ase_contract(calc: Calculator, symbols: Sequence[str] = ("H",), spacing: float = 2.0) -> None:
    """Check a calculator against the points above, all but the fifteenth.

    Small structures of `symbols` (elements that the calculator knows), about `spacing` (A) apart, are computed some
    eighty times. Derivatives are compared with finite differences to 3 %, so that float32 calculators can pass.

    Raises:
        AssertionError: the first point that does not hold, in one line: its number, its name, what was found.
    """
    crystal = _crystal(symbols, spacing)
    molecule = crystal.copy()
    molecule.pbc, molecule.cell = False, np.zeros((3, 3))
    before = _global_state()
    for check in (_properties, _results, _free_energy, _energies, _inputs_kept, _direct_calls, _cache):
        for atoms in (molecule, crystal):
            check(calc, atoms.copy())
    for check in (_forces, _composable, _copies, _memory):
        check(calc, crystal.copy())
    _stress(calc, crystal.copy())
    _no_volume(calc, crystal.copy(), molecule.copy())
    _periodic_axes(calc, crystal.copy())
    _extxyz(calc, crystal.copy())
    _require_unchanged(before)


def _crystal(symbols: Sequence[str], spacing: float) -> ase.Atoms:
    """Four atoms in a triclinic cell without any symmetry, so that no two components of the stress are alike."""
    cell = spacing * np.array([[2.0, 0.0, 0.0], [0.25, 1.9, 0.0], [-0.2, 0.3, 1.1]])
    sites = np.array([[0.0, 0.0, 0.0], [0.52, 0.03, 0.06], [0.04, 0.47, 0.1], [0.55, 0.51, -0.08]])
    names = [symbols[i % len(symbols)] for i in range(len(sites))]
    return ase.Atoms(names, scaled_positions=sites, cell=cell, pbc=True)


def _require(holds: bool, point: int, name: str, found: str) -> None:
    if not holds:
        raise AssertionError(f"ASE contract, point {point} ({name}): {' '.join(found.split())}")


def _require_close(found: Any, wanted: Any, relative: float, point: int, name: str, what: str) -> None:
    found, wanted = np.asarray(found, float), np.asarray(wanted, float)
    _require(found.shape == wanted.shape, point, name, f"{what} has shape {found.shape}, expected {wanted.shape}")
    error, scale = np.abs(found - wanted).max(), np.abs(wanted).max()
    message = f"{what} is off by {error:.3g}: {found.ravel()[:6]} instead of {wanted.ravel()[:6]}"
    _require(bool(error <= relative * scale + 1e-8), point, name, message)


def _get(calc: Calculator, name: str, atoms: ase.Atoms) -> Any:
    """A property through ASE's own door, of a copy, so that only what ASE compares can tell structures apart."""
    return calc.get_property(name, atoms.copy())


def _properties(calc: Calculator, atoms: ase.Atoms) -> None:
    name, names = "implemented_properties", calc.implemented_properties
    _require(
        Calculator.implemented_properties == [], 1, name, "ASE's base list, which all calculators share, was changed"
    )
    _require(names is not Calculator.implemented_properties, 1, name, "the calculator has no list of its own")
    _require({"energy", "forces"} <= set(names), 1, name, f"energy and forces are expected, got {names}")
    _require(len(set(names)) == len(names), 1, name, f"a name occurs twice in {names}")
    foreign = sorted(set(names) - set(all_properties))
    _require(not foreign, 1, name, f"ASE has no properties {foreign}; keep other data elsewhere")
    for missing in set(all_properties) - set(names):
        try:
            _get(calc, missing, atoms)
        except PropertyNotImplementedError:
            continue
        _require(
            False, 1, name, f"asking for {missing}, which is not implemented, must raise PropertyNotImplementedError"
        )


def _results(calc: Calculator, atoms: ase.Atoms) -> None:
    shapes = {"energies": (len(atoms),), "forces": (len(atoms), 3), "stress": (6,)}
    point = {"stress": 3, "forces": 6}
    _get(calc, "forces", atoms)
    if "stress" in calc.implemented_properties and atoms.cell.rank == 3:
        _get(calc, "stress", atoms)
    _require("forces" in calc.results, 9, "results", "forces were asked for but are not in results")
    for name, value in calc.results.items():
        if name in ("energy", "free_energy"):
            _require(isinstance(value, float), 9, "results", f"{name} must be a float, got {type(value).__name__}")
        elif name in shapes:
            kind = type(value).__name__
            _require(type(value) is np.ndarray, 9, "results", f"{name} must be a numpy array, got {kind}")
            _require(value.dtype == np.float64, 9, "results", f"{name} must be float64, got {value.dtype}")
            _require(value.flags.c_contiguous, 9, "results", f"{name} must be C-contiguous")
            _require(
                value.shape == shapes[name], point.get(name, 9), name, f"shape {value.shape}, expected {shapes[name]}"
            )
        _require(np.isfinite(value).all(), 9, "results", f"{name} is not finite: {value}")
    forces = calc.results["forces"].copy()
    _get(calc, "forces", atoms)[:] = 1e3
    what = "the result after a caller wrote to the forces"
    _require_close(_get(calc, "forces", atoms), forces, 0, 9, "results", what)


def _free_energy(calc: Calculator, atoms: ase.Atoms) -> None:
    name = "free_energy"
    _require(name in calc.implemented_properties, 2, name, "it is not implemented; filters and optimizers ask for it")
    energy = _get(calc, "energy", atoms)
    _require_close(_get(calc, name, atoms), energy, _RELATIVE, 2, name, "it differs from energy and")


def _energies(calc: Calculator, atoms: ase.Atoms) -> None:
    if "energies" in calc.implemented_properties:
        total = _get(calc, "energies", atoms).sum()
        _require_close(total, _get(calc, "energy", atoms), _RELATIVE, 10, "energies", "their sum")


def _global_state() -> dict[str, Any]:
    """What the whole process shares and a calculator must leave alone."""
    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "torch's grad mode": torch.is_grad_enabled(),
        "numpy's random state": str(np.random.get_state()),  # noqa: NPY002  (what must not change)
        "numpy's error handling": np.geterr(),
        "the environment": dict(os.environ),
        "the working folder": Path.cwd(),
    }


def _require_unchanged(before: dict[str, Any]) -> None:
    now = _global_state()
    changed = [name for name, value in before.items() if now[name] != value]
    _require(not changed, 12, "global state", f"calculations changed {', '.join(changed)}")


def _inputs_kept(calc: Calculator, atoms: ase.Atoms) -> None:
    atoms.info["note"] = "unchanged"
    before = atoms.copy()
    calc.calculate(atoms, ["energy", "forces"])
    same = atoms == before and set(atoms.arrays) == set(before.arrays) and atoms.info == before.info
    _require(same and atoms.calc is None, 8, "calculate", "it changed the atoms that it was given")


def _direct_calls(calc: Calculator, atoms: ase.Atoms) -> None:
    energy = _get(calc, "energy", atoms)
    calc.calculate(atoms, ["energy"])
    _require_close(calc.results["energy"], energy, _RELATIVE, 8, "calculate", "the energy of a direct call")
    calc.calculate(atoms, ["forces"])
    _require("forces" in calc.results, 8, "calculate", "a direct call for forces left none in results")
    fewer = atoms[:-1]
    calc.calculate(fewer, ["forces"])
    for name in {"forces", "energies"} & set(calc.results):
        rows = len(calc.results[name])
        _require(rows == len(fewer), 8, "calculate", f"results keep {name} of an earlier structure ({rows} rows)")


def _cache(calc: Calculator, atoms: ase.Atoms) -> None:
    name = "cache"
    first = _get(calc, "forces", atoms)
    _require(
        not calc.calculation_required(atoms.copy(), ["forces"]), 7, name, "an unchanged structure is computed again"
    )
    moved = atoms.copy()
    moved.positions[0] += (0.05, 0.1, -0.03)
    _require(calc.calculation_required(moved, ["forces"]), 7, name, "moved atoms do not ask for a new calculation")
    absent = calc.get_property("forces", moved, allow_calculation=False)
    _require(absent is None, 7, name, "allow_calculation=False must give None where nothing is known")
    second = _get(calc, "forces", moved)
    _require(np.abs(second - first).max() > 0, 7, name, "forces of moved atoms are those of before")
    _require_close(_get(calc, "forces", atoms), first, _RELATIVE, 7, name, "forces of A after B was computed")
    if atoms.pbc.any():
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array * 1.02, scale_atoms=True)
        _require(calc.calculation_required(strained, ["energy"]), 7, name, "a new cell does not ask for a calculation")


def _forces(calc: Calculator, atoms: ase.Atoms) -> None:
    forces = _get(calc, "forces", atoms)
    size = float(np.linalg.norm(forces))
    pattern = np.sin(np.arange(1.0, 1 + forces.size)).reshape(forces.shape)
    for direction in (forces / (size or 1.0), pattern / np.linalg.norm(pattern)):

        def energy(step: float, direction: NDArray[np.float64] = direction) -> float:
            moved = atoms.copy()
            moved.positions += step * direction
            return float(_get(calc, "energy", moved))

        error = abs(_slope(energy) + float((forces * direction).sum()))
        found = f"off by {error:.3g} eV/A from finite differences along a line, where their norm is {size:.3g} eV/A"
        _require(error <= _DERIVATIVE * size, 6, "forces", found)
    atoms.set_constraint(FixAtoms([0]))
    _require_close(
        _get(calc, "forces", atoms), forces, _RELATIVE, 6, "forces", "the result with a constraint (ASE applies it)"
    )


def _slope(function: Any, step: float = 0.01) -> float:
    """Derivative at 0 by the five-point formula, error of order step**4."""
    return float((8 * (function(step) - function(-step)) - function(2 * step) + function(-2 * step)) / (12 * step))


def _numerical_stress(calc: Calculator, atoms: ase.Atoms) -> NDArray[np.float64]:
    def component(i: int, j: int) -> float:
        def energy(step: float) -> float:
            strain = np.zeros((3, 3))
            strain[i, j] += step / 2
            strain[j, i] += step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            return float(_get(calc, "energy", strained))

        return _slope(energy) / atoms.get_volume()

    return np.array([component(i, j) for i, j in _VOIGT])


def _stress(calc: Calculator, atoms: ase.Atoms) -> None:
    if "stress" in calc.implemented_properties:
        what = "the result (xx yy zz yz xz xy, eV/A^3, tension positive) against finite differences"
        _require_close(_get(calc, "stress", atoms), _numerical_stress(calc, atoms), _DERIVATIVE, 3, "stress", what)


def _no_volume(calc: Calculator, crystal: ase.Atoms, molecule: ase.Atoms) -> None:
    if "stress" not in calc.implemented_properties:
        return
    _get(calc, "stress", crystal)
    try:
        found = _get(calc, "stress", molecule)
    except PropertyNotImplementedError:
        found = None
    _require(found is None, 4, "no volume", f"a molecule without a cell has no stress, got {found}")
    calc.calculate(molecule, ["energy", "forces", "stress"])
    _require("stress" not in calc.results, 4, "no volume", "a molecule without a cell has a stress in results")


def _periodic_axes(calc: Calculator, atoms: ase.Atoms) -> None:
    name, energy = "pbc", _get(calc, "energy", atoms)
    shifted = atoms.copy()
    shifted.positions[1] += atoms.cell[0] - 2 * atoms.cell[2]
    _require_close(
        _get(calc, "energy", shifted), energy, _RELATIVE, 5, name, "the energy with an atom outside the cell"
    )
    slab = atoms.copy()
    slab.pbc = (True, True, False)
    slab.cell[2] = 0
    wanted = _get(calc, "energy", slab)
    slab.cell[2] = atoms.cell[2]
    found = _get(calc, "energy", slab)
    _require_close(found, wanted, _RELATIVE, 5, name, "the energy of a slab whose open axis has a cell vector")
    slab.positions[1] += 20 * slab.cell[2]
    far = _get(calc, "energy", slab)
    slab.cell[2] = 0
    what = "the energy of a slab and an atom far out along its open axis"
    _require_close(far, _get(calc, "energy", slab), _RELATIVE, 5, name, what)


def _composable(calc: Calculator, atoms: ase.Atoms) -> None:
    both = SumCalculator([calc, calc])
    for name in {"energy", "forces", "stress"} & set(calc.implemented_properties):
        wanted = 2 * _get(calc, name, atoms)
        found = both.get_property(name, atoms.copy())
        _require_close(found, wanted, _RELATIVE, 11, "composable", f"{name} of SumCalculator([calc, calc])")


def _copies(calc: Calculator, atoms: ase.Atoms) -> None:
    try:
        json.dumps(calc.todict())
    except TypeError as error:
        _require(False, 13, "copies", f"todict() is no JSON: {error}")
    energy = _get(calc, "energy", atoms)
    for how, make in (("deepcopy", copy.deepcopy), ("pickle", lambda c: pickle.loads(pickle.dumps(c)))):
        try:
            clone = make(calc)
        except Exception as error:  # any failure of any kind breaks the point
            raise AssertionError(f"ASE contract, point 13 (copies): {how} failed: {error!r}") from error
        moved = atoms.copy()
        moved.positions[0] += 0.1
        _get(clone, "energy", moved)
        _require_close(_get(clone, "energy", atoms), energy, _RELATIVE, 13, "copies", f"the energy of a {how}")
        required = calc.calculation_required(atoms.copy(), ["energy"])
        _require(not required, 13, "copies", f"using a {how} changed the original")


def _memory(calc: Calculator, atoms: ase.Atoms) -> None:
    steps, counts = 6, []
    for _ in range(2):
        for _ in range(steps):
            atoms.positions[0] += 0.001
            _get(calc, "forces", atoms)
        gc.collect()
        kinds = Counter(map(type, gc.get_objects()))
        counts.append(sum(number for kind, number in kinds.items() if issubclass(kind, torch.Tensor)))
    found = f"after {steps} more steps {counts[1] - counts[0]} more tensors are alive; detach and drop what a step made"
    _require(counts[1] - counts[0] < steps, 14, "memory", found)


def _extxyz(calc: Calculator, atoms: ase.Atoms) -> None:
    atoms.calc = calc
    wanted = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "atoms.extxyz"
        ase.io.write(path, atoms)
        again: Any = ase.io.read(path)
    for name, value in wanted.items():
        found = again.calc.results.get(name, np.nan)
        _require_close(found, value, 1e-6, 16, "extxyz", f"{name} after writing and reading")
