"""A model made the forces of a LAMMPS that has its atoms: what is checked, and what LAMMPS is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_masses, atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from atomsml.device import PRECISIONS
from atomsml.interfaces.ase import AtomsMLCalculator
from atomsml.interfaces.lammps.callback import FIX, Callback, Members
from atomsml.interfaces.lammps.halo import Halo
from atomsml.interfaces.lammps.script import SKIN
from atomsml.interfaces.models import Model
from atomsml.potential import Potential, check_elements
from atomsml.uncertainty import Committee

# ghosts reach so many skins farther than the network: LAMMPS lets atoms of a cell that shrinks, and is shorter than the
# halo, come nearer than one skin before it chooses ghosts anew
MARGIN = 2.0
SAME_MASS = 0.05  # u: a type whose mass is that of another element was given the wrong one
OTHER_MASS = 0.5  # u: and no isotope either
HEAVIEST_HYDROGEN = 4.1  # u: some give hydrogen up to four times its mass, for longer steps


def attach(
    lammps: Any,
    model: str | Path | Model | Sequence[str | Path | Potential],
    elements: Sequence[str],
    *,
    device: str = "auto",
    precision: str = "mixed",
    exact: bool = False,
    skin: float = SKIN,
) -> Callback:
    """Let a model give the forces in a LAMMPS whose box and atoms exist; every process calls it.

    It sets `neighbor`, `pair_style`, `pair_coeff` and `comm_modify`, which are not to be set again, and makes the fix
    "atomsml". Energy, pressure and their values for each atom count as those of a pair style; of a committee
    f_atomsml[1] is the standard deviation of the energy (eV) and f_atomsml[2] the largest one of a force (eV/A).

    Args:
        lammps: a `lammps.lammps`.
        elements: symbols, one for each atom type in their order.
        skin: A.

    Raises:
        ValueError: other units than metal, elements that do not go with the types, a model that does not go with them
            or with a run over several processes.
    """
    from mpi4py import MPI

    comm = lammps.comm or MPI.COMM_WORLD
    numbers = _numbers(lammps, elements)
    calculator = AtomsMLCalculator(model, _device(device, comm), precision, exact=exact)
    members = _members(calculator, exact)
    check_elements(numbers[1:].tolist(), calculator.potential.elements)
    dtype, _ = PRECISIONS[precision]
    halo = Halo(members.cutoff, members.hops, MARGIN * skin, calculator.device, dtype)
    for command in commands(members, skin):
        lammps.command(command)
    if len(members) > 1:
        lammps.fix_external_set_vector_length(FIX, 2)
    callback = Callback(lammps, comm, members, halo, numbers)
    lammps.set_fix_external_callback(FIX, callback, lammps)
    return callback


def commands(members: Members, skin: float) -> list[str]:
    """What LAMMPS is told: ghosts as far as the network reaches, no forces of its own, and whom to ask."""
    return [
        f"neighbor {skin:.17g} bin",
        "neigh_modify every 1 delay 0 check yes",
        f"pair_style zero {members.cutoff:.17g}",  # without any pair style there are no ghosts
        "pair_coeff * *",
        f"comm_modify cutoff {members.reach + MARGIN * skin:.17g}",
        f"fix {FIX} all external pf/callback 1 1",
        f"fix_modify {FIX} energy yes virial yes",
    ]


def _members(calculator: AtomsMLCalculator, exact: bool) -> Members:
    potential = calculator.potential
    if not isinstance(potential, Potential | Committee):
        raise ValueError(
            f"{calculator.parameters['model']} is an uncertainty that LAMMPS cannot be given; give the model itself, "
            "or a committee"
        )
    if potential.direct_forces:
        raise ValueError(
            f"the forces of {calculator.parameters['model']} are not the gradient of its energy: the pressure would "
            "not go with them; give a model whose forces are"
        )
    return Members([potential] if isinstance(potential, Potential) else list(potential.members), exact)


def _numbers(lammps: Any, elements: Sequence[str]) -> NDArray[np.int64]:
    """(types + 1,) atomic numbers; that of type 0, which LAMMPS does not have, is 0.

    Raises:
        ValueError: units, elements or masses that are wrong.
    """
    units, types = lammps.extract_global("units"), lammps.extract_setting("ntypes")
    if units != "metal":
        raise ValueError(
            f"LAMMPS has `units {units}`; a model computes in eV and A: begin the input with `units metal`"
        )
    if types < 1:
        raise ValueError("LAMMPS has no atom types yet; make the box (read_data, create_box) before pair_coeff")
    unknown = [symbol for symbol in elements if symbol not in atomic_numbers or symbol == "X"]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no chemical element; write symbols, as in pair_coeff * * H O")
    if len(elements) != types:
        raise ValueError(
            f"LAMMPS has {types} atom type{'s' * (types != 1)}, and elements are named for {len(elements)} "
            f"({' '.join(elements)}); name one for each type, in their order"
        )
    numbers = [atomic_numbers[symbol] for symbol in elements]
    _check_masses(lammps, numbers)
    return np.array([0, *numbers])


def _check_masses(lammps: Any, numbers: list[int]) -> None:
    """Refuse a type whose mass is that of another element; isotopes and heavy hydrogen may pass."""
    found = lammps.numpy.extract_atom("mass")
    for i, number in enumerate(numbers, 1) if found is not None else ():
        mass = float(found[i])
        likely = int(np.abs(atomic_masses[1:] - mass).argmin()) + 1
        fits = abs(mass - atomic_masses[number]) < OTHER_MASS or (number == 1 and mass < HEAVIEST_HYDROGEN)
        if not fits and abs(atomic_masses[likely] - mass) < SAME_MASS:
            raise ValueError(
                f"atom type {i} has the mass {mass:g} of {chemical_symbols[likely]}, but {chemical_symbols[number]} is "
                "named for it; name the elements in the order of the types, or correct the mass"
            )


def _device(device: str, comm: Any) -> str:
    """Of this process: GPUs of a machine are dealt out to the processes on it."""
    from mpi4py import MPI

    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    on_machine = comm.Split_type(MPI.COMM_TYPE_SHARED).rank
    return f"cuda:{on_machine % torch.cuda.device_count()}"
