"""What batches do not tell of a structure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ase

    from atomsml.interfaces.ase import AtomsMLCalculator


def complete(atoms: ase.Atoms, calculator: AtomsMLCalculator) -> None:
    """Add to the results of atoms the stress of a crystal that lacks it, and how uncertain a committee is.

    Costs an evaluation where something is lacking.
    """
    from atomsml.uncertainty.committee import Committee
    from atomsml.uncertainty.last_layer import LastLayerUncertainty

    known = atoms.calc.results
    lacks_stress = atoms.pbc.all() and "stress" not in known
    is_uncertain = isinstance(calculator.potential, Committee | LastLayerUncertainty)
    if (lacks_stress or is_uncertain) and math.isfinite(known["energy"]):
        calculator.calculate(atoms, ["energy", "forces", "stress"])
        atoms.calc.results = {**calculator.results, **known}
