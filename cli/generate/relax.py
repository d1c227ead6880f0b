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
    from atomsml.potential import Predict, Prediction


@dataclass(frozen=True)
class Ranking:
    """What relaxing left."""

    kept: list[Generated]  # relaxed, the least strained first
    dropped: list[dict[str, int | str]]  # index and reason
    stop: KeyboardInterrupt | None  # after a request to stop, molecules that were not done are in neither


def relax_and_rank(molecules: Sequence[Generated], calculator: AtomsMLCalculator, held: int) -> Ranking:
    """Relax, drop what does not converge or does not keep its bonding, and rank by strain.

    The first `held` atoms, those of a scaffold, stay where they are.
    """
    from atomsml.cli.output import follow
    from atomsml.generative.molecules.relaxation import relax_molecules

    kept, dropped = list[Generated](), list[dict[str, int | str]]()
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
        typer.echo(
            f"relaxed: {changed} molecules changed their bonding and {len(dropped) - changed} did not converge; they "
            "are left out",
            err=True,
        )
    kept.sort(key=lambda molecule: (molecule.strain, molecule.index))
    return Ranking(kept, sorted(dropped, key=lambda row: row["index"]), stop)


def _predict(calculator: AtomsMLCalculator, held: int) -> Predict:
    """The calculator, but held atoms feel no force."""
    import torch

    def predict(graph: AtomicGraph) -> Prediction:
        prediction = calculator.predict_batch(graph)
        if held == 0 or prediction.forces is None:
            return prediction
        counts = torch.bincount(graph.batch)
        place = torch.arange(len(graph.batch)) - (counts.cumsum(0) - counts)[graph.batch]  # in its molecule
        free = (place >= held).to(prediction.forces)
        return dataclasses.replace(prediction, forces=prediction.forces * free[:, None])

    return predict
