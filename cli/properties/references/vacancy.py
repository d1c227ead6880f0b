"""`atomsml vacancy`: formation energies of vacancies in crystals."""

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
    from atomsml.properties.task import Failure, Start
    from atomsml.properties.vacancy import Vacancies, Vacancy, VacancySettings


@with_shared_options
def vacancy(
    context: typer.Context,
    shared: Shared,
    references: Annotated[
        list[str] | None,
        typer.Option(
            "--references",
            "-r",
            help="Structures of elements, or a folder or a table of them, as of `formation`: where the atom goes. "
            "A compound needs those of all its elements. [default: an elemental crystal itself]",
        ),
    ] = None,
    length: Annotated[float, typer.Option(help="Between opposite faces of the supercell, A, at least.")] = 10.0,
    relax: RelaxOption = True,
    fmax: FmaxOption = 0.005,
    steps: StepsOption = 500,
) -> None:
    """Formation energies of vacancies, one for each kind of atom that symmetry tells apart.

    Crystals are relaxed, a supercell loses an atom, and the others relax in its cell. Vacancies are neutral.
    """
    from atomsml.cli.job import importing
    from atomsml.cli.properties.references.given import GivenReferences
    from atomsml.cli.properties.run import run

    with importing():
        from atomsml.properties.task import Start
        from atomsml.properties.vacancy import VacancySettings

    given, start = GivenReferences.read(references or []), Start(fmax, steps, cell=True, relax=relax)
    run(context, VacancyCommand(VacancySettings(length), given, start), shared)


class VacancyCommand(PropertyCommand["Vacancies"]):
    name = "vacancy"
    columns: ClassVar[Mapping[str, str]] = {
        "element": "vacancy of",
        "site": "site",
        "energy": "formation energy eV",
        "rigid_energy": "unrelaxed eV",
        "moved": "moved A",
        "atoms": "atoms without it",
    }

    def __init__(self, settings: VacancySettings, references: GivenReferences, start: Start) -> None:
        self.settings, self.references, self.start = settings, references, start

    def check(self, atoms: ase.Atoms) -> None:
        from atomsml.properties.vacancy import check

        check(atoms)

    def beside(self) -> Mapping[str, ase.Atoms | str]:
        return self.references.beside()

    def find(self, structures: Sequence[ase.Atoms], engine: Engine) -> Iterable[tuple[int, Vacancies | Failure]]:
        from atomsml.properties.references import elemental
        from atomsml.properties.vacancy import vacancies

        elements = {symbol for atoms in structures for symbol in atoms.symbols}
        potentials = elemental(self.references.of(elements, engine, self.start))
        return vacancies(structures, engine, self.settings, self.start, potentials)

    def record(self, result: Vacancies) -> dict[str, Any]:
        return {
            "vacancies": [_row(each) for each in result.vacancies],
            "chemical_potentials_eV": result.potentials,
            "supercell_atoms": len(result.supercell),
            "supercell_A": result.supercell.cell.array,
            "energy_of_the_supercell_eV": result.supercell.get_potential_energy(),
            "notes": self.references.notes(set(result.bulk.symbols)),
        }

    def rows(self, record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        return [{**each, "notes": record["notes"]} for each in record["vacancies"]]

    def structures(self, result: Vacancies) -> dict[str, Sequence[ase.Atoms]]:
        frames = []
        for each in result.vacancies:
            frames.append(each.atoms)
            frames[-1].info["vacancy"] = f"{each.site.element} {each.site.multiplicity}{each.site.wyckoff}"
        return {"-vacancies.extxyz": frames, "-supercell.extxyz": [result.supercell]}

    def draw(self, record: Mapping[str, Any]) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 4), layout="constrained")
        axes = figure.subplots()
        names = [f"{each['element']} {each['site']}" for each in record["vacancies"]]
        axes.bar(
            names, [each["rigid_energy"] for each in record["vacancies"]], color="none", edgecolor="grey", label="rigid"
        )
        axes.bar(names, [each["energy"] for each in record["vacancies"]], width=0.6, label="relaxed")
        axes.axhline(0, color="black", linewidth=0.5)
        axes.set_ylabel("formation energy, eV")
        axes.set_title(f"{record['formula']}: supercell of {record['supercell_atoms']} atoms")
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
        return figure


def _row(each: Vacancy) -> dict[str, Any]:
    return {
        "element": each.site.element,
        "site": f"{each.site.multiplicity}{each.site.wyckoff}",
        "site_symmetry": each.site.symmetry,
        "energy": each.energy,
        "rigid_energy": each.rigid_energy,
        "moved": each.moved,
        "atoms": len(each.atoms),
    }
