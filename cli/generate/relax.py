"""Generated molecules at the nearest minimum of a potential, ranked by the strain that they had."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from atomsml.cli.generate.records import Generated

if TYPE_CHECKING:
    from atomsml.graph import AtomicGraph
    from atomsml.interfaces.ase import AtomsMLCalculator
    from atomsml.potential import Prediction, Predictor


@dataclass(frozen=True)
class Ranking:
    """What relaxing left."""

    kept: list[Generated]  # relaxed, the least strained first
    dropped: list[dict[str, int | str]]  # index and reason
    stop: KeyboardInterrupt | None  # after a request to stop, molecules that were not done are in neither


def relax_and_rank(molecules: Sequence[Generated], calculator: AtomsMLCalculator, held: int) -> Ranking:
    """Relax, drop what the model was not made for, does not converge or does not keep its bonding, and rank by strain.

    The first `held` atoms, those of a scaffold, stay where they are.
    """
    from atomsml.cli.output import follow
    from atomsml.generative.molecules.relaxation import relax_molecules

    molecules, dropped = _within_domain(molecules, calculator)
    kept, outside = list[Generated](), len(dropped)
    stop: KeyboardInterrupt | None = None
    done = relax_molecules([molecule.atoms for molecule in molecules], _predict(calculator, held))
    try:
        for relaxed in follow(done, len(molecules), "relax", lambda r: f"strain {r.strain:.1f} kcal/mol"):
            molecule = molecules[relaxed.index]
            if relaxed.converged and relaxed.bonds_kept and math.isfinite(relaxed.strain):
                kept.append(dataclasses.replace(molecule, atoms=relaxed.atoms, strain=relaxed.strain))
            else:
                reason = "its bonding changed" if relaxed.converged else "it did not converge"
                dropped.append({"index": molecule.index, "reason": reason})
    except KeyboardInterrupt as error:
        stop = error
    if dropped:
        changed = sum(row["reason"] == "its bonding changed" for row in dropped)
        counts = f"{changed} molecules changed their bonding and {len(dropped) - changed - outside} did not converge"
        strange = f", and the model was not made for {outside}" if outside else ""
        typer.echo(f"relaxed: {counts}{strange}; they are left out", err=True)
    kept.sort(key=lambda molecule: (molecule.strain, molecule.index))
    return Ranking(kept, sorted(dropped, key=lambda row: row["index"]), stop)


def _within_domain(
    molecules: Sequence[Generated], calculator: AtomsMLCalculator
) -> tuple[list[Generated], list[dict[str, int | str]]]:
    """Molecules that the model was made for, and index and reason of the others: radicals, for example."""
    fitting, others = list[Generated](), list[dict[str, int | str]]()
    for molecule in molecules:
        try:
            calculator.check(molecule.atoms)
            fitting.append(molecule)
        except ValueError as error:
            others.append({"index": molecule.index, "reason": str(error)})
    return fitting, others


def _predict(calculator: AtomsMLCalculator, held: int) -> Predictor:
    """The calculator, but held atoms feel no force."""
    import torch

    def predict(graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        prediction = calculator.predict_batch(graph, forces, stress)
        if held == 0 or prediction.forces is None:
            return prediction
        counts = torch.bincount(graph.batch)
        place = torch.arange(len(graph.batch)) - (counts.cumsum(0) - counts)[graph.batch]  # in its molecule
        free = (place >= held).to(prediction.forces)
        return dataclasses.replace(prediction, forces=prediction.forces * free[:, None])

    return predict
