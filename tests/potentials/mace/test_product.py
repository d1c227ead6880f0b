"""The two products of MACE: what they compute, and how one is contained in the other."""

import e3nn.o3
import pytest
import torch
from ase.build import molecule

from atomsml.graph import AtomicGraph
from atomsml.potential import evaluate
from atomsml.potentials.mace import MACE, MACEConfig
from atomsml.potentials.mace.product import GauntProduct, SymmetricContraction

ATOMS, ELEMENTS, CHANNELS = 60, 2, 3


@pytest.fixture
def species():
    return torch.arange(ATOMS) % ELEMENTS


def messages(lmax: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(ATOMS, (lmax + 1) ** 2, CHANNELS, generator=generator, dtype=torch.float64)


def seeded(product, *sizes: int) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return product(ELEMENTS, CHANNELS, *sizes).double().requires_grad_(False)


def test_the_gaunt_product_multiplies_functions_on_the_sphere(species):
    """Three functions of degree 1 have a product of degree 3, which lmax = 3 holds whole: it is that at any point."""
    product, message = seeded(GauntProduct, 3, 3, 3), messages(3)
    for weight in product.weights:
        weight[:, 2:] = 0
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    harmonics = [e3nn.o3.spherical_harmonics(l, points, True, "component") for l in range(4)]
    weighted = [
        sum(w[species, l, None] * (harmonics[l] @ message[:, l * l : (l + 1) ** 2]) for l in range(2))
        for w in product.weights
    ]
    scale = 4.0  # grid values are divided by sqrt((3 + 1)^2)
    first, second, third = (values / scale for values in weighted)
    expected = scale * (first + first * second + first * second * third)  # (atoms, points, channels)
    found = torch.cat(harmonics, dim=1) @ product(message, species)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_degrees_above_that_of_the_output_are_dropped(species):
    whole, part = seeded(GauntProduct, 2, 2, 2), seeded(GauntProduct, 2, 2, 1)
    assert torch.equal(part(messages(2), species), whole(messages(2), species)[:, :4])


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_the_gaunt_product_is_one_of_the_clebsch_gordan_products(species, degree):
    """Some weights of the paths of an element and a channel give it at every atom of that element."""
    message, lmax = messages(2), 2
    paths = seeded(SymmetricContraction, lmax, 3, degree)
    names = [str(k) for k, (l_out, _, _) in enumerate(paths.table.paths) if l_out == degree]
    mine = slice(degree**2, (degree + 1) ** 2)
    columns = []
    for name in names:
        for path in range(paths.get_parameter(name).shape[1]):
            for parameter in paths.parameters():
                parameter.zero_()
            paths.get_parameter(name)[:, path] = 1
            columns.append(paths(message, species)[:, mine])
    gaunt = seeded(GauntProduct, lmax, 3, degree)(message, species)[:, mine]
    for element in range(ELEMENTS):
        chosen = species == element
        for channel in range(CHANNELS):
            basis = torch.stack([column[chosen, :, channel].flatten() for column in columns], dim=1)
            wanted = gaunt[chosen, :, channel].reshape(-1, 1)
            weights = torch.linalg.lstsq(basis, wanted).solution
            torch.testing.assert_close(basis @ weights, wanted, rtol=1e-9, atol=1e-9)
            assert len(weights) < len(wanted) / 1.5  # many more equations than unknowns


def test_the_predictor_of_a_gaunt_mace_is_autograd():
    torch.manual_seed(0)
    config = MACEConfig(elements=(1, 6, 8), channels=4, lmax=1, radial_mlp=(4,), product="gaunt")
    model, graph = MACE(config).double(), AtomicGraph.from_ase(molecule("CH3CH2OH"))
    assert torch.equal(model.predictor()(graph).forces, evaluate(model, graph).forces)
