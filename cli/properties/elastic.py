"""`atomsml elastic`: elastic constants of crystals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from atomsml.cli.properties.command import PropertyCommand
from atomsml.cli.properties.options import FmaxOption, RelaxOption, Shared, StepsOption, with_shared_options

if TYPE_CHECKING:
    import ase
    from matplotlib.figure import Figure

    from atomsml.properties.elasticity.elastic import ElasticConstants, ElasticSettings
    from atomsml.properties.engine import Engine
    from atomsml.properties.task import Failure, Start

ROUGH = 0.02  # of the stresses: a larger residual is told
STRESSED = 0.05  # of the softest constant: a larger stress at the start is told
PLANES = {"xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}


@with_shared_options
def elastic(
    context: typer.Context,
    shared: Shared,
    strain: Annotated[float, typer.Option(help="The largest strain, as a fraction.")] = 0.005,
    magnitudes: Annotated[int, typer.Option(help="How many strains up to it, each with its opposite.")] = 2,
    clamped: Annotated[bool, typer.Option("--clamped", help="Atoms stay where the strain takes them.")] = False,
    symmetry: Annotated[
        bool, typer.Option("--symmetry/--no-symmetry", help="Leave out strains that the point group makes alike.")
    ] = True,
    relax: RelaxOption = True,
    fmax: FmaxOption = 0.0005,
    steps: StepsOption = 500,
) -> None:
    """Elastic constants of crystals: the tensor, bulk and shear modulus, stability, Debye temperature.

    Crystals are relaxed with their cells. Each is strained, its atoms are relaxed again, and the stresses give the
    tensor, in the frame of the cell that is written beside it.
    """
    from atomsml.cli.job import importing
    from atomsml.cli.properties.run import run

    with importing():
        from atomsml.properties.elasticity.elastic import ElasticSettings
        from atomsml.properties.task import Start

    settings = ElasticSettings(strain, magnitudes, clamped, symmetry)
    run(context, Elastic(settings, Start(fmax, steps, cell=True, relax=relax)), shared)


class Elastic(PropertyCommand["ElasticConstants"]):
    name = "elastic"
    columns: ClassVar[Mapping[str, str]] = {
        "bulk_modulus": "bulk modulus GPa",
        "shear_modulus": "shear modulus GPa",
        "young_modulus": "Young's modulus GPa",
        "poisson_ratio": "Poisson's ratio",
        "anisotropy": "anisotropy",
        "debye_temperature": "Debye temperature K",
        "stable": "stable",
        "residual": "residual %",
    }

    def __init__(self, settings: ElasticSettings, start: Start) -> None:
        self.settings, self.start = settings, start

    def check(self, atoms: ase.Atoms) -> None:
        from atomsml.properties.elasticity.elastic import check

        check(atoms)

    def find(self, structures: Sequence[ase.Atoms], engine: Engine) -> Iterable[tuple[int, ElasticConstants | Failure]]:
        from atomsml.properties.elasticity.elastic import elastic_constants

        return elastic_constants(structures, engine, self.settings, self.start)

    def record(self, result: ElasticConstants) -> dict[str, Any]:
        tensor = result.tensor
        return {
            "bulk_modulus": tensor.bulk,
            "shear_modulus": tensor.shear,
            "young_modulus": tensor.young,
            "poisson_ratio": tensor.poisson,
            "pugh_ratio": tensor.pugh,
            "anisotropy": tensor.anisotropy,
            "debye_temperature": result.debye_temperature,
            "sound_velocity_m/s": result.sound_velocity,
            "stable": tensor.stable,
            "residual": 100 * result.residual,
            "tensor_GPa": tensor.voigt,
            "components": ["xx", "yy", "zz", "yz", "xz", "xy"],
            "cell_A": result.atoms.cell.array,
            "eigenvalues_GPa": tensor.eigenvalues,
            "bulk_voigt_GPa": tensor.bulk_voigt,
            "bulk_reuss_GPa": tensor.bulk_reuss,
            "shear_voigt_GPa": tensor.shear_voigt,
            "shear_reuss_GPa": tensor.shear_reuss,
            "independent": result.independent,
            "strains": result.strains,
            "stress_GPa": result.stress,
            "notes": notes(result),
        }

    def structures(self, result: ElasticConstants) -> dict[str, Sequence[ase.Atoms]]:
        return {"-relaxed.extxyz": [result.atoms]}

    def draw(self, record: Mapping[str, Any]) -> Figure | None:
        """Young's modulus along all directions of three planes; None of what is not stable."""
        import numpy as np
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        from atomsml.properties.elasticity.tensor import ElasticTensor

        if not record["stable"]:
            return None
        tensor = ElasticTensor(np.array(record["tensor_GPa"]))
        angles = np.linspace(0, 2 * np.pi, 361)
        directions = np.zeros((len(PLANES), len(angles), 3))
        for along, places in zip(directions, PLANES.values(), strict=True):
            along[:, places] = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        moduli = tensor.young_along(directions)
        figure = Figure(figsize=(10, 3.8), layout="constrained")
        panels = figure.subplots(1, 3, subplot_kw={"projection": "polar"})
        for axes, plane, curve in zip(panels, PLANES, moduli, strict=True):
            axes.plot(angles, curve, linewidth=1.5)
            axes.plot(angles, np.full(len(angles), tensor.young), "--", color="grey", linewidth=0.8)
            axes.set_title(f"{plane} plane", fontsize=10)
            axes.set_xticks(np.pi / 2 * np.arange(4), [plane[0], plane[1], f"-{plane[0]}", f"-{plane[1]}"])
            axes.set_ylim(0, 1.05 * moduli.max())
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.tick_params(labelsize=8)
        figure.suptitle(f"{record['formula']}: Young's modulus, GPa; dashed: of a polycrystal", fontsize=11)
        return figure


def notes(result: ElasticConstants) -> list[str]:
    """What must be said of constants that are right as they are."""
    softest, found = float(result.tensor.eigenvalues[0]), []
    if not result.tensor.stable:
        found.append(
            f"not stable: a strain lowers its energy, the softest constant is {softest:.3g} GPa; Reuss's and Hill's "
            "averages do not exist"
        )
    elif softest < result.uncertainty:
        found.append(f"hardly stable: its softest constant, {softest:.2g} GPa, is within what the fit leaves open")
    if result.residual > ROUGH:
        found.append(
            f"the fit misses {result.residual:.1%} of the stresses: the crystal may change its phase where it is "
            "strained, or fmax is too large"
        )
    if result.stress > STRESSED * abs(softest):
        found.append(f"a stress of {result.stress:.2g} GPa is left, beside constants of {softest:.2g} GPa; lower fmax")
    return found
