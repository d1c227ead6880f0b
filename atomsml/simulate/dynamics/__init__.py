"""How the atoms of each ensemble move: an integrator a file, and INTEGRATORS, by the names that users give.

A new one is a class in a file here and a line in the dict. The command line reads the dict before it knows whether it
needs torch, so that it holds names, not classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from atomsml.simulate.dynamics.integrator import Integrator


@dataclass(frozen=True)
class NamedIntegrator:
    """A subclass of Integrator, by its module in this folder and its name."""

    module: str
    name: str
    ensemble: Literal["nve", "nvt", "npt"]
    about: str  # for --help

    @property
    def kind(self) -> type[Integrator[Any]]:
        module = import_module(f"atomsml.simulate.dynamics.{self.module}")
        return cast("type[Integrator[Any]]", getattr(module, self.name))


INTEGRATORS: dict[str, NamedIntegrator] = {
    "nve": NamedIntegrator("nve", "NVE", "nve", "constant energy, velocity Verlet"),
    "langevin": NamedIntegrator("langevin", "Langevin", "nvt", "friction and noise on every atom, BAOAB"),
    "csvr": NamedIntegrator("csvr", "CSVR", "nvt", "random rescaling of all velocities, easy on diffusion"),
    "nose-hoover": NamedIntegrator("nose_hoover", "NoseHoover", "nvt", "a chain of thermostats without noise"),
    "mtk": NamedIntegrator("mtk", "MTK", "npt", "Martyna, Tobias and Klein: constant pressure, Nose-Hoover chains"),
    "scr": NamedIntegrator("scr", "SCR", "npt", "stochastic cell rescaling: constant pressure, by noise"),
}

CELL_MOTIONS: dict[str, str] = {  # what barostats may change: name and, for --help, meaning
    "isotropic": "the volume alone",
    "anisotropic": "the lengths of the lattice vectors, at fixed angles",
    "full": "lengths and angles",
}
