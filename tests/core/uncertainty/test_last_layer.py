"""Last-layer uncertainty: against Bayesian linear regression in numpy, and from a file."""

import os
from dataclasses import dataclass

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from torch import Tensor, nn

from atomsml import AtomsMLCalculator, modelfile
from atomsml.dataset import Columns, Dataset
from atomsml.graph import AtomicGraph
from atomsml.potential import Potential, evaluate
from atomsml.potentials.mace import MACE, MACEConfig
from atomsml.testing import assert_ase_contract
from atomsml.uncertainty.last_layer import LastLayerUncertainty, calibrate, covariance_factor, last_layer_features


@dataclass(frozen=True)
class LinearConfig:
    elements: tuple[int, ...] = (1, 18)
    cutoff: float = 4.0


class LinearPotential(Potential):
    """Energies of atoms that are linear in Gaussian functions of distances, with one set of weights per element."""

    Config = LinearConfig

    def __init__(self, config: LinearConfig) -> None:
        super().__init__(config)
        self.centres = nn.Parameter(
            torch.linspace(1.0, 3.5, 4)
        )  # not of the last layer: the energy is not linear in it
        self.hydrogen, self.argon = nn.Parameter(torch.randn(4, 1)), nn.Parameter(torch.randn(4, 1))
        self.references = torch.tensor([-13.6, -10.7], dtype=torch.float64)

    def forward(self, graph: AtomicGraph) -> Tensor:
        r = graph.edge_vectors().norm(dim=1, keepdim=True)
        basis = torch.exp(-((r - self.centres) ** 2)) * torch.cos(torch.pi * r / self.cutoff / 2) ** 2
        sums = basis.new_zeros(graph.num_atoms, 4).index_add(0, graph.edge_index[1], basis)
        species = self.species(graph.numbers)
        energies = torch.where(species[:, None] == 0, sums @ self.hydrogen, sums @ self.argon).squeeze(1)
        return energies.to(graph.dtype) + self.references[species].to(graph.dtype)

    def last_layer(self) -> list[nn.Parameter]:
        return [self.hydrogen, self.argon]


@pytest.fixture
def linear() -> LinearPotential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LinearPotential(LinearConfig()).cast(torch.float64)


def make_mace(**options: object) -> MACE:
    """Small, with random weights from a fixed seed, float64."""
    config = MACEConfig(
        **{"elements": (1, 6, 8), "cutoff": 3.5, "channels": 4, "lmax": 1, "correlation": 2, "num_bessel": 4}
        | {"radial_mlp": (8,), "readout_channels": 3, "scale": 0.5, "shift": 0.1}
        | options
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MACE(config).cast(torch.float64)


def clusters(count: int, seed: int, symbols: str = "HAr") -> list[ase.Atoms]:
    """Two to six atoms about 1.5 A apart."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        sites = rng.permutation(np.stack(np.meshgrid(*[range(2)] * 3), axis=-1).reshape(8, 3))[: rng.integers(2, 7)]
        names = rng.choice(ase.Atoms(symbols).get_chemical_symbols(), len(sites))
        found.append(ase.Atoms(names, 1.5 * sites + rng.normal(0, 0.2, sites.shape)))
    return found


def labelled(structures: list[ase.Atoms], energies: np.ndarray) -> Dataset:
    atoms, n = sum(map(len, structures)), len(structures)
    columns = Columns(
        num_atoms=np.array([len(s) for s in structures]),
        numbers=np.concatenate([s.numbers for s in structures]).astype(np.uint8),
        positions=np.concatenate([s.positions for s in structures]),
        forces=np.full((atoms, 3), np.nan),
        cell=np.zeros((n, 3, 3)),
        pbc=np.zeros((n, 3), dtype=bool),
        energy=energies,
        stress=np.full((n, 3, 3), np.nan),
        config_types=np.full(n, ""),
        groups=np.full(n, ""),
    )
    return Dataset([columns])


def graph_of(structures: list[ase.Atoms]) -> AtomicGraph:
    return AtomicGraph.from_list([AtomicGraph.from_ase(atoms) for atoms in structures])


def noisy(potential: Potential, structures: list[ase.Atoms], noise: float, seed: int) -> Dataset:
    """Labels of another model: its energies with an error of `noise` per atom."""
    graph = graph_of(structures)
    energies = evaluate(potential, graph, forces=False).energy.detach().numpy()
    errors = np.random.default_rng(seed).normal(0, noise, len(energies))
    return labelled(structures, energies + errors * graph.atoms_per_system.numpy())


def features_by_substitution(potential: Potential, graph: AtomicGraph) -> np.ndarray:
    """f_k = E(w = unit vector k) - E(w = 0): needs no derivative."""
    weights = potential.last_layer()
    size = sum(w.numel() for w in weights)
    energies = []
    for values in torch.cat([torch.zeros(1, size), torch.eye(size)]).double():
        for weight, part in zip(weights, values.split([w.numel() for w in weights]), strict=True):
            weight.data = part.reshape(weight.shape)
        energies.append(evaluate(potential, graph, forces=False).energy.numpy())
    return np.stack(energies[1:], axis=1) - energies[0][:, None]


def test_features_are_what_the_weights_multiply(linear):
    graph = graph_of(clusters(5, seed=0))
    found = last_layer_features(linear, graph)
    np.testing.assert_allclose(found, features_by_substitution(linear, graph), rtol=0, atol=1e-13)


VARIANTS = {
    "published": {},
    "one layer": {"num_layers": 1, "hidden_lmax": 0},
    "materials": {"zbl": True, "density_normalization": True, "distance_transform": "agnesi", "residual_first": False},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_energies_of_mace_are_linear_in_its_last_layer(variant):
    potential = make_mace(**VARIANTS[variant])
    graph = graph_of([molecule("CH3OH"), ase.Atoms("O"), molecule("H2O"), molecule("C2H6")])
    before = evaluate(potential, graph, forces=False).energy
    found = last_layer_features(potential, graph)
    weights = torch.cat([w.detach().flatten() for w in potential.last_layer()])
    with torch.no_grad():
        for weight in potential.last_layer():
            weight *= 2
    doubled = evaluate(potential, graph, forces=False).energy
    torch.testing.assert_close(doubled - before, found @ weights, rtol=0, atol=1e-12)
    assert (found @ weights).abs().max() > 0.1
    np.testing.assert_allclose(found, features_by_substitution(potential, graph), rtol=0, atol=1e-12)


def test_the_potential_is_left_as_it_is(linear):
    linear.requires_grad_(False)
    linear.centres.requires_grad_(True)
    state = {name: tensor.clone() for name, tensor in linear.state_dict().items()}
    last_layer_features(linear, graph_of(clusters(2, seed=0)))
    assert [w.requires_grad for w in linear.parameters()] == [True, False, False]
    assert all(w.grad is None for w in linear.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in linear.state_dict().items())


def test_an_architecture_without_a_last_layer_is_refused(pair_potential):
    dataset = labelled(clusters(2, seed=0), np.zeros(2))
    with pytest.raises(ValueError, match="SmoothLennardJones does not say in which weights its energy is linear"):
        LastLayerUncertainty.fit(pair_potential, dataset, dataset)


def test_sigma_is_that_of_bayesian_linear_regression(linear):
    """Posterior of weights with prior N(0, (alpha / zeta)^2) and noise alpha of energies per atom, in numpy."""
    train, valid, test = clusters(40, seed=1), clusters(30, seed=2), clusters(10, seed=3)
    fitted = LastLayerUncertainty.fit(linear, noisy(linear, train, 0.01, 0), noisy(linear, valid, 0.01, 1))
    alpha, zeta = fitted.facts["alpha"], fitted.facts["zeta"]
    found = fitted(graph_of(test))
    rows = features_by_substitution(linear, graph_of(train)) / np.array([len(s) for s in train])[:, None]
    precision = rows.T @ rows / alpha**2 + np.eye(8) * (zeta / alpha) ** 2
    f = features_by_substitution(linear, graph_of(test))
    variance = np.einsum("ni,ij,nj->n", f, np.linalg.inv(precision), f)
    np.testing.assert_allclose(found["energy_std"], np.sqrt(variance), rtol=1e-6)  # condition numbers up to 1e10
    assert (fitted.facts["train"], fitted.facts["valid"]) == (40, 30)


def test_the_prediction_is_that_of_the_potential(linear):
    dataset = noisy(linear, clusters(10, seed=1), 0.01, 0)
    fitted, graph = LastLayerUncertainty.fit(linear, dataset, dataset), graph_of(clusters(3, seed=2))
    found, wanted = fitted(graph, stress=True), evaluate(linear, graph, stress=True)
    for name in ("energy", "atom_energies", "forces", "stress"):
        assert torch.equal(getattr(found, name).nan_to_num(), getattr(wanted, name).nan_to_num())
    assert (set(found.atom_data), set(found.system_data)) == (set(), {"energy_std"})
    assert fitted(graph, forces=False).forces is None


def synthetic(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor, float, float]:
    """gram, features, true sigma, alpha, zeta; features of very different sizes, as networks have them."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.logspace(0, -4, 20, dtype=torch.float64)
    rows, features = (torch.randn(n, 20, generator=generator, dtype=torch.float64) * scales for n in (300, count))
    gram = rows.T @ rows
    alpha, zeta = 0.02, float(torch.linalg.eigvalsh(gram)[-1] * 1e-4) ** 0.5
    covariance = alpha**2 * torch.linalg.inv(gram + zeta**2 * torch.eye(20))
    return gram, features, (features @ covariance * features).sum(dim=1).sqrt(), alpha, zeta


def test_calibration_finds_the_gaussian_that_errors_came_from():
    gram, features, sigma, _, zeta = synthetic(4000, seed=0)
    errors = sigma * torch.randn(4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found_alpha, found_zeta = calibrate(gram, features, errors)
    found = torch.linalg.vector_norm(features @ covariance_factor(gram, found_alpha, found_zeta), dim=1)
    assert found_zeta == pytest.approx(zeta, rel=0.4)  # steps of the grid are 1.33
    # the scale of 4000 Gaussian numbers is known to 1 / sqrt(8000) = 1.1 %
    assert (found / sigma).log().mean().abs() < 0.045
    assert (errors.abs() < found).double().mean() == pytest.approx(0.683, abs=0.03)  # four standard deviations


def test_calibration_is_of_maximum_likelihood():
    gram, features, sigma, *_ = synthetic(50, seed=2)
    rng = np.random.default_rng(0)
    errors = torch.tensor(rng.standard_t(5, 50)) * sigma  # not even Gaussian
    alpha, zeta = calibrate(gram, features, errors)

    def loss(log_alpha: float, zeta: float) -> float:
        inverse = np.linalg.inv(gram.numpy() + zeta**2 * np.eye(20))
        q = np.einsum("ni,ij,nj->n", features, inverse, features)
        return -norm.logpdf(errors.numpy(), scale=np.exp(log_alpha) * np.sqrt(q)).sum()

    best = minimize_scalar(loss, args=(zeta,), bracket=(np.log(alpha) - 1, np.log(alpha) + 1))
    assert np.log(alpha) == pytest.approx(best.x, abs=1e-5)
    for other in (zeta * 10**0.125, zeta / 10**0.125):
        assert minimize_scalar(loss, args=(other,), bracket=(np.log(alpha) - 1, np.log(alpha) + 1)).fun > best.fun


def test_structures_without_an_energy_do_not_count(linear):
    structures = clusters(30, seed=1)
    whole = noisy(linear, structures, 0.01, 0)
    energies = whole.energy.copy()
    energies[::3] = np.nan
    holes, rest = labelled(structures, energies), whole.subset(np.flatnonzero(np.arange(30) % 3))
    found, wanted = (LastLayerUncertainty.fit(linear, data, data) for data in (holes, rest))
    assert found.facts == pytest.approx(wanted.facts, rel=1e-9)
    torch.testing.assert_close(found.factor, wanted.factor)
    nothing = labelled(structures, np.full(30, np.nan))
    for sets, name in (((nothing, whole), "training"), ((whole, nothing), "validation")):
        with pytest.raises(ValueError, match=f"the {name} set has no energies"):
            LastLayerUncertainty.fit(linear, *sets)


@pytest.fixture
def saved(tmp_path):
    """A model and its uncertainty in one folder: (uncertainty file, fitted)."""
    potential = make_mace()
    modelfile.save(potential, tmp_path / "model.safetensors", {"head": "gas"})
    train, valid = (noisy(potential, clusters(25, seed, "HCO"), 0.01, seed) for seed in (1, 2))
    fitted = LastLayerUncertainty.fit(potential, train, valid)
    fitted.save(tmp_path / "uncertainty.safetensors", tmp_path / "model.safetensors")
    return tmp_path / "uncertainty.safetensors", fitted


def test_round_trip(saved, tmp_path, monkeypatch):
    path, fitted = saved
    moved = tmp_path.rename(tmp_path.with_name("elsewhere"))
    monkeypatch.chdir(moved.parent)
    graph = graph_of(clusters(3, 4, "HCO"))
    for file in (moved / path.name, f"elsewhere/{path.name}"):
        again = LastLayerUncertainty.load(file)
        assert again.facts == fitted.facts
        assert torch.equal(again(graph)["energy_std"], fitted(graph)["energy_std"])


def test_as_a_calculator(saved):
    path, fitted = saved
    assert_ase_contract(AtomsMLCalculator(path, device="cpu", precision="float64"), ("C", "O", "H"), spacing=1.6)
    atoms = molecule("CH3OH")
    wanted = fitted(AtomicGraph.from_ase(atoms))
    for precision, tolerance in (("float64", 1e-12), ("mixed", 1e-3)):  # rounded features times condition numbers
        calc = AtomsMLCalculator(str(path), device="cpu", precision=precision, head="gas")
        calc.get_property("forces", atoms)
        assert set(calc.results) == {"energy", "free_energy", "energies", "forces", "energy_std"}
        assert calc.results["energy_std"] == pytest.approx(float(wanted["energy_std"]), rel=tolerance)
        np.testing.assert_allclose(calc.results["forces"], wanted.forces, rtol=0, atol=1e-4)
    assert AtomsMLCalculator(**calc.todict()).potential.facts == fitted.facts
    with pytest.raises(ValueError, match="unknown head 'liquid'"):
        AtomsMLCalculator(path, head="liquid")


def test_another_model_is_refused(saved):
    path, _ = saved
    modelfile.save(make_mace(shift=0.2), path.with_name("model.safetensors"), {})
    with pytest.raises(ValueError, match=r"was made for another model than .* is now; run `atomsml uncertainty` again"):
        LastLayerUncertainty.load(path)
    os.remove(path.with_name("model.safetensors"))
    with pytest.raises(ValueError, match=r"unknown model .*model\.safetensors': no such file"):
        LastLayerUncertainty.load(path)


def test_other_files_are_refused(saved):
    path, _ = saved
    text = path.with_name("text.safetensors")
    text.write_text("not a tensor in sight")
    for file in (path.with_name("model.safetensors"), text, path.with_name("missing.safetensors")):
        with pytest.raises(ValueError, match="is no uncertainty file"):
            LastLayerUncertainty.load(file)
    with pytest.raises(ValueError, match="without atomsml metadata"):
        modelfile.load(path)


def test_an_embedded_model_goes_by_its_name(tmp_path):
    potential = modelfile.load("organic-xtb")
    dataset = labelled(clusters(5, 1, "HCO"), np.linspace(-300.0, -100.0, 5))
    LastLayerUncertainty.fit(potential, dataset, dataset).save(tmp_path / "u.safetensors", "organic-xtb")
    assert LastLayerUncertainty.load(tmp_path / "u.safetensors").potential.config == potential.config
