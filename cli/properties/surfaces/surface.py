"""`atomsml surface`: surface energies of crystals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

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
    from atomsml.properties.surfaces.slabs import SlabSettings
    from atomsml.properties.surfaces.surface import Surface, Surfaces
    from atomsml.properties.task import Failure, Start


@with_shared_options
def surface(
    context: typer.Context,
    shared: Shared,
    miller: Annotated[list[str] | None, miller_option("Several times, of several. [default: as --max-index]")] = None,
    max_index: Annotated[int, typer.Option(help="All planes up to this index that symmetry tells apart.")] = 1,
    thickness: ThicknessOption = 12.0,
    vacuum: VacuumOption = 15.0,
    hold: HoldOption = "none",
    held: HeldOption = 0.5,
    relax: RelaxOption = True,
    fmax: FmaxOption = 0.005,
    steps: StepsOption = 500,
) -> None:
    """Surface energies of crystals, and their Wulff shapes.

    Crystals are relaxed, slabs are cut from their conventional cells, and all slabs of all crystals relax together.
    With --no-relax the crystals are cut as they are; slabs relax all the same.
    """
    from atomsml.cli.job import importing
    from atomsml.cli.properties.run import run

    with importing():
        from atomsml.properties.surfaces.slabs import SlabSettings
        from atomsml.properties.task import Start

    settings = SlabSettings(parse_miller(miller), max_index, thickness, vacuum, hold, held)
    run(context, SurfaceCommand(settings, Start(fmax, steps, cell=True, relax=relax)), shared)


class SurfaceCommand(PropertyCommand["Surfaces"]):
    name = "surface"
    columns: ClassVar[Mapping[str, str]] = {
        "surface": "surface",
        "energy": "energy J/m^2",
        "energy_eV": "eV/A^2",
        "cut_energy": "unrelaxed J/m^2",
        "moved": "moved A",
        "share": "of the Wulff shape",
        "atoms": "atoms",
        "thickness": "thickness A",
    }

    def __init__(self, settings: SlabSettings, start: Start) -> None:
        self.settings, self.start = settings, start

    def check(self, atoms: ase.Atoms) -> None:
        from atomsml.properties.surfaces.surface import check

        check(atoms)

    def find(self, structures: Sequence[ase.Atoms], engine: Engine) -> Iterable[tuple[int, Surfaces | Failure]]:
        from atomsml.properties.surfaces.surface import surface_energies

        return surface_energies(structures, engine, self.settings, self.start)

    def record(self, result: Surfaces) -> dict[str, Any]:
        whole = sum(face.area for face in result.shape)
        shares = dict.fromkeys((each.slab.name for each in result.surfaces), 0.0 if result.shape else None)
        names = {each.slab.miller: each.slab.name for each in reversed(result.surfaces)}  # the lowest of each plane
        for face in result.shape:
            shares[names[face.of]] = (shares[names[face.of]] or 0.0) + face.area / whole
        surfaces = [{**_row(each), "share": shares[each.slab.name]} for each in result.surfaces]
        return {
            "surfaces": surfaces,
            "shape": [{"surface": names[face.of], "corners_eV/A^2": face.corners} for face in result.shape],
            "bulk_energy_eV/atom": result.bulk.get_potential_energy() / len(result.bulk),
            "conventional_cell_A": result.bulk.cell.array,
            "notes": [f"surface {each['surface']}: {note}" for each in surfaces for note in each["notes"]],
        }

    def rows(self, record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        return list(record["surfaces"])

    def structures(self, result: Surfaces) -> dict[str, Sequence[ase.Atoms]]:
        slabs = []
        for each in result.surfaces:
            slabs.append(each.slab.atoms)
            slabs[-1].info["surface"] = each.slab.name
        return {"-slabs.extxyz": slabs, "-bulk.extxyz": [result.bulk]}

    def draw(self, record: Mapping[str, Any]) -> Figure:
        from matplotlib import colormaps
        from matplotlib.figure import Figure

        surfaces = record["surfaces"]
        names = [each["surface"] for each in surfaces]
        colours = dict(zip(names, colormaps["tab20"].colors * len(names), strict=False))  # type: ignore[attr-defined]
        figure = Figure(figsize=(9 if record["shape"] else 5, 4), layout="constrained")
        bars = figure.add_subplot(1, 2 if record["shape"] else 1, 1)
        bars.bar(names, [each["cut_energy"] for each in surfaces], color="none", edgecolor="grey", label="as cut")
        bars.bar(names, [each["energy"] for each in surfaces], color=list(colours.values()), label="relaxed", width=0.6)
        bars.set_ylabel("surface energy, J/m²")
        bars.tick_params("x", rotation=0 if len(names) < 7 else 90)
        bars.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 1.12), ncols=2)
        if record["shape"]:
            _draw_shape(figure.add_subplot(1, 2, 2, projection="3d"), record["shape"], colours)
        figure.suptitle(record["formula"])
        return figure


def _row(each: Surface) -> dict[str, Any]:
    from atomsml.units import JOULE_PER_SQUARE_METRE as UNIT

    notes = []
    if not each.slab.same_faces:
        notes.append("its two faces differ, and the energy is the mean of both")
    if each.energy < 0:
        notes.append("the energy is negative: this model takes the crystal apart")
    return {
        "surface": each.slab.name,
        "miller": each.slab.miller,
        "termination": each.slab.termination,
        "energy": each.energy / UNIT,
        "energy_eV": each.energy,
        "cut_energy": each.cut_energy / UNIT,
        "moved": each.moved,
        "atoms": len(each.slab.atoms),
        "area_A^2": each.slab.area,
        "thickness": each.cut.thickness,
        "same_faces": each.slab.same_faces,
        "notes": notes,
    }


def _draw_shape(axes: Any, shape: Sequence[Mapping[str, Any]], colours: Mapping[str, Any]) -> None:
    import numpy as np
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    corners = [np.array(face["corners_eV/A^2"]) for face in shape]
    reach = max(np.linalg.norm(each, axis=1).max() for each in corners)
    faces = Poly3DCollection([each / reach for each in corners], edgecolor="black", linewidth=0.5)
    faces.set_facecolor([colours[face["surface"]] for face in shape])
    axes.add_collection3d(faces)
    axes.set(xlim=(-0.7, 0.7), ylim=(-0.7, 0.7), zlim=(-0.7, 0.7), box_aspect=(1, 1, 1), title="Wulff shape")
    axes.set_axis_off()
