"""What a user needs to test a calculator or a potential of their own: assert_ase_contract() and PotentialTests."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from atomsml import modelfile
from atomsml.graph import AtomicGraph
from atomsml.potential import Potential, Prediction, evaluate
from atomsml.testing.ase_contract import assert_ase_contract as assert_ase_contract
from atomsml.testing.devices import pretended_device

_EXACT = 1e-9  # the same sum in another order or frame, float64, relative to the largest term


P = TypeVar("P", bound=Potential)


def seeded(architecture: type[P], config: Any, seed: int = 0) -> P:
    """A potential in float64 with random weights and references, which the seed decides."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        potential = architecture(config)
    potential.references += torch.linspace(-13.6, -432.1, len(potential.elements), dtype=torch.float64)
    return potential.cast(torch.float64)


class PotentialTests:
    """The physics that every potential must obey, as pytest tests.

    Subclass it in a test module, in a class whose name starts with "Test", and supply a fixture `potential` in
    float64, of an architecture that is listed in `atomsml.potentials.POTENTIALS`:

        class TestMine(PotentialTests):
            @pytest.fixture
            def potential(self):
                return seeded(Mine, Mine.Config(elements=(1, 8)))

    Small hyperparameters keep it quick. The structures are jittered lattices, 0.4 cutoff from site to site, of all
    elements in turn: a triclinic crystal smaller than the cutoff, a slab and a cluster.

    An architecture that cannot be smooth at its cutoff, or equivariant to rounding, states by how much it is not, in
    class attributes.
    """

    # of an atom that crosses the cutoff, in units of the largest such effect of it further inside
    energy_jump: ClassVar[float] = 1e-6
    force_at_cutoff: ClassVar[float] = 1e-3
    # relative to the largest force or stress, and to the sum of the sizes of atom energies
    rotation_error: ClassVar[float] = _EXACT
    inversion_error: ClassVar[float] = _EXACT

    def test_rotation(self, potential: Potential) -> None:
        rotation, error = _random_rotation(), self.rotation_error
        for name, graph in _systems(potential).items():
            before, after = _predict(potential, graph), _predict(potential, _deform(graph, rotation))
            _close(after.energy, before.energy, f"energy of a rotated {name}", _energy_scale(before), error)
            _close(after.forces, _forces(before) @ rotation, f"forces of a rotated {name}", 0, error)
            _close(after.stress, rotation.mT @ _stress(before) @ rotation, f"stress of a rotated {name}", 0, error)

    def test_inversion(self, potential: Potential) -> None:
        error = self.inversion_error
        for name, graph in _systems(potential).items():
            inversion = -torch.eye(3, dtype=torch.float64, device=graph.device)
            before, after = _predict(potential, graph), _predict(potential, _deform(graph, inversion))
            _close(after.energy, before.energy, f"energy of an inverted {name}", _energy_scale(before), error)
            _close(after.forces, -_forces(before), f"forces of an inverted {name}", 0, error)
            _close(after.stress, before.stress, f"stress of an inverted {name}", 0, error)

    def test_permutation(self, potential: Potential) -> None:
        for name, graph in _systems(potential).items():
            order = torch.randperm(graph.num_atoms, generator=torch.Generator().manual_seed(3)).to(graph.device)
            shuffled = graph.replace(positions=graph.positions[order], numbers=graph.numbers[order])
            before, after = _predict(potential, graph), _predict(potential, shuffled)
            _close(after.atom_energies, before.atom_energies[order], f"atom energies of a permuted {name}")
            _close(after.forces, _forces(before)[order], f"forces of a permuted {name}")
            _close(after.stress, before.stress, f"stress of a permuted {name}")

    def test_lattice_translation(self, potential: Potential) -> None:
        for name, graph in _systems(potential).items():
            cells = _normal(graph.num_atoms, 3).mul(2).round().to(graph.device) * graph.pbc
            moved = graph.replace(positions=graph.positions + cells @ graph.cell[0] + 0.37)
            before, after = _predict(potential, graph), _predict(potential, moved)
            _close(after.atom_energies, before.atom_energies, f"atom energies of a {name} with atoms in other cells")
            _close(after.forces, before.forces, f"forces of a {name} with atoms in other cells")
            _close(after.stress, before.stress, f"stress of a {name} with atoms in other cells")

    def test_supercell(self, potential: Potential) -> None:
        crystal = _systems(potential)["crystal"]
        before, after = _predict(potential, crystal), _predict(potential, _repeat(crystal, (2, 1, 3)))
        _close(after.energy, 6 * before.energy, "energy of a 2x1x3 supercell", _energy_scale(after))
        _close(after.forces, _forces(before).repeat(6, 1), "forces of a 2x1x3 supercell")
        _close(after.stress, before.stress, "stress of a 2x1x3 supercell")

    def test_batch_equals_singles(self, potential: Potential) -> None:
        graphs = list(_systems(potential).values())
        together = _predict(potential, AtomicGraph.from_list(graphs))
        alone = [_predict(potential, graph) for graph in graphs]
        _close(together.atom_energies, torch.cat([p.atom_energies for p in alone]), "atom energies of a batch")
        _close(together.forces, torch.cat([_forces(p) for p in alone]), "forces of a batch")
        _close(together.stress, torch.cat([_stress(p) for p in alone]), "stress of a batch")

    def test_forces_by_finite_differences(self, potential: Potential) -> None:
        for name, graph in _systems(potential).items():
            forces = _forces(_predict(potential, graph))
            for seed in range(3):
                direction = _normal(graph.num_atoms, 3, seed=seed).to(graph.device)
                direction /= direction.norm()

                def energy(step: float, graph: AtomicGraph = graph, direction: Tensor = direction) -> Tensor:
                    moved = graph.replace(positions=graph.positions + step * direction)
                    return evaluate(potential, moved, forces=False).energy

                found = (forces * direction).sum()
                _close(found, -_slope(energy), f"forces of a {name} along a line", forces.norm().item(), 1e-6)

    def test_stress_by_finite_differences(self, potential: Potential) -> None:
        crystal = _systems(potential)["crystal"]
        stress = _stress(_predict(potential, crystal))
        volume = torch.linalg.det(crystal.cell).abs()
        for seed in range(3):
            strain = _normal(3, 3, seed=seed).to(crystal.device)  # its antisymmetric part must not count
            strain /= strain.norm()

            def energy(step: float, strain: Tensor = strain) -> Tensor:
                eye = torch.eye(3, dtype=torch.float64, device=crystal.device)
                return evaluate(potential, _deform(crystal, eye + step * strain), forces=False).energy

            found = (stress * strain).sum()
            error = max(1e-6, self.rotation_error)  # the antisymmetric part is a rotation
            _close(found, _slope(energy) / volume, "stress along a strain", stress.norm().item(), error)

    def test_smooth_at_the_cutoff(self, potential: Potential) -> None:
        for leaving in potential.elements:
            inside = [_leaving(potential, leaving, 0.5 + 0.05 * i) for i in range(9)]
            edge, gone = _leaving(potential, leaving, 1 - 1e-5), _leaving(potential, leaving, 1 + 1e-5)
            jump, typical = _jump(edge, gone), max(_jump(p, gone) for p in inside)
            _below(jump, self.energy_jump * typical, "energy jumps at the cutoff by", _energy_scale(gone))
            force, typical = (max(float(_forces(p)[-1].norm()) for p in which) for which in ([edge], inside))
            _below(force, self.force_at_cutoff * typical, "force on an atom at the cutoff is", 1e-3)
            _below(float(_forces(gone)[-1].norm()), 0, "force on an atom beyond the cutoff is", 1e-3)

    def test_isolated_atom_is_its_reference(self, potential: Potential) -> None:
        for number, reference in zip(potential.elements, potential.references.tolist(), strict=True):
            prediction = _predict(potential, _open_graph(potential, torch.zeros(1, 3), [number]))
            _close(
                prediction.energy,
                torch.tensor([reference], dtype=torch.float64),
                f"energy of one atom {number}",
                abs(reference),
            )
            _below(float(_forces(prediction).abs().max()), 0, f"force on one atom {number} is", 1)

    def test_unknown_element_is_refused(self, potential: Potential) -> None:
        unknown = next(z for z in range(1, 119) if z not in potential.elements)
        try:
            evaluate(potential, _open_graph(potential, torch.zeros(1, 3), [unknown]))
        except ValueError:
            return
        raise AssertionError(f"atomic number {unknown} is not in potential.elements but was computed")

    def test_float32_is_close_to_float64(self, potential: Potential) -> None:
        single = copy.deepcopy(potential).cast(torch.float32)
        for name, graph in _systems(potential).items():
            exact = _predict(potential, graph)
            for dtype, kind in ((torch.float32, "float32"), (torch.float64, "mixed precision")):
                found = _predict(single, graph.to(dtype=dtype))
                if found.atom_energies.dtype != dtype:
                    raise AssertionError(f"atom energies of a {dtype} graph are {found.atom_energies.dtype}")
                _close(found.atom_energies, exact.atom_energies, f"{kind} atom energies of a {name}", 1.0, 1e-4)
                _close(found.forces, exact.forces, f"{kind} forces of a {name}", 0.0, 1e-3)

    def test_save_and_load(self, potential: Potential, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        modelfile.save(potential, path, {})
        again = modelfile.load(path)
        if again.config != potential.config:
            raise AssertionError(f"config changed by save and load: {again.config} from {potential.config}")
        for name, graph in _systems(potential).items():
            before, after = evaluate(potential, graph), evaluate(again.to(graph.device), graph)
            _close(after.atom_energies, before.atom_energies, f"atom energies of a {name} after save and load", 0, 0)
            _close(after.forces, before.forces, f"forces of a {name} after save and load", 0, 0)

    def test_energy_is_linear_in_the_last_layer(self, potential: Potential) -> None:
        """If the potential says which weights those are: an energy for each of 0, 1 and 2 times them is on one line."""
        try:
            potential.last_layer()
        except ValueError:
            return
        graph, energies = _systems(potential)["cluster"], []
        for factor in (0.0, 1.0, 2.0):
            scaled = copy.deepcopy(potential)
            for weight in scaled.last_layer():
                weight.data *= factor
            energies.append(evaluate(scaled, graph, forces=False))
        scale = max(_energy_scale(each) for each in energies)
        zero, one, two = (each.energy for each in energies)
        _close(two - one, one - zero, "energy for twice the last layer, less that for once", scale)
        if not float((one - zero).abs().max()) > 1e-9 * scale:
            raise AssertionError("the weights of last_layer() do not change the energy")

    def test_another_device(self, potential: Potential) -> None:
        """On a GPU, or on what is held to the rules of one, such as that no tensor stays behind on the CPU."""
        expected = {name: _predict(potential, graph) for name, graph in _systems(potential).items()}
        with pretended_device("cuda") as device:
            elsewhere = copy.deepcopy(potential).to(device)
            for name, graph in _systems(potential).items():
                try:
                    found = _predict(elsewhere, graph.to(device))
                except (RuntimeError, TypeError) as error:
                    raise AssertionError(f"a {name} cannot be computed on {device}: {error}") from error
                before, energy, forces = expected[name], found.energy.to(graph.device), _forces(found).to(graph.device)
                _close(energy, before.energy, f"energy of a {name} on {device}", _energy_scale(before))
                _close(forces, _forces(before), f"forces of a {name} on {device}")

    def test_derivatives_of_forces(self, potential: Potential) -> None:
        """Training on forces differentiates them again, by positions and by weights."""
        graph = _systems(potential)["cluster"].with_neighbors(potential.cutoff)
        names = [name for name, _ in potential.named_parameters()]
        start = [graph.positions, *(weight.detach() for weight in potential.parameters())]
        projection = _normal(graph.num_atoms, 3, seed=1).to(graph.device)

        def gradient(inputs: list[Tensor], create_graph: bool = False) -> Tensor:
            """dE/dpositions along the projection."""
            named = dict(zip(names, inputs[1:], strict=True))
            energies: Tensor = torch.func.functional_call(potential, named, (graph.replace(positions=inputs[0]),))
            (found,) = torch.autograd.grad(energies.sum(), inputs[0], create_graph=create_graph)
            return (found * projection).sum()

        inputs = [x.clone().requires_grad_() for x in start]
        try:
            second = torch.autograd.grad(gradient(inputs, create_graph=True), inputs, materialize_grads=True)
        except RuntimeError as error:
            raise AssertionError(f"forces cannot be differentiated again: {error}") from error
        for which, what in ((slice(0, 1), "positions"), (slice(1, None), "weights")):
            along = [torch.zeros_like(x) for x in start]
            along[which] = [_normal(*x.shape, seed=2).to(x) for x in start[which]]

            def moved(step: float, along: list[Tensor] = along) -> Tensor:
                return gradient([(x + step * d).requires_grad_() for x, d in zip(start, along, strict=True)])

            found = sum(((g * d).sum() for g, d in zip(second, along, strict=True)), start=torch.zeros(()))
            scale = max(float(g.abs().max()) for g in second[which])
            _close(found, _slope(moved, 1e-4), f"derivative of forces by {what}", scale, 1e-5)


def _systems(potential: Potential) -> dict[str, AtomicGraph]:
    """A crystal, a slab whose open axis has no vector, and a cluster; see PotentialTests."""
    spacing = 0.4 * potential.cutoff
    cell = spacing * torch.tensor([[2.0, 0.0, 0.0], [0.3, 1.9, 0.0], [-0.2, 0.4, 1.2]], dtype=torch.float64)
    sites = torch.tensor([[0, 0, 0], [0, 0.5, 0], [0.5, 0, 0], [0.5, 0.5, 0]], dtype=torch.float64)
    positions = sites @ cell + 0.1 * spacing * _normal(4, 3).clamp(-1, 1)
    numbers = [potential.elements[i % len(potential.elements)] for i in range(4)]
    crystal = _open_graph(potential, positions, numbers).replace(
        cell=cell[None].to(potential.references.device),
        pbc=torch.ones(1, 3, dtype=torch.bool, device=potential.references.device),
    )
    along_c = torch.tensor([False, False, True], device=crystal.device)
    slab = crystal.replace(cell=crystal.cell.masked_fill(along_c[:, None], 0), pbc=crystal.pbc & ~along_c)
    return {"crystal": crystal, "slab": slab, "cluster": _open_graph(potential, positions, numbers)}


def _open_graph(potential: Potential, positions: Tensor, numbers: list[int]) -> AtomicGraph:
    return AtomicGraph(
        positions=positions.double(),
        numbers=torch.tensor(numbers),
        cell=torch.zeros(1, 3, 3, dtype=torch.float64),
        pbc=torch.zeros(1, 3, dtype=torch.bool),
        batch=torch.zeros(len(numbers), dtype=torch.int64),
    ).to(potential.references.device)


def _leaving(potential: Potential, number: int, fraction: float) -> Prediction:
    """A pair, and a third atom (the last) at `fraction` of the cutoff from one of them, out of reach of the other."""
    x = torch.tensor([-0.4, 0.0, fraction], dtype=torch.float64) * potential.cutoff
    direction = torch.tensor([0.6, 0.48, 0.64], dtype=torch.float64)  # off the axes
    bent = torch.tensor([[0.0, 0.3, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64) * potential.cutoff
    numbers = [potential.elements[0], potential.elements[-1], number]
    return _predict(potential, _open_graph(potential, x[:, None] * direction - bent, numbers))


def _jump(one: Prediction, other: Prediction) -> float:
    return float((one.atom_energies - other.atom_energies).abs().max())


def _repeat(graph: AtomicGraph, times: tuple[int, int, int]) -> AtomicGraph:
    images = torch.tensor(list(itertools.product(*map(range, times))), dtype=graph.dtype, device=graph.device)
    return graph.replace(
        positions=((images @ graph.cell[0])[:, None] + graph.positions).flatten(0, 1),
        numbers=graph.numbers.repeat(len(images)),
        cell=graph.cell * torch.tensor(times, device=graph.device)[:, None],
        batch=graph.batch.repeat(len(images)),
    )


def _deform(graph: AtomicGraph, matrix: Tensor) -> AtomicGraph:
    return graph.replace(positions=graph.positions @ matrix, cell=graph.cell @ matrix)


def _predict(potential: Potential, graph: AtomicGraph) -> Prediction:
    return evaluate(potential, graph, stress=True)


def _forces(prediction: Prediction) -> Tensor:
    assert prediction.forces is not None  # asked for in _predict
    return prediction.forces


def _stress(prediction: Prediction) -> Tensor:
    assert prediction.stress is not None
    return prediction.stress


def _energy_scale(prediction: Prediction) -> float:
    """The size of the terms of an energy, which its rounding error follows, rather than that of their sum."""
    return float(prediction.atom_energies.abs().sum())


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _random_rotation() -> Tensor:
    q, r = torch.linalg.qr(_normal(3, 3, seed=7))
    q = q * r.diagonal().sign()
    return q * torch.linalg.det(q)  # det -1 would be a mirror


def _slope(function: Callable[[float], Tensor], step: float = 1e-3) -> Tensor:
    """Derivative at 0 by the five-point formula, error of order step**4."""
    near, far = function(step) - function(-step), function(2 * step) - function(-2 * step)
    return (8 * near - far) / (12 * step)


def _close(
    found: Tensor | None, wanted: Tensor | None, what: str, scale: float = 0.0, relative: float = _EXACT
) -> None:
    """Compare, with a tolerance relative to the largest value or to `scale` if that is larger; NaN equals NaN."""
    assert found is not None  # _predict asks for forces and stress
    assert wanted is not None
    found, wanted = (x.detach().cpu().double() for x in (found, wanted))
    scale = max([scale, *wanted[wanted.isfinite()].abs().tolist()])
    if not torch.allclose(found, wanted, rtol=0, atol=relative * scale, equal_nan=True):
        error = (found - wanted).abs().max().item()
        raise AssertionError(f"{what}: off by {error:.3g}, allowed {relative * scale:.3g}")


def _below(found: float, allowed: float, what: str, scale: float) -> None:
    """Compare with an upper bound, which rounding of a number of size `scale` may exceed."""
    allowed += 1e-12 * scale
    if not found <= allowed or math.isnan(found):
        raise AssertionError(f"the {what} {found:.3g}, allowed {allowed:.3g}")
