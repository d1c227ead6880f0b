"""`atomsml formation`: formation energies of crystals, and their energies above a convex hull."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from atomsml.cli.properties.command import PropertyCommand
from atomsml.cli.properties.options import FmaxOption, RelaxOption, Shared, StepsOption, with_shared_options

if TYPE_CHECKING:
    import ase
    from matplotlib.figure import Figure

    from atomsml.cli.properties.references.given import GivenReferences
    from atomsml.properties.engine import Engine
    from atomsml.properties.formation import Formation, Phase
    from atomsml.properties.task import Failure, Start


@with_shared_options
def formation(
    context: typer.Context,
    shared: Shared,
    references: Annotated[
        list[str],
        typer.Option(
            "--references",
            "-r",
            help="Structures of elements and compounds, or a folder of them, which are relaxed as well; or a table "
            "(.csv, .json) of compositions and energies in eV. Several times, of several.",
        ),
    ],
    relax: RelaxOption = True,
    fmax: FmaxOption = 0.005,
    steps: StepsOption = 500,
) -> None:
    """Formation energies of crystals, and energies above the convex hull of given references.

    Every element needs a reference of its own. References and crystals are relaxed by the same model: energies of two
    methods have no common zero.
    """
    from atomsml.cli.job import importing
    from atomsml.cli.properties.references.given import GivenReferences
    from atomsml.cli.properties.run import run

    with importing():
        from atomsml.properties.task import Start

    given = GivenReferences.read(references)
    run(context, FormationCommand(given, Start(fmax, steps, cell=True, relax=relax)), shared)


class FormationCommand(PropertyCommand["Formation"]):
    name = "formation"
    columns: ClassVar[Mapping[str, str]] = {
        "formation_energy": "formation energy eV/atom",
        "above_hull": "above the hull eV/atom",
        "mixture": "stable mixture (shares of atoms)",
        "energy_per_atom": "energy eV/atom",
    }

    def __init__(self, references: GivenReferences, start: Start) -> None:
        self.references, self.start = references, start

    def check(self, atoms: ase.Atoms) -> None:
        from atomsml.properties.formation import check

        check(atoms)

    def beside(self) -> Mapping[str, ase.Atoms | str]:
        return self.references.beside()

    def find(self, structures: Sequence[ase.Atoms], engine: Engine) -> Iterable[tuple[int, Formation | Failure]]:
        from atomsml.properties.formation import formation_energies

        elements = {symbol for atoms in structures for symbol in atoms.symbols}
        references = self.references.of(elements, engine, self.start)
        return formation_energies(structures, references, engine, self.start)

    def record(self, result: Formation) -> dict[str, Any]:
        above = 0.0 if abs(result.above_hull) < 1e-9 else result.above_hull
        notes = self.references.notes(set(result.atoms.symbols))
        if above < 0:
            notes.append("more stable than every mixture of the references: it belongs to their hull")
        return {
            "formation_energy": result.energy,
            "above_hull": above,
            "mixture": " + ".join(f"{phase.share:.3g} {phase.formula}" for phase in result.decomposition),
            "energy_per_atom": result.atoms.get_potential_energy() / len(result.atoms),
            "amounts": result.atoms.symbols.formula.count(),
            "decomposition": [{**_phase(phase), "share": phase.share} for phase in result.decomposition],
            "hull": [_phase(phase) for phase in result.hull],
            "notes": notes,
        }

    def structures(self, result: Formation) -> dict[str, Sequence[ase.Atoms]]:
        return {"-relaxed.extxyz": [result.atoms]}

    def draw(self, record: Mapping[str, Any]) -> Figure | None:
        """Of two elements, the hull along their mixtures."""
        if len(record["amounts"]) != 2:
            return None
        from matplotlib.figure import Figure

        first, second = sorted(record["amounts"])

        def place(amounts: Mapping[str, float]) -> float:
            return amounts.get(second, 0) / sum(amounts.values())

        hull = sorted((place(phase["amounts"]), phase["formation_energy_eV/atom"]) for phase in record["hull"])
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(*zip(*hull, strict=True), "o-", color="grey", markersize=5, label="hull of the references")
        for phase in record["hull"]:
            at = place(phase["amounts"]), phase["formation_energy_eV/atom"]
            above = 6 if len(phase["amounts"]) == 1 else -14  # points
            axes.annotate(phase["formula"], at, xytext=(0, above), textcoords="offset points", ha="center", fontsize=8)
        x, y = place(record["amounts"]), record["formation_energy"]
        axes.vlines(x, y - record["above_hull"], y, color="C3", linewidth=1)
        where = f"{abs(1000 * record['above_hull']):.1f} meV/atom {'below' if record['above_hull'] < 0 else 'above'}"
        axes.plot(x, y, "D", color="C3", label=f"{record['formula']}: {where}")
        axes.set_xlabel(f"{second} in {first}, fraction of atoms")
        axes.set_ylabel("formation energy, eV/atom")
        axes.margins(y=0.15)
        figure.legend(frameon=False, loc="outside lower center", ncols=2)
        return figure


def _phase(phase: Phase) -> dict[str, Any]:
    return {
        "reference": phase.name,
        "formula": phase.formula,
        "amounts": phase.amounts,
        "formation_energy_eV/atom": phase.energy,
    }
