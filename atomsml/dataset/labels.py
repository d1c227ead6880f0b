"""Labels by name: which key of a file is the energy, and what its value must look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from atomsml.electronic_state import ElectronicState

# a label is found under prefix + stem; what a calculator of ASE wrote has no prefix
PREFIXES = ("REF_", "ref_", "DFT_", "dft_", "")
STEMS = {
    "energy": ("energy", "Energy", "total_energy", "U0"),
    "forces": ("forces", "force", "Forces"),
    "stress": ("stress", "Stress"),
    "virial": ("virial", "virials", "Virial"),
}
# the first that is there counts, of these as of the names below
MULTIPOLE_STEMS = {
    "charges": ("charges", "mbis_charges", "mbi_charges"),
    "dipole": ("dipole", "dipole_moment", "dipoles"),
    "quadrupole": ("quadrupole", "quadrupole_moment"),
}
# names of a structure's kind and origin; the first that is there counts
NAMES = {
    "config_type": ("config_type", "configtype", "config", "tag"),
    "group": ("group", "smiles", "SMILES", "trajectory", "trajectory_id", "traj_id", "mol_id", "molecule", "mp_id"),
}


@dataclass(frozen=True)
class LabelKeys:
    """Names of the labels in a file. None: found among the usual names; "": not to be read."""

    energy: str | None = None  # eV, of the whole structure
    forces: str | None = None  # eV/A
    stress: str | None = None  # eV/A^3, tension positive
    virial: str | None = None  # eV; stress = -virial / volume
    config_type: str | None = None  # kind of structure: a row of its own in tables of errors
    group: str | None = None  # the trajectory or molecule of which a frame is
    charges: str | None = ""  # e, of each atom
    dipole: str | None = ""  # e A, from negative to positive; of an ion about the origin
    quadrupole: str | None = ""  # e A^2 about the origin; its trace does not count

    def with_multipoles(self) -> LabelKeys:
        """The same, with charges, dipoles and quadrupoles found among the usual names unless they have keys."""
        return replace(self, **{name: getattr(self, name) or None for name in MULTIPOLE_STEMS})


@dataclass(frozen=True)
class Found:
    """What a file holds, and under which keys its labels were found."""

    path: str
    format: str
    structures: int
    fields: dict[str, int]  # every key: how many structures carry it
    keys: LabelKeys  # None where nothing was found
    warnings: tuple[str, ...] = ()  # labels that are there and not used
    states: tuple[tuple[ElectronicState, int], ...] = ()  # charge and spin, and how many structures state them

    def lines(self) -> list[str]:
        """The same for people, one line for each label."""
        lines = [f"{self.path}: {self.structures} structures ({self.format})"]
        for field in fields(LabelKeys):
            key = getattr(self.keys, field.name)
            if key:
                lines.append(f"  {field.name} = {key}, on {self.fields[key]} of {self.structures}")
        missing = [name for name in ("energy", "forces", "stress") if not getattr(self.keys, name)]
        if self.keys.virial and "stress" in missing:
            missing.remove("stress")
        if missing:
            lines.append(f"  without {', '.join(missing)}")
        names = {p + stem for p in PREFIXES for stems in STEMS.values() for stem in stems}
        unused = sorted(name for name in self.fields if name in names and name not in vars(self.keys).values())
        if unused:
            lines.append(f"  not used: {', '.join(f'{name} (on {self.fields[name]})' for name in unused)}")
        return lines

    def counted(self, structures: int, labels: Mapping[str, int]) -> Found:
        """The same once the labels have been read: NaN is no label, nor is a stress without a cell.

        Args:
            structures: how many there are.
            labels: how many of them have a label that is used, of energy, forces and stress, and of what else there is.
        """
        of_stress = self.keys.stress or self.keys.virial
        chosen = {"energy": self.keys.energy, "forces": self.keys.forces, "stress": of_stress}
        chosen |= {name: getattr(self.keys, name) for name in MULTIPOLE_STEMS}
        counted = {key: labels.get(label, 0) for label, key in chosen.items() if key}
        lost = self.fields[of_stress] - counted[of_stress] if of_stress else 0
        warnings = (
            f"on {lost} of {structures} structures {of_stress} is not used: they are not periodic, or it is not a "
            "number",
        )
        said = (*self.warnings, *(warnings if lost > 0 else ()))
        return replace(self, structures=structures, fields={**self.fields, **counted}, warnings=said)


def find_keys(present: Mapping[str, int], structures: int, keys: LabelKeys, path: str) -> LabelKeys:
    """Which key holds which label, where `present` says how many structures carry each key.

    A key that was given is taken. Otherwise the energy is looked for among the usual names: one that starts with REF_
    wins, and several others are refused. Forces and stress must then start like the energy, so that labels of two
    methods are never mixed. A stress wins over a virial. There may be forces without an energy, if that was asked for
    or if there is no other key that could be one.

    Raises:
        ValueError: a given key that no structure has, no energy, or several candidates.
    """
    there = ", ".join(f"{name} ({count})" for name, count in sorted(present.items())) or "none"
    listing = f"keys of its {structures} structures: {there}"
    for field in fields(LabelKeys):
        given = getattr(keys, field.name)
        if given and given not in present:
            raise ValueError(f"{path}: no structure has the {field.name} key {given!r}; {listing}")
    energy = keys.energy if keys.energy is not None else _find("energy", present, "", path)
    if energy is None and not _forces_alone(present):
        raise ValueError(
            f"{path}: no energy under a usual name; give its key with --energy-key, or --energy-key '' to do with "
            f"forces alone; {listing}"
        )

    def found(label: str) -> str | None:
        given = getattr(keys, label)
        return given if given is not None else _find(label, present, energy or "", path)

    if keys.virial and keys.stress:
        raise ValueError(f"{path}: give the key of the stress or of the virial, not both")
    stress = None if keys.virial else found("stress")
    virial = None if stress or keys.stress == "" else found("virial")
    forces = found("forces")
    multipoles = {name: _multipole(name, getattr(keys, name), present) for name in MULTIPOLE_STEMS}
    if not (energy or forces or stress or virial or any(multipoles.values())):
        raise ValueError(f"{path}: neither energies nor forces are to be read; {listing}")
    return LabelKeys(
        energy=energy or None,
        forces=forces or None,
        stress=stress or None,
        virial=virial or None,
        config_type=_first("config_type", keys.config_type, present),
        group=_first("group", keys.group, present),
        **multipoles,
    )


def _forces_alone(present: Mapping[str, int]) -> bool:
    """Whether there are forces, and no key that might be that of an energy."""
    labels = {p + stem for p in PREFIXES for stems in STEMS.values() for stem in stems}
    others = set(present) - labels - {name for names in NAMES.values() for name in names}
    return not others and any(p + stem in present for p in PREFIXES for stem in STEMS["forces"])


def _find(label: str, present: Mapping[str, int], energy: str, path: str) -> str | None:
    """The key of a label among the usual names, where `energy` is the key of the energy, if that is known already."""
    named = {p: [p + stem for stem in STEMS[label] if p + stem in present] for p in PREFIXES}
    candidates = [name for names in named.values() for name in names]
    prefix = next((p for p in PREFIXES if energy in {p + stem for stem in STEMS["energy"]}), None)
    if prefix is None:
        wanted = named["REF_"] or candidates
    else:
        wanted = named[prefix]
        if candidates and not wanted:
            raise ValueError(
                f"{path}: the energy is {energy!r} but the only {label} is {' or '.join(candidates)}; say whether it "
                f"belongs to it: --{label}-key {candidates[0]}, or --{label}-key '' to leave it out"
            )
    if len(wanted) > 1:
        raise ValueError(f"{path}: {' and '.join(wanted)} could all be the {label}; choose one with --{label}-key")
    return wanted[0] if wanted else None


def _multipole(name: str, given: str | None, present: Mapping[str, int]) -> str:
    if given is not None:
        return given
    return next((p + stem for p in PREFIXES for stem in MULTIPOLE_STEMS[name] if p + stem in present), "")


def _first(name: str, given: str | None, present: Mapping[str, int]) -> str | None:
    if given is not None:
        return given or None
    return next((key for key in NAMES[name] if key in present), None)


def as_energy(value: Any, where: str) -> float:
    """One number, eV.

    Raises:
        ValueError: anything else, as for the functions below.
    """
    array = _numbers(value, where)
    if array.size != 1:
        raise ValueError(f"{where}: an energy must be one number, got shape {array.shape}")
    return float(array.reshape(()))


def as_forces(value: Any, atoms: int, where: str) -> np.ndarray:
    """(atoms, 3) eV/A."""
    array = _numbers(value, where)
    if array.shape != (atoms, 3):
        raise ValueError(f"{where}: forces of {atoms} atoms must have shape ({atoms}, 3), got {array.shape}")
    return array


def as_matrix(value: Any, where: str) -> np.ndarray:
    """(..., 3, 3) from that shape, from 9 numbers row by row, or from 6 in the order xx yy zz yz xz xy."""
    array = _numbers(value, where)
    if array.shape[-2:] == (3, 3):
        return array
    if array.ndim and array.shape[-1] == 6:
        array = array[..., [0, 5, 4, 5, 1, 3, 4, 3, 2]]
    if array.ndim == 0 or array.shape[-1] != 9:
        raise ValueError(f"{where}: it must have 3 x 3, 9 or 6 numbers, got shape {array.shape}")
    return array.reshape(*array.shape[:-1], 3, 3)


def as_multipole(name: str, value: Any, atoms: int, where: str) -> np.ndarray:
    """Charges (atoms,) in e, a dipole (1, 3) in e A, or the traceless part of a quadrupole (1, 3, 3) in e A^2."""
    if name == "quadrupole":
        return traceless(as_matrix(value, where).reshape(1, 3, 3))
    array = _numbers(value, where)
    wanted = atoms if name == "charges" else 3
    if array.size != wanted or array.ndim > 2:
        raise ValueError(f"{where}: {name} of {atoms} atoms must be {wanted} numbers, got shape {array.shape}")
    return array.reshape((atoms,) if name == "charges" else (1, 3))


def traceless(matrices: np.ndarray) -> np.ndarray:
    """(..., 3, 3)."""
    return matrices - np.trace(matrices, axis1=-2, axis2=-1)[..., None, None] / 3 * np.eye(3)


def stress_of_virial(virial: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """stress = -virial / volume, of shape (..., 3, 3); NaN where the cell has no volume."""
    volume = np.abs(np.linalg.det(cell))[..., None, None]
    return np.where(volume > 0, -virial / np.where(volume > 0, volume, 1.0), np.nan)


def _numbers(value: Any, where: str) -> np.ndarray:
    try:
        array = np.asarray(value)
        numbers = array.astype(np.float64)
    except (ValueError, TypeError) as error:  # text, or rows of different lengths
        raise ValueError(f"{where}: must hold numbers, got {str(value)[:40]!r}") from error
    if array.dtype == bool:  # as readers take a key that stands alone
        raise ValueError(f"{where}: must hold numbers, got a word without a value")
    return numbers
