"""D3: dispersion as a Predictor, and the sum of a model and dispersion as another."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from atomsml.dispersion.equations import dispersion_energies
from atomsml.dispersion.functionals import Cutoffs, Damping, damping_of
from atomsml.dispersion.host import dispersion_on_host
from atomsml.graph import AtomicGraph
from atomsml.potential import Prediction, Predictor


@dataclass(frozen=True)
class D3:
    """The dispersion energy of Grimme's D3 with the damping of Becke and Johnson; a Predictor.

        >>> from atomsml import AtomicGraph
        >>> from atomsml.dispersion import D3
        >>> prediction = D3.of("pbe")(AtomicGraph.from_smiles("c1ccccc1"))
        >>> prediction.energy.shape, prediction.forces.shape
        (torch.Size([1]), torch.Size([12, 3]))

    Whatever the graph, sums are in float64 and on the CPU; results have the type and the device of the graph, whose
    edges are not asked for. Nothing can be differentiated further: `energies` is for that.

    Raises:
        ValueError: an element beyond Lr.
        ImpossibleGeometry: positions that are not finite, or a periodic cell without a volume.
    """

    damping: Damping
    three_body: bool = False  # with the term of Axilrod, Teller and Muto
    cutoffs: Cutoffs = field(default_factory=Cutoffs)

    @staticmethod
    def of(words: str) -> D3:
        """For a functional, as "pbe", or with the three-body term, as "pbe+atm".

        Raises:
            ValueError: an unknown functional; says which there are.
        """
        _, damping, three_body = damping_of(words)
        return D3(damping, three_body)

    def __call__(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        return dispersion_on_host(graph, self.damping, self.cutoffs, self.three_body, forces, stress)

    def energies(self, graph: AtomicGraph) -> Tensor:
        """(atoms,) energies in eV, as often differentiable by positions and cell of the graph as you like.

        For small systems: it takes memory for all pairs of atoms and images at once, with the three-body term for all
        triangles.
        """
        return dispersion_energies(graph, self.damping, self.cutoffs, self.three_body)


@dataclass(frozen=True)
class WithD3:
    """What a Predictor says of the atoms, and the dispersion between them; a Predictor.

    What else it says, as standard deviations and charges, stays as it is.
    """

    predict: Predictor
    d3: D3

    def __call__(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        said = self.predict(graph, forces, stress)
        more = self.d3(graph, forces, stress)
        return replace(
            said,
            energy=said.energy + more.energy,
            atom_energies=said.atom_energies + more.atom_energies,
            forces=None if said.forces is None or more.forces is None else said.forces + more.forces,
            stress=None if said.stress is None or more.stress is None else said.stress + more.stress,
        )
