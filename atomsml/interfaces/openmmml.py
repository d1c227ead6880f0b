"""Potentials in OpenMM-ML, which finds this module by its entry point: MLPotential("atomsml", model=...).

OpenMM-ML (pip install openmmml) makes systems of a potential alone, and mixed ones of a potential and a force field.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if find_spec("openmmml") is None:
    raise ValueError('OpenMM-ML is not installed; run `pip install "atomsml[openmm]"`')

from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory

if TYPE_CHECKING:
    import openmm
    from openmm.app import Topology

OF_EMBEDDINGS = {"mlLongRange", "linkAtomDistances"}  # what createMixedSystem gives to everybody


class AtomsMLPotential(MLPotentialImpl):
    """A model for OpenMM-ML.

    Args:
        model: a name or a model file.
        device, precision, head, d3: as in `AtomsMLCalculator`.
    """

    def __init__(
        self,
        model: str | Path,
        device: str = "auto",
        precision: str = "mixed",
        head: str | None = None,
        d3: str | None = None,
    ) -> None:
        self.model, self.device, self.precision, self.head, self.d3 = model, device, precision, head, d3

    def addForces(
        self,
        topology: Topology,
        system: openmm.System,
        atoms: Iterable[int] | None,
        forceGroup: int,
        **args: Any,
    ) -> None:
        """Called by createSystem and createMixedSystem.

        Raises:
            ValueError: what `add_potential` refuses; options that belong to MLPotential.
        """
        # OpenMM-ML imports every entry point at once: it shall wait for torch only where a model is asked for
        from atomsml.interfaces.openmm import add_potential

        unknown = sorted(set(args) - OF_EMBEDDINGS)
        if unknown:
            raise ValueError(f"unknown option {unknown[0]}; model, device, precision, head, d3 go to MLPotential(...)")
        add_potential(
            system,
            topology,
            self.model,
            None if atoms is None else list(atoms),
            group=forceGroup,
            device=self.device,
            precision=self.precision,
            head=self.head,
            d3=self.d3,
        )

    def getMLLongRange(self) -> bool:
        """No: a model ends at its cutoff."""
        return False


class AtomsMLPotentialFactory(MLPotentialImplFactory):
    """What the entry point names."""

    def createImpl(
        self,
        name: str,
        model: str | Path,
        device: str = "auto",
        precision: str = "mixed",
        head: str | None = None,
        d3: str | None = None,
    ) -> AtomsMLPotential:
        """Called by MLPotential("atomsml", model=...); OpenMM-ML fixes the name of this method."""
        return AtomsMLPotential(model, device, precision, head, d3)
