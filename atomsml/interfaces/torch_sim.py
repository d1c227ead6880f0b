"""TorchSimModel: a potential as a model of TorchSim, whose integrators and optimizers move many systems at once.

Runs with torch-sim-atomistic 0.3.0, the newest that there is for Python 3.11, and 0.6.2, which needs 3.12. TorchSim has
lattice vectors in the columns of a cell, and says once for all systems of a state which axes are periodic.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from atomsml.device import PRECISIONS
from atomsml.electronic_state import check_graph
from atomsml.geometry import ImpossibleGeometry
from atomsml.graph import AtomicGraph
from atomsml.interfaces.ase import AtomsMLCalculator
from atomsml.interfaces.models import Model
from atomsml.neighbors.checks import CLOSEST, check_indices
from atomsml.potential import Potential, check_elements, finite
from atomsml.simulate import model as simulate

try:
    from torch_sim.models.interface import ModelInterface
except ModuleNotFoundError as error:
    missing = str(error.name).partition(".")[0]
    raise ModuleNotFoundError(f'{missing} is not installed; run `pip install "atomsml[torch-sim]"`') from None

if TYPE_CHECKING:
    from torch_sim.state import SimState


class TorchSimModel(ModelInterface):
    """What `torch_sim.optimize`, `integrate` and `static` take as their model.

        import torch_sim
        from ase.build import bulk
        from atomsml.interfaces.torch_sim import TorchSimModel

        model = TorchSimModel("universal-small")
        found = torch_sim.static([bulk("Cu"), bulk("Si")], model)

    The arguments are those of `AtomsMLCalculator`. A state must have the device and the type of the model: float32 with
    the precision float32, and float64 with the others. A neighbour list with a skin serves for many steps.

    Raises:
        ValueError: what `AtomsMLCalculator` refuses, and a state of another device or type.
        ImpossibleGeometry: atoms in one place, or another geometry whose energy or forces are not finite; TorchSim
            itself would go on with NaN.
    """

    def __init__(
        self,
        model: str | Path | Model | Sequence[str | Path | Potential],
        device: str = "auto",
        precision: str = "mixed",
        head: str | None = None,
        exact: bool = False,
        d3: str | None = None,
    ) -> None:
        super().__init__()
        self.calculator = AtomsMLCalculator(model, device, precision, head, exact, d3)
        self._device, self._dtype = self.calculator.device, PRECISIONS[precision][0]
        self._compute_forces = self._compute_stress = True
        self._engine = simulate.Model.of(self.calculator)
        self._checked: Tensor | None = None  # atomic numbers of the last call; kept, so that `is` means them

    @property
    def compute_forces(self) -> bool:
        """Whether `forward` returns forces; may be set."""
        return self._compute_forces

    @compute_forces.setter
    def compute_forces(self, wanted: bool) -> None:
        self._compute_forces = wanted

    @property
    def compute_stress(self) -> bool:
        """Whether `forward` returns stresses; may be set."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, wanted: bool) -> None:
        self._compute_stress = wanted

    def forward(self, state: SimState) -> dict[str, Tensor]:
        """Of every system of a state.

        Returns:
            "energy" (systems,) in eV, "forces" (atoms, 3) in eV/A, "stress" (systems, 3, 3) in eV/A^3, tension
            positive and NaN for a system without a volume; and under their names what else a model says, as the
            "energy_std" of a committee, or charges.
        """
        graph = self._connected(self._graph(state))
        found = finite(self._engine.predict(graph, self.compute_forces, self.compute_stress))
        known = {"energy": found.energy, "forces": found.forces, "stress": found.stress}
        known |= found.atom_data | found.system_data
        return {name: value.detach().to(self.dtype) for name, value in known.items() if value is not None}

    def _graph(self, state: SimState) -> AtomicGraph:
        if (state.device.type, state.dtype) != (self.device.type, self.dtype):
            raise ValueError(
                f"the state is {state.dtype} on {state.device}, the model {self.dtype} on {self.device}; make the "
                "state with device=model.device, dtype=model.dtype"
            )
        graph = AtomicGraph(
            positions=state.positions.detach().contiguous(),
            numbers=state.atomic_numbers.long(),
            cell=state.row_vector_cell.detach().contiguous(),
            pbc=torch.as_tensor(state.pbc, device=state.device).expand(len(state.cell), 3).contiguous(),
            batch=state.system_idx.long(),
        )
        if self._checked is not state.atomic_numbers:
            extras = getattr(state, "system_extras", {})  # where charges and spins are; 0.3 has none
            check_elements(graph.numbers.tolist(), self.calculator.potential.elements)
            name = f"the model {self.calculator.parameters['model']}"
            check_graph(graph.replace(system_data=extras), self.calculator.potential.electronic_state, name)
            self._checked = state.atomic_numbers
        return graph

    def _connected(self, graph: AtomicGraph) -> AtomicGraph:
        neighbors = self._engine.neighbors
        assert neighbors is not None
        rebuilds = neighbors.rebuilds
        connected = neighbors.update(graph)
        if neighbors.rebuilds > rebuilds and graph.device.type == "cpu":
            try:
                check_indices(connected, CLOSEST)
            except ImpossibleGeometry:
                neighbors.forget()  # whoever asks again is told again
                raise
        return connected
