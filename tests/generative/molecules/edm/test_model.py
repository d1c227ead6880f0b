"""Equivariant diffusion against its paper's equations, written out here in float64 (Hoogeboom et al., 2203.17003)."""

import math
from collections.abc import Sequence

import mpmath
import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy.spatial.transform import Rotation
from scipy.stats import kstest
from torch import Tensor, nn

from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.samplers import SAMPLERS
from atomsml.generative.core.samplers.ddpm import DDPM
from atomsml.generative.molecules.edm.model import EDM, EDMConfig, draw_conditions
from atomsml.generative.molecules.edm.network import FullGraphs
from atomsml.generative.molecules.molecules import Molecules, Request, Scaffold
from atomsml.generative.molecules.set import MoleculeSet

ELEMENTS = (1, 6, 7, 8)
T = 1000
FORMULAS = {"CH4": 3, "NH3": 1, "H2O": 4}  # and how often the training set has them


def new_model(dtype: torch.dtype = torch.float64, **options: object) -> EDM:
    """Random weights, of which the last ones, too, are of order 1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = EDM(EDMConfig(ELEMENTS, num_formulas=3, **{"channels": 16, "num_layers": 2, **options}))
    for layer in model.network.layers.layers:
        layer.move.phi.weights[-1].data.mul_(1e3)
    model.network.readout.weights[-1].data.mul_(1e3)
    for row, (name, count) in enumerate(FORMULAS.items()):
        model.formulas[row] = torch.tensor([int((molecule(name).numbers == z).sum()) for z in ELEMENTS])
        model.formula_counts[row] = count
    return model.to(dtype)


def batch_of(names: Sequence[str], dtype: torch.dtype = torch.float64) -> Molecules:
    return Molecules.from_ase([molecule(name) for name in names], dtype)


def unit_noise(model: EDM, batch: Molecules, seed: int) -> dict[str, Tensor]:
    noise = SampleNoise([seed + i for i in range(len(batch))], batch.sizes.tolist(), batch.numbers.shape[1])
    return {name: noise(space).to(model.condition_mean) for name, space in model.spaces.items()}


# The paper's schedule, appendix B, and what is tabulated from it


def alpha(t: float) -> float:
    return math.sqrt((1 - 2e-5) * (1 - t**2) ** 2 + 1e-5)


def sigma(t: float) -> float:
    return math.sqrt(1 - alpha(t) ** 2)


def snr(t: float) -> float:
    return alpha(t) ** 2 / sigma(t) ** 2


def network_noise(model: EDM, z_x: np.ndarray, z_h: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
    """What the network says of one molecule."""
    graphs = FullGraphs.from_mask(torch.ones(1, len(z_x), dtype=torch.bool))
    with torch.no_grad():
        eps_x, eps_h = model.network(
            torch.from_numpy(z_x)[None],
            torch.from_numpy(z_h)[None],
            torch.tensor([t]).double(),
            torch.zeros(1, 0),
            graphs,
        )
    return eps_x[0].numpy(), eps_h[0].numpy()


def mass(low: float, high: float) -> mpmath.mpf:
    """Of the standard normal distribution; exact also far away."""
    if low > 0:
        low, high = -high, -low
    return mpmath.ncdf(high) - mpmath.ncdf(low)


def paper_bound(model: EDM, atoms, step: int, noise, noise_0) -> float:
    """-log p(x, h, N) of one molecule, term by term."""
    x = atoms.positions - atoms.positions.mean(axis=0)
    onehot = (atoms.numbers[:, None] == ELEMENTS).astype(float)
    h = np.concatenate([0.25 * onehot, 0.1 * atoms.numbers[:, None]], axis=1)
    n, (eps_x, eps_h), (eps_x0, eps_h0) = len(x), noise, noise_0
    t, s = step / T, (step - 1) / T
    hat_x, hat_h = network_noise(model, alpha(t) * x + sigma(t) * eps_x, alpha(t) * h + sigma(t) * eps_h, t)
    error = ((eps_x - hat_x) ** 2).sum() + ((eps_h - hat_h) ** 2).sum()
    total = T * 0.5 * (snr(s) / snr(t) - 1) * error
    a, v = alpha(1), sigma(1) ** 2  # KL(N(a x, v) | N(0, 1)) = 1/2 (v - 1 - log v) a degree of freedom + 1/2 |a x|^2
    total += 0.5 * (v - 1 - math.log(v)) * ((n - 1) * 3 + h.size) + 0.5 * a**2 * ((x**2).sum() + (h**2).sum())
    z_x, z_h = alpha(0) * x + sigma(0) * eps_x0, alpha(0) * h + sigma(0) * eps_h0
    hat_x, _ = network_noise(model, z_x, z_h, 0.0)
    total += (n - 1) * 3 * math.log(math.sqrt(2 * math.pi) * sigma(0) / alpha(0)) + 0.5 * ((eps_x0 - hat_x) ** 2).sum()
    for row, z in enumerate(atoms.numbers):
        width = sigma(0) / 0.25
        masses = [mass((0.5 - u) / width, (1.5 - u) / width) for u in z_h[row, :-1] / 0.25]
        total -= float(mpmath.log(masses[ELEMENTS.index(z)] / sum(masses)))
        u, width = z_h[row, -1] / 0.1, sigma(0) / 0.1
        total -= float(mpmath.log(mass((z - 0.5 - u) / width, (z + 0.5 - u) / width)))
    same = sum(count for name, count in FORMULAS.items() if len(molecule(name)) == n)
    return total - math.log(same / sum(FORMULAS.values()))


@pytest.mark.parametrize("scale", [1.0, 40.0])  # the larger one makes elements uncertain
def test_the_bound_is_that_of_the_paper(scale: float) -> None:
    model, names = new_model(), ["CH4", "NH3", "H2O"]
    batch, steps = batch_of(names), torch.tensor([1, 500, 1000])
    noise, noise_0 = unit_noise(model, batch, 0), unit_noise(model, batch, 10)
    noise_0["features"] *= scale
    with torch.no_grad():
        ours = model.nll_bound_at(batch, steps, noise, noise_0)
    for row, name in enumerate(names):
        atoms = molecule(name)
        drawn = [[eps[row, : len(atoms)].numpy() for eps in drawn.values()] for drawn in (noise, noise_0)]
        # sigma(0)^2 = 1 - alpha(0)^2 loses five digits, here and in the logarithms of the masses
        assert ours[row].item() == pytest.approx(paper_bound(model, atoms, int(steps[row]), *drawn), rel=1e-9)


def test_one_step_of_ddpm_is_that_of_the_paper() -> None:
    """mu = z_t / a_ts - s2_ts / (a_ts sigma_t) eps_hat, of deviation s_ts sigma_s / sigma_t (section 3.1)."""
    model, sizes = new_model(), [5, 3]
    state = unit_noise(model, batch_of(["CH4", "H2O"]), 0)
    t, s = 0.7, 0.699
    noise, same = (SampleNoise([7, 8], sizes, 5, torch.float64) for _ in range(2))
    predict = model.predictor(noise.mask, torch.zeros(2, 0))
    times = (torch.tensor([time, time], dtype=torch.float64) for time in (t, s))
    with torch.no_grad():
        ours = DDPM().step(predict, model.fields, state, *times, noise, T)
    drawn = {name: same(space) for name, space in model.spaces.items()}
    a_ts = alpha(t) / alpha(s)
    s2_ts = sigma(t) ** 2 - a_ts**2 * sigma(s) ** 2
    for row, n in enumerate(sizes):
        z = [state[name][row, :n].numpy() for name in state]
        for name, z_t, hat in zip(state, z, network_noise(model, *z, t), strict=True):
            mean = z_t / a_ts - s2_ts / (a_ts * sigma(t)) * hat
            z_s = mean + math.sqrt(s2_ts) * sigma(s) / sigma(t) * drawn[name][row, :n].numpy()
            np.testing.assert_allclose(ours[name][row, :n].numpy(), z_s, rtol=0, atol=1e-10)


def test_the_last_step_is_that_of_the_paper() -> None:
    """x ~ N(z_0 / alpha_0 - sigma_0 / alpha_0 eps_hat, (sigma_0 / alpha_0)^2); elements by the largest entry of z_0."""
    model = new_model()
    state = unit_noise(model, batch_of(["CH4"]), 0)
    noise, same = (SampleNoise([3], [5], 5, torch.float64) for _ in range(2))
    with torch.no_grad():
        last = model.last_step(model.predictor(noise.mask, torch.zeros(1, 0)), state, noise)
    x, h = (state[name][0].numpy() for name in ("positions", "features"))
    hat, _ = network_noise(model, x, h, 0.0)
    drawn = same(model.spaces["positions"])[0].numpy()
    expected = x / alpha(0) + sigma(0) / alpha(0) * (drawn - hat)
    np.testing.assert_allclose(last["positions"][0].numpy(), expected, rtol=0, atol=1e-10)
    assert model.decode(last, noise.mask).numbers[0].tolist() == [ELEMENTS[i] for i in h[:, :-1].argmax(axis=1)]


class Silent(nn.Module):
    """A network that predicts no noise."""

    def forward(self, x: Tensor, h: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(x), torch.zeros_like(h)


def test_the_loss_is_per_entry_and_leaves_out_elements_at_zero() -> None:
    """Without a prediction its mean is (3 (N - 1) + F N p(t > 0)) / (2 (3 + F) N); here t is 0, 1/3, 2/3 or 1."""
    model = new_model(num_timesteps=3)
    model.network = Silent()
    losses = model.loss(batch_of(["H2O"] * 2000), torch.Generator().manual_seed(0))
    expected = (3 * 2 + 5 * 3 * 3 / 4) / (2 * 8 * 3)
    assert abs(losses.mean().item() - expected) < 4 * losses.std().item() / math.sqrt(2000)


class Perfect(nn.Module):
    """E[eps | z_t] where positions are normal with the deviation `spread`, and `features` are always the same."""

    def __init__(self, spread: float, features: Tensor) -> None:
        super().__init__()
        self.spread, self.features = spread, features

    def forward(self, x: Tensor, h: Tensor, t: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        a2 = ((1 - 2e-5) * (1 - t**2) ** 2 + 1e-5)[:, None, None]
        return (1 - a2).sqrt() * x / (a2 * self.spread**2 + 1 - a2), (h - a2.sqrt() * self.features) / (1 - a2).sqrt()


@pytest.mark.parametrize(("steps", "gap"), [(1000, 5.0), (10_000, 0.5)])
def test_a_perfect_network_reaches_the_known_bound(steps: int, gap: float) -> None:
    """Positions N(0, spread^2) of five carbon atoms: every L_t is known, and the sum nears -log p from above as 1 / T.

    Pairs of draws (x, eps), (x, -eps) with |x|^2 = d spread^2 and |eps|^2 = d have the averages of all draws, exactly.
    """
    spread, d = 1.7, 12
    model = new_model(num_timesteps=steps)
    base = batch_of(["CH4"])
    numbers = torch.full((2 * steps, 5), 6)
    features = model.encode_numbers(numbers)
    model.network = Perfect(spread, features)
    x, eps = (unit_noise(model, base, seed)["positions"] for seed in (0, 1))
    x, eps = spread * math.sqrt(d) * x / x.norm(), math.sqrt(d) * eps / eps.norm()
    signs = torch.tensor([1.0, -1.0]).double().repeat(steps)[:, None, None]
    noise = {"positions": signs * eps, "features": torch.zeros_like(features)}
    batch = Molecules(numbers, x.expand(2 * steps, -1, -1))
    bound = model.nll_bound_at(batch, torch.arange(1, steps + 1).repeat_interleave(2), noise, noise).mean().item()

    def remainder(t: float) -> float:
        """Half the expected squared error of the best prediction of the noise."""
        return 0.5 * d * (alpha(t) * spread) ** 2 / ((alpha(t) * spread) ** 2 + sigma(t) ** 2)

    known = sum((snr((i - 1) / steps) / snr(i / steps) - 1) * remainder(i / steps) for i in range(1, steps + 1))
    known += remainder(0) + d * math.log(math.sqrt(2 * math.pi) * sigma(0) / alpha(0))
    prior = 0.5 * (d + features[0].numel()) * (sigma(1) ** 2 - 1 - 2 * math.log(sigma(1)))
    prior += 0.5 * alpha(1) ** 2 * (d * spread**2 + features[0].square().sum().item())
    log_p_size = math.log(3 / 8)
    assert bound == pytest.approx(known + prior - log_p_size, abs=1e-8)
    exact = d / 2 * math.log(2 * math.pi * math.e * spread**2) - log_p_size
    assert 0 < bound - exact < gap


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_the_denoiser_is_equivariant(dtype: torch.dtype, allowed: float) -> None:
    """To rotations and reflections, permutations and translations; padding changes nothing."""
    model = new_model(dtype)
    graphs = FullGraphs.from_mask(torch.tensor([[True] * 5, [True] * 3 + [False] * 2]))
    noise = SampleNoise([0, 1], [5, 3], 5, dtype)
    x, h = (noise(space) for space in model.spaces.values())
    t, c = torch.tensor([0.3, 0.8], dtype=dtype), torch.zeros(2, 0, dtype=dtype)

    def close(ours: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
        for a, b in zip(ours, expected, strict=True):
            assert (a - b).abs().max() < allowed * b.abs().max()

    with torch.no_grad():
        eps_x, eps_h = model.network(x, h, t, c, graphs)
        assert (eps_x.abs().amax(dim=(1, 2)) > 1e-2).all()
        assert eps_x.sum(dim=1).abs().max() < allowed * eps_x.abs().max()
        for sign in (1, -1):
            rotation = sign * torch.tensor(Rotation.random(random_state=0).as_matrix(), dtype=dtype)
            close(model.network(x @ rotation, h, t, c, graphs), (eps_x @ rotation, eps_h))
        order = torch.tensor([2, 0, 1, 3, 4])
        close(model.network(x[:, order], h[:, order], t, c, graphs), (eps_x[:, order], eps_h[:, order]))
        shift = torch.tensor([1.0, -2.0, 0.5], dtype=dtype) * graphs.mask[:, :, None]
        close(model.network(x + shift, h, t, c, graphs), (eps_x, eps_h))
        alone = FullGraphs.from_mask(torch.ones(1, 3, dtype=torch.bool))
        close(model.network(x[1:, :3], h[1:, :3], t[1:], c[1:], alone), (eps_x[1:, :3], eps_h[1:, :3]))
    assert (eps_x[1, 3:] == 0).all()
    assert (eps_h[1, 3:] == 0).all()


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_the_likelihood_is_invariant(dtype: torch.dtype, allowed: float) -> None:
    """A molecule that is turned, mirrored and moved, with noise that is turned with it, is as likely."""
    model, batch = new_model(dtype), batch_of(["CH4", "H2O"], dtype)
    steps = torch.tensor([50, 700])
    noise, noise_0 = unit_noise(model, batch, 0), unit_noise(model, batch, 10)
    turn = -torch.tensor(Rotation.random(random_state=1).as_matrix(), dtype=dtype)
    moved = batch.replace(positions=(batch.positions @ turn + 3.0) * batch.mask[:, :, None])
    turned = [{**drawn, "positions": drawn["positions"] @ turn} for drawn in (noise, noise_0)]
    with torch.no_grad():
        before, after = model.nll_bound_at(batch, steps, noise, noise_0), model.nll_bound_at(moved, steps, *turned)
        other = model.nll_bound_at(batch, steps, *turned)
    assert ((after - before).abs() < allowed * before.abs()).all()
    assert ((other - before).abs() > 1e-4 * before.abs()).all()


def test_random_steps_estimate_the_whole_sum() -> None:
    """The mean of `nll_bound` is that of `nll_bound_at` over all t."""
    model = new_model(num_timesteps=4)
    batch = batch_of(["H2O"] * 800)
    with torch.no_grad():
        random = model.nll_bound(batch, torch.Generator().manual_seed(0))
        steps = torch.arange(1, 5).repeat(200)
        whole = model.nll_bound_at(batch, steps, unit_noise(model, batch, 0), unit_noise(model, batch, 9000))
    error = math.hypot(random.std().item(), whole.std().item()) / math.sqrt(800)
    assert abs(random.mean() - whole.mean()) < 4 * error


def test_training_lowers_the_bound() -> None:
    """Of three real molecules, with other noise than that of training."""
    model, batch = new_model(torch.float32), batch_of(["CH4", "NH3", "H2O"] * 16, torch.float32)

    def bound() -> float:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            return torch.stack([model.nll_bound(batch, generator).mean() for _ in range(4)]).mean().item()

    before, generator = bound(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        model.loss(batch, generator).mean().backward()
        optimizer.step()
    assert bound() < before / 2


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"adaptive"}))  # which takes long with random weights
def test_samples_obey(sampler: str) -> None:
    """Sizes and elements, with a state after every step."""
    requests = [Request(1, 5), Request(2, 3, (8, 1, 1)), Request(3, 4)]
    states = list(new_model().sample(requests, 4, sampler))
    assert len(states) == 4
    result = states[-1]
    assert result.sizes.tolist() == [5, 3, 4]
    assert result.numbers[1].tolist() == [8, 1, 1, 0, 0]
    assert set(result.numbers.flatten().tolist()) <= {0, *ELEMENTS}
    assert result.positions.isfinite().all()


def test_samples_do_not_depend_on_their_batch() -> None:
    model = new_model()
    requests = [Request(1, 5), Request(2, 3), Request(3, 4, (6, 8, 1, 1))]
    *_, together = model.sample(requests, 5, "ddpm")
    for row, request in enumerate(requests):
        *_, alone = model.sample([request], 5, "ddpm")
        n = request.num_atoms
        scale = alone.positions.abs().max().item()
        torch.testing.assert_close(together.positions[row, :n], alone.positions[0], rtol=0, atol=1e-9 * scale)
        assert together.numbers[row, :n].tolist() == alone.numbers[0].tolist()


def test_a_scaffold_is_held_and_other_elements_are_drawn() -> None:
    model = new_model()
    scaffold = Scaffold((6, 8), torch.tensor([[5.0, 0.0, 0.0], [6.2, 0.0, 0.0]]))
    *_, result = model.sample([Request(1, 5), Request(2, 4, (6, 8, 1, 1))], 5, "ddpm", scaffold)
    for row in range(2):
        torch.testing.assert_close(result.positions[row, :2], scaffold.positions.double(), rtol=0, atol=1e-12)
    assert result.numbers[0, :2].tolist() == [6, 8]
    assert result.numbers[1].tolist() == [6, 8, 1, 1, 0]
    assert (result.numbers[0] > 0).all()


def test_conditions_and_guidance() -> None:
    """The guided noise is eps(unknown) + w (eps(c) - eps(unknown)), with c in mean absolute deviations."""
    model = new_model(conditions=("gap",))
    model.condition_mean[0], model.condition_scale[0] = 5.0, 2.0
    drawn = SampleNoise([4], [4], 4, torch.float64)
    x, h = (sigma(1) * drawn(space) for space in model.spaces.values())
    graphs = FullGraphs.from_mask(drawn.mask)

    def guided(x: Tensor, h: Tensor, t: float) -> list[Tensor]:
        time = torch.tensor([t], dtype=torch.float64)
        told, blind = (model.network(x, h, time, torch.tensor([[c]]).double(), graphs) for c in (1.5, math.nan))
        return [b + 3 * (a - b) for a, b in zip(told, blind, strict=True)]

    with torch.no_grad():
        eps = guided(x, h, 1.0)  # one deterministic step to t = 0, then x ~ p(x | z_0)
        x, h = (alpha(0) * (z - sigma(1) * e) / alpha(1) + sigma(0) * e for z, e in zip((x, h), eps, strict=True))
        last = drawn(model.spaces["positions"])
        expected = (x - sigma(0) * guided(x, h, 0.0)[0] + sigma(0) * last) / alpha(0)
    request, scale = Request(4, 4, conditions={"gap": 8.0}), expected.abs().max().item()
    (result,), (unguided,) = (model.sample([request], 1, "ddim", guidance=weight) for weight in (3.0, 1.0))
    torch.testing.assert_close(result.positions, expected, rtol=0, atol=1e-10 * scale)
    assert (unguided.positions - expected).abs().max() > 1e-3 * scale


@pytest.mark.parametrize(("dropout", "hidden"), [(1.0, True), (0.0, False)])
def test_training_hides_conditions(dropout: float, hidden: bool) -> None:
    model, batch = new_model(conditions=("gap",), condition_dropout=dropout), batch_of(["CH4"])
    batches = [Molecules(batch.numbers, batch.positions, None, {"gap": torch.tensor([gap])}) for gap in (1.0, 9.0)]
    losses = [model.loss(batch, torch.Generator().manual_seed(0)) for batch in batches]
    assert torch.equal(*losses) == hidden


def test_sizes_have_the_probabilities_of_the_histogram() -> None:
    got = new_model().log_probability_of_size(torch.tensor([3, 4, 5, 6])).exp()
    torch.testing.assert_close(got, torch.tensor([4 / 8, 1 / 8, 3 / 8, 0.0]).double())


def test_what_follows_from_a_training_set() -> None:
    """Each of the 5 + 3 atoms has 4 or 2 others; conditions count in mean absolute deviations from the mean."""
    images = [molecule(name) for name in ("CH4", "H2O")]
    numbers, places = [atoms.numbers for atoms in images], [atoms.positions for atoms in images]
    training = MoleculeSet.from_rows(numbers, places, [None, None], {"gap": np.array([3.0, 7.0])})
    measured = EDM.measure(training)
    assert measured == {"elements": (1, 6, 8), "num_formulas": 2, "avg_num_neighbors": (5 * 4 + 3 * 2) / 8}
    model = EDM(EDMConfig(conditions=("gap",), channels=8, num_layers=1, **measured))
    model.fit(training)
    torch.testing.assert_close(model.log_probability_of_size(torch.tensor([3, 5])).exp(), torch.tensor([0.5, 0.5]))
    asked = model.normalised_conditions({"gap": torch.tensor([3.0, 9.0])}, 2)
    torch.testing.assert_close(asked, torch.tensor([[-1.0], [2.0]]))


def test_conditions_are_drawn_given_the_size() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(3, 6, 2000)
    values = sizes + rng.random(2000)
    drawn = draw_conditions(values, sizes, [4] * 300 + [5], rng)
    assert 5 <= drawn[-1] < 6
    assert kstest(drawn[:-1] - 4, "uniform").pvalue > 1e-3
    with pytest.raises(ValueError, match="no molecule of 7 atoms"):
        draw_conditions(values, sizes, [7], rng)


def test_bad_values_get_one_line() -> None:
    with pytest.raises(ValueError, match="did you mean 'ddpm'"):
        next(new_model().sample([Request(0, 3)], 5, "dppm"))
    with pytest.raises(ValueError, match=r"does not know the atomic number 9; those it knows are 1, 6, 7, 8"):
        new_model().loss(batch_of(["HF"]), torch.Generator())
    with pytest.raises(ValueError, match="no histogram of sizes"):
        EDM(EDMConfig(ELEMENTS, channels=8, num_layers=1)).nll_bound(
            batch_of(["H2O"], torch.float32), torch.Generator()
        )
    for options in ({"condition_dropout": 1.5}, {"num_timesteps": 0}, {"num_layers": 100}, {"num_formulas": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            EDMConfig(ELEMENTS, **options)
