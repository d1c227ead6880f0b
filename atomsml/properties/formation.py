"""Formation energies, and energies above the convex hull of given references, by pymatgen's PhaseDiagram.

    E_f = (E - sum_i n_i E_i) / sum_i n_i    with the energy E_i of an atom of the element i in its reference

The hull is that of the references, whatever other structures are asked for: an energy above it is negative where the
structure is more stable than all mixtures of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ase
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.entries import Entry

from atomsml.properties.engine import Engine
from atomsml.properties.references import Reference, elemental, require_elements
from atomsml.properties.task import Failure, Start, minima


@dataclass(frozen=True)
class Phase:
    """A point of the hull, or a part of what a structure decomposes into."""

    name: str  # of the reference
    formula: str
    amounts: dict[str, float]
    energy: float  # eV/atom, of its formation
    share: float = 1.0  # of the atoms


@dataclass(frozen=True, eq=False)
class Formation:
    """Of a crystal."""

    atoms: ase.Atoms  # relaxed, with its energy
    energy: float  # eV/atom, of its formation
    above_hull: float  # eV/atom
    decomposition: list[Phase]  # of the hull at its composition
    hull: list[Phase]  # all stable references that consist of its elements


def check(atoms: ase.Atoms) -> None:
    """Refuse what is no crystal.

    Raises:
        ValueError: no crystal that is periodic along all three axes.
    """
    if not atoms.pbc.all():
        raise ValueError(
            f"a convex hull is of crystals that are periodic along all three axes, pbc is {atoms.pbc.tolist()}"
        )


def formation_energies(
    structures: Sequence[ase.Atoms],
    references: Sequence[Reference],
    engine: Engine,
    start: Start | None = None,
) -> Iterator[tuple[int, Formation | Failure]]:
    """The formation energy of each crystal and its energy above the hull, by its place in the list.

        >>> from ase.build import bulk
        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.properties.engine import Engine
        >>> from atomsml.properties.formation import formation_energies
        >>> from atomsml.properties.references import relaxed_references
        >>> from atomsml.properties.task import Start
        >>> engine, start = Engine.of(AtomsMLCalculator("refractory-pbe")), Start(cell=True)
        >>> references = relaxed_references({"Mo": bulk("Mo"), "W": bulk("W")}, engine, start)
        >>> alloy = bulk("W", cubic=True)
        >>> alloy.symbols[0] = "Mo"
        >>> [(_, found)] = formation_energies([alloy], references, engine, start)
        >>> -0.05 < found.energy < 0.05
        True

    A structure of which an element has no reference fails before it is relaxed.

    Raises:
        ValueError: a structure that `check` refuses.
    """
    for atoms in structures:
        check(atoms)
    known, hulls, treated = elemental(references), dict[frozenset[str], PhaseDiagram](), list[int]()
    for index, atoms in enumerate(structures):
        try:
            require_elements(set(atoms.symbols), known)
        except ValueError as error:
            yield index, Failure(str(error))
            continue
        treated.append(index)
        elements = frozenset(atoms.symbols)
        if elements not in hulls:
            hulls[elements] = _hull(elements, references)
    for place, minimum in minima([structures[index] for index in treated], engine, start or Start(cell=True)):
        if isinstance(minimum, Failure):
            yield treated[place], minimum
            continue
        yield treated[place], _formation(minimum, hulls[frozenset(minimum.symbols)])


def _hull(elements: frozenset[str], references: Sequence[Reference]) -> PhaseDiagram:
    """Of the references that consist of these elements."""
    return PhaseDiagram(
        [PDEntry(dict(each.amounts), each.energy, each.name) for each in references if elements >= set(each.amounts)]
    )


def _formation(atoms: ase.Atoms, hull: PhaseDiagram) -> Formation:
    entry = PDEntry(atoms.symbols.formula.count(), atoms.get_potential_energy())
    products, above = hull.get_decomp_and_e_above_hull(entry, allow_negative=True)
    assert products is not None
    assert above is not None
    decomposition = [_phase(product, hull, share) for product, share in products.items()]
    energy = float(hull.get_form_energy_per_atom(entry))
    return Formation(
        atoms,
        energy,
        float(above),
        sorted(decomposition, key=lambda phase: -phase.share),
        sorted((_phase(each, hull) for each in hull.stable_entries), key=lambda phase: phase.formula),
    )


def _phase(entry: Entry, hull: PhaseDiagram, share: float = 1.0) -> Phase:
    assert isinstance(entry, PDEntry)  # as all that `_hull` puts in
    amounts = {str(element): float(amount) for element, amount in entry.composition.items()}
    energy = float(hull.get_form_energy_per_atom(entry))
    return Phase(entry.name, entry.composition.reduced_formula, amounts, energy, float(share))
