"""`atomsml adsorb`: adsorption energies of a molecule or an atom on slabs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from atomsml.cli.options import one_of
from atomsml.cli.properties.command import PropertyCommand
from atomsml.cli.properties.options import FmaxOption, RelaxOption, Shared, StepsOption, with_shared_options
from atomsml.cli.properties.surfaces.options import (
    HeldOption,
    HoldOption,
    ThicknessOption,
    VacuumOption,
    miller_option,
    parse_miller,
)

if TYPE_CHECKING:
    import ase
    from matplotlib.figure import Figure

    from atomsml.properties.engine import Engine
    from atomsml.properties.surfaces.adsorb import Adsorbed, AdsorbSettings, Adsorption
    from atomsml.properties.task import Failure, Start


@with_shared_options
def adsorb(
    context: typer.Context,
    shared: Shared,
    adsorbate: Annotated[
        str, typer.Option("--adsorbate", "-a", help="What adsorbs: a file, or SMILES ([O] is an atom, O is water).")
    ],
    miller: Annotated[
        list[str] | None,
        miller_option("Inputs are crystals, cut there. Several times, of several. [default: inputs are slabs]"),
    ] = None,
    thickness: ThicknessOption = 8.0,
    vacuum: VacuumOption = 15.0,
    hold: HoldOption = "bottom",
    held: HeldOption = 0.5,
    length: Annotated[float, typer.Option(help="From one to its repetition along the surface, A, at least.")] = 8.0,
    height: Annotated[float, typer.Option(help="Of its lowest atom above those of the site, A, at first.")] = 2.0,
    orientations: Annotated[
        str, one_of(("axes", "given"), "Either end of each axis of inertia down, or only as it is given.")
    ] = "axes",
    relax: RelaxOption = True,
    fmax: FmaxOption = 0.02,
    steps: StepsOption = 500,
) -> None:
    """Adsorption energies on slabs, from every site and several orientations, and what became of each start.

    Slabs are repeated until they are wide enough. All starts on all slabs relax together.
    """
    from atomsml.cli.job import importing
    from atomsml.cli.properties.run import run

    with importing():
        from atomsml.properties.surfaces.adsorb import AdsorbSettings
        from atomsml.properties.surfaces.slabs import SlabSettings
        from atomsml.properties.task import Start

    slabs = SlabSettings(parse_miller(miller), 1, thickness, vacuum, hold, held)
    settings = AdsorbSettings(bool(miller), slabs, length, height, orientations == "axes")
    molecule = _read(adsorbate)
    typer.echo(f"adsorbate: {molecule.symbols}, {len(molecule)} atom{'s' if len(molecule) > 1 else ''}", err=True)
    made_for = None if len(molecule) == 1 else _made_for(shared.model)
    run(context, AdsorbCommand(molecule, settings, Start(fmax, steps, cell=True, relax=relax), made_for), shared)


def _read(text: str) -> ase.Atoms:
    """
    Raises:
        ValueError: not one molecule.
    """
    from atomsml.cli.job import read_records_aloud
    from atomsml.io import Refused

    records = list(read_records_aloud([text], None))
    if len(records) != 1:
        raise ValueError(f"the adsorbate {text} is {len(records)} structures; give one")
    [record] = records
    if isinstance(record, Refused):
        raise ValueError(f"adsorbate {record}")
    return record.atoms


def _made_for(model: str | None) -> str:
    """What a model was made for; the default for slabs was made for crystals."""
    from atomsml.modelfile import named_model, read_metadata
    from atomsml.uncertainty.last_layer import is_uncertainty, model_of

    if model is None:
        return "crystals"
    if named_model(model) is None and Path(model).is_dir():  # a committee
        return "unknown"
    return str(read_metadata(model_of(model) if is_uncertainty(model) else model).get("kind"))


class AdsorbCommand(PropertyCommand["Adsorption"]):
    name = "adsorb"
    columns: ClassVar[Mapping[str, str]] = {
        "surface": "surface",
        "start": "put on",
        "orientation": "orientation",
        "energy": "adsorption energy eV",
        "site": "found on",
        "nearest": "nearest atom A",
        "atoms": "atoms",
    }

    def __init__(self, adsorbate: ase.Atoms, settings: AdsorbSettings, start: Start, made_for: str | None) -> None:
        self.adsorbate, self.settings, self.start, self.made_for = adsorbate, settings, start, made_for
        self.elements = frozenset(adsorbate.symbols)

    def check(self, atoms: ase.Atoms) -> None:
        from atomsml.properties.surfaces.adsorb import check

        check(atoms, self.settings)

    def beside(self) -> Mapping[str, ase.Atoms | str]:
        return {"adsorbate": self.adsorbate}

    def find(self, structures: Sequence[ase.Atoms], engine: Engine) -> Iterable[tuple[int, Adsorption | Failure]]:
        from atomsml.properties.surfaces.adsorb import adsorption_energies

        return adsorption_energies(structures, self.adsorbate, engine, self.settings, self.start)

    def record(self, result: Adsorption) -> dict[str, Any]:
        found = [_row(each) for each in result.found]
        notes = []
        if self.made_for == "crystals":
            notes.append(f"this model was made for crystals: check its energy of {result.gas.symbols} alone")
        if len(result.gas) == 1:
            notes.append(f"energies are those of lone atoms of {result.gas.symbols}, not of a molecule of them")
        for base in result.bases:
            if not base.slab.same_faces:
                notes.append(f"the faces of the slab {base.slab.name} differ, and this is its upper one")
        unlike = sum(bool(each["notes"]) for each in found)
        if unlike:
            notes.append(f"{unlike} of {len(found)} starts went elsewhere or nowhere; notes in adsorb.csv say which")
        if found[0]["notes"]:
            notes.append(f"the lowest: {'; '.join(found[0]['notes'])}")
        return {
            "found": found,
            "unfinished": [_unfinished(each) for each in found if not each["converged"]],
            "adsorbate": str(result.gas.symbols),
            "gas_energy_eV": result.gas.get_potential_energy(),
            "slabs": [
                {
                    "surface": base.slab.name,
                    "energy_eV": base.atoms.get_potential_energy(),
                    "atoms": len(base.atoms),
                    "area_A^2": base.area,
                }
                for base in result.bases
            ],
            "notes": notes,
        }

    def rows(self, record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        return list(record["found"])

    def structures(self, result: Adsorption) -> dict[str, Sequence[ase.Atoms]]:
        frames = []
        for each in result.found:
            frames.append(each.atoms)
            frames[-1].info |= {"surface": each.surface, "put_on": each.site.name, "adsorption_energy": each.energy}
        return {
            "-adsorbed.extxyz": frames,
            "-clean.extxyz": [base.atoms for base in result.bases],
            "-alone.extxyz": [result.gas],
        }

    def draw(self, record: Mapping[str, Any]) -> Figure:
        """Energies by the places where it was put."""
        from matplotlib.figure import Figure

        places = sorted({(each["surface"], each["start"]) for each in record["found"]})
        figure = Figure(figsize=(max(5, 0.5 * len(places) + 2), 5), layout="constrained")
        axes = figure.subplots()
        for fate, marker in (("stayed", "o"), ("moved, left or broke", "x")):
            some = [each for each in record["found"] if bool(each["notes"]) == (marker == "x") and each["converged"]]
            at = [places.index((each["surface"], each["start"])) for each in some]
            axes.plot(at, [each["energy"] for each in some], marker, label=fate, markersize=5)
        axes.axhline(0, color="black", linewidth=0.5)
        axes.set_xticks(range(len(places)), [f"{surface}: {start}" for surface, start in places], rotation=90)
        axes.set_ylabel("adsorption energy, eV")
        axes.set_title(f"{record['adsorbate']} on {record['formula']}")
        axes.margins(x=0.1)
        figure.legend(frameon=False, loc="outside lower center", ncols=2)
        return figure


def _unfinished(row: Mapping[str, Any]) -> str:
    where = f"put on {row['start']} of {row['surface']}, orientation {row['orientation']}"
    return f"{where}, it {row['notes'][0]}; it may be the lowest"


def _row(each: Adsorbed) -> dict[str, Any]:
    return {
        "surface": each.surface,
        "start": each.site.name,
        "orientation": each.orientation,
        "energy": each.energy,
        "site": each.outcome.site if each.outcome.bonded else "-",
        "nearest": each.outcome.nearest,
        "atoms": len(each.atoms),
        "converged": each.outcome.converged,
        "bonded": each.outcome.bonded,
        "whole": each.outcome.whole,
        "moved": each.outcome.moved,
        "slab_moved_A": each.outcome.slab_moved,
        "notes": each.outcome.notes,
    }
