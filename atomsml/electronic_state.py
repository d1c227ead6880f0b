"""The total charge and the spin for which a potential holds, and structures that say they are something else.

A potential knows positions and elements. One that learnt from neutral closed shells gives an ion or a radical the
energy of a neutral closed shell, so such a structure is refused. What a structure says of itself:

| where | what |
|---|---|
| atoms.info or system_data: charge, total_charge, net_charge | total charge, e |
| initial charges of the atoms | the total charge where none is stated, if they do not sum to zero |
| atoms.info or system_data: spin, multiplicity, spin_multiplicity | multiplicity 2S + 1 |
| initial magnetic moments of the atoms | that of an open system where none is stated, if they do not sum to zero |

Some need not say anything: an odd number of electrons is no closed shell, and dioxygen, methylene or a lone oxygen atom
are triplets in their ground states.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from atomsml.graph import AtomicGraph

if TYPE_CHECKING:
    import ase

CHARGE_KEYS = ("charge", "total_charge", "net_charge")
SPIN_KEYS = ("spin", "multiplicity", "spin_multiplicity")
# Hill formulas. Huber & Herzberg, Constants of Diatomic Molecules (1979); methylene: Bunker, Jensen, J. Chem. Phys. 79,
# 1224 (1983)
TRIPLETS = ("B2", "BrN", "CH2", "ClN", "FN", "HN", "HP", "O2", "OS", "OSe", "S2", "Se2", "Si2", "Te2")


@dataclass(frozen=True)
class ElectronicState:
    """Of a model: what it holds for. Of a structure: what is stated of it. None: nothing is."""

    charge: float | None = None  # total, e
    spin: int | None = None  # multiplicity 2S + 1

    def merged(self, other: ElectronicState) -> ElectronicState:
        """What holds for two models together.

        Raises:
            ValueError: they hold for different charges or spins.
        """
        for name in ("charge", "spin"):
            one, two = getattr(self, name), getattr(other, name)
            if None not in (one, two) and one != two:
                raise ValueError(f"members of a committee were made for {name} {one:g} and {two:g}; leave one out")
        return ElectronicState(
            other.charge if self.charge is None else self.charge, other.spin if self.spin is None else self.spin
        )


def state_of_atoms(atoms: ase.Atoms) -> ElectronicState:
    """What atoms state."""
    moments = atoms.arrays.get("initial_magmoms")
    if moments is not None and atoms.pbc.any():
        moments = None
    return _state(atoms.info, atoms.arrays.get("initial_charges"), moments)


def state_of_fields(fields: Mapping[str, Any]) -> ElectronicState:
    """What is stated under any of the names."""
    return _state(fields, None, None)


def check_atoms(atoms: ase.Atoms, model: ElectronicState, name: str) -> None:
    """Refuse atoms of another charge or spin than a model was made for; warn if it does not say what it was made for.

    Raises:
        ValueError: says what is wrong, and the remedy.
    """
    _check(atoms.numbers.tolist(), bool(atoms.pbc.any()), state_of_atoms(atoms), model, name)


def check_graph(graph: AtomicGraph, model: ElectronicState, name: str) -> None:
    """The same for every system of a graph, whose number the message has where there are several."""
    for i, (numbers, periodic, stated) in enumerate(_systems(graph)):
        try:
            _check(numbers, periodic, stated, model, name)
        except ValueError as error:
            raise ValueError(f"system {i}: {error}" if graph.num_systems > 1 else str(error)) from None


def _check(numbers: Sequence[int], periodic: bool, stated: ElectronicState, model: ElectronicState, name: str) -> None:
    if model == ElectronicState():
        if stated.charge or stated.spin not in (None, 1):
            # always the same words, so that Python says them once for each model
            warnings.warn(
                f"{name} does not say for which total charge and spin it holds; those of the structures are ignored",
                stacklevel=3,
            )
        return
    reason = mismatch(stated, model) or (None if model.spin is None else unlikely(numbers, periodic, stated, model))
    if reason is not None:
        raise ValueError(reason)


def mismatch(stated: ElectronicState, model: ElectronicState) -> str | None:
    """Where the two say different things, in words; None where they do not."""
    if None not in (stated.charge, model.charge) and stated.charge != model.charge:
        return (
            f"its total charge is {_signed(stated.charge)}, the model was made for {_signed(model.charge)}; "
            "take a model of that charge, or correct the charge where it is wrong"
        )
    if None not in (stated.spin, model.spin) and stated.spin != model.spin:
        return (
            f"its spin multiplicity is {stated.spin}, the model was made for {model.spin}; "
            "take a model of that spin, or correct the spin where it is wrong"
        )
    return None


def _signed(charge: float | None) -> str:
    return f"{charge:+g}" if charge else "0"


def unlikely(numbers: Sequence[int], periodic: bool, stated: ElectronicState, model: ElectronicState) -> str | None:
    """Why the electrons cannot have the spin of the model, or are not known to have it in the ground state."""
    charge = model.charge if stated.charge is None else stated.charge
    electrons = sum(numbers) - round(charge or 0)
    if (electrons + (model.spin or 0)) % 2 == 0:
        return (
            f"it has an {'odd' if electrons % 2 else 'even'} number of electrons ({electrons}), the model was made for "
            f"the spin multiplicity {model.spin}: another charge or spin, or atoms are missing; take a model of its "
            "spin, or correct the structure"
        )
    if periodic or charge or stated.spin is not None:
        return None
    spin = ground_state_spin(numbers)
    if spin in (None, model.spin):
        return None
    return (
        f"its ground state has the spin multiplicity {spin}, the model was made for {model.spin}; take a model of that "
        f"spin, or state the spin {model.spin} (atoms.info['spin']) if the excited state is meant"
    )


def ground_state_spin(numbers: Sequence[int]) -> int | None:
    """Multiplicity of a neutral atom, or of a small molecule that is known not to be a singlet; None: not known."""
    from ase.data import ground_state_magnetic_moments
    from ase.formula import Formula
    from ase.symbols import Symbols

    if len(numbers) == 1:
        return int(ground_state_magnetic_moments[numbers[0]]) + 1
    if len(numbers) > 3:
        return None
    return 3 if Formula(str(Symbols(numbers))).format("hill") in TRIPLETS else None


def _systems(graph: AtomicGraph) -> Iterator[tuple[list[int], bool, ElectronicState]]:
    """Numbers, whether periodic, and what is stated, of every system."""
    counts, periodic = graph.atoms_per_system.tolist(), graph.pbc.any(dim=1).tolist()
    info = {key: graph.system_data[key].cpu() for key in (*CHARGE_KEYS, *SPIN_KEYS) if key in graph.system_data}
    charges, moments = (
        [part.numpy() for part in graph.atom_data[key].detach().cpu().split(counts)]
        if key in graph.atom_data
        else [None] * len(counts)
        for key in ("initial_charges", "initial_magmoms")
    )
    for i, numbers in enumerate(graph.numbers.cpu().split(counts)):
        said = {key: values[i].item() for key, values in info.items() if values.ndim == 1}
        yield numbers.tolist(), periodic[i], _state(said, charges[i], None if periodic[i] else moments[i])


def _state(info: Mapping[str, Any], charges: np.ndarray | None, moments: np.ndarray | None) -> ElectronicState:
    charge, spin = _number(info, CHARGE_KEYS), _number(info, SPIN_KEYS)
    if charge is None and charges is not None:
        charge = _total(charges) or None
    if spin is None and moments is not None and moments.ndim == 1 and _total(moments):
        spin = abs(_total(moments)) + 1
    return ElectronicState(charge, None if spin is None else round(spin))


def _number(info: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    """The first of `keys` that is a finite number."""
    for key in keys:
        value = info.get(key)
        default = (key, value) == ("spin_multiplicity", 1)  # which every Molecule of pymatgen has, known or not
        if isinstance(value, int | float | np.number) and math.isfinite(value) and not default:
            return float(value)
    return None


def _total(values: np.ndarray) -> int:
    """To the next integer: partial charges are rounded."""
    total = float(np.sum(values))
    return round(total) if math.isfinite(total) else 0
