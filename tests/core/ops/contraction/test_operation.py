"""The symmetric contraction: its reference against dense e3nn tensors, its kernels against the reference."""

import pytest
import torch
from e3nn import o3
from torch import Tensor

from atomsml.ops.contraction import ContractionTable, coefficients_from_weights, contract, contract_reference


@pytest.fixture(scope="module")
def table() -> ContractionTable:
    return ContractionTable(lmax=2, correlation=3, hidden_lmax=1)


def problem(
    table: ContractionTable, atoms: int, channels: int, species: int = 3, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Features and weights that require gradients, and species."""
    generator = torch.Generator().manual_seed(atoms + 100 * channels)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    weights = [normal(species, paths, channels) for _, _, paths in table.paths]
    numbers = torch.randint(species, (atoms,), generator=generator)
    return normal(atoms, table.num_components, channels), weights, numbers


def training_step(function, features: Tensor, weights: list[Tensor], species: Tensor, table: ContractionTable):  # type: ignore[no-untyped-def]
    """Output, "forces", and the gradients of a loss on both."""
    out = function(features, coefficients_from_weights(weights, table), species, table)
    (forces,) = torch.autograd.grad(out.square().sum(), features, create_graph=True)
    loss = (1e-4 * forces).pow(3).sum() + out.sin().sum()
    return [out, forces, *torch.autograd.grad(loss, [features, *weights], materialize_grads=True)]


def assert_all_close(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        scale = other.detach().abs().amax().item() if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * max(1.0, scale))


def test_reference_equals_the_dense_product_with_the_tensors_of_e3nn() -> None:
    """The cubic part with one-hot weights must be a mixture of e3nn's own symmetric tensors, and span all of them."""
    table = ContractionTable(lmax=1, correlation=3, hidden_lmax=0)
    tensors = o3.ReducedTensorProducts("ijk=jik=jki", i="0e + 1o", filter_ir_out=[o3.Irrep("0e")])
    dense = tensors.change_of_basis.double()  # (q, i, j, k)
    features = torch.randn(50, 4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    theirs = torch.einsum("qijk,ni,nj,nk->nq", dense, *[features[:, :, 0]] * 3)
    ours = []
    for path in range(dense.shape[0]):
        weights = [torch.zeros(1, paths, 1, dtype=torch.float64) for _, _, paths in table.paths]
        weights[2][0, path] = 1.0
        coefficients = coefficients_from_weights(weights, table)
        ours.append(contract_reference(features, coefficients, torch.zeros(50, dtype=torch.int64), table)[:, 0, 0])
    assert table.paths[2] == (0, 3, dense.shape[0])
    mixing = torch.linalg.lstsq(theirs, torch.stack(ours, dim=1)).solution
    assert torch.linalg.matrix_rank(mixing, atol=1e-3) == dense.shape[0]
    # the tensors of e3nn are float32
    torch.testing.assert_close(theirs @ mixing, torch.stack(ours, dim=1), rtol=0, atol=1e-5 * float(theirs.abs().max()))


def test_reference_is_the_polynomial_in_its_docstring(table: ContractionTable) -> None:
    features, weights, species = problem(table, atoms=2, channels=1)
    coefficients = coefficients_from_weights(weights, table).detach()
    expected = torch.zeros(2, table.num_outputs, 1, dtype=torch.float64)
    for n in range(2):
        row = [*features[n, :, 0].tolist(), 1.0]
        for t, (factors, output) in enumerate(zip(table.index.tolist(), table.output.tolist(), strict=True)):
            product = row[factors[0]] * row[factors[1]] * row[factors[2]]
            expected[n, output, 0] += coefficients[species[n], t, 0] * product
    out = contract_reference(features, coefficients, species, table)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_runs_describe_the_terms(table: ContractionTable) -> None:
    lengths = table.run_start.diff()
    assert torch.equal(table.run.repeat_interleave(lengths, dim=0)[:, 0], table.output)
    assert torch.equal(table.run.repeat_interleave(lengths, dim=0)[:, 1:], table.index[:, :2])
    monomials = torch.column_stack([table.output, table.index.sort(dim=1).values])
    assert len(monomials.unique(dim=0)) == len(monomials)


@pytest.mark.parametrize(("atoms", "channels"), [(0, 4), (1, 1), (1, 16), (5, 3), (7, 37)])
def test_kernels_equal_the_reference(table: ContractionTable, atoms: int, channels: int) -> None:
    step = problem(table, atoms, channels)
    assert_all_close(training_step(contract, *step, table), training_step(contract_reference, *step, table), 1e-13)


@pytest.mark.parametrize(
    ("lmax", "correlation", "hidden_lmax"), [(0, 1, 0), (1, 1, 1), (1, 2, 2), (3, 3, 1), (2, 3, 2)]
)
def test_kernels_equal_the_reference_for_every_kind_of_table(lmax: int, correlation: int, hidden_lmax: int) -> None:
    table = ContractionTable(lmax, correlation, hidden_lmax)
    step = problem(table, 3, 5)
    assert_all_close(training_step(contract, *step, table), training_step(contract_reference, *step, table), 1e-13)


def test_single_precision_is_close_to_double(table: ContractionTable) -> None:
    """Sums of about 100 terms of rounding error 6e-8, relative to the largest entry of each result."""
    features, weights, species = problem(table, 6, 17, dtype=torch.float32)
    double = (features.double().detach().requires_grad_(), [w.double().detach().requires_grad_() for w in weights])
    ours = training_step(contract, features, weights, species, table)
    assert all(result.dtype == torch.float32 for result in ours)
    expected = training_step(contract_reference, *double, species, table)
    assert_all_close([result.double() for result in ours], expected, 1e-5)


def test_strided_input_gives_the_same(table: ContractionTable) -> None:
    features, weights, species = problem(table, 4, 6)
    strided = features.detach().permute(2, 0, 1).contiguous().permute(1, 2, 0).requires_grad_()
    assert not strided.is_contiguous()
    expected = training_step(contract, features, weights, species, table)
    assert_all_close(training_step(contract, strided, weights, species.repeat_interleave(2)[::2], table), expected, 0.0)


def test_species_without_atoms_get_no_gradient(table: ContractionTable) -> None:
    features, weights, _ = problem(table, 4, 3, species=5)
    species = torch.tensor([1, 3, 3, 1])
    *_, grad = training_step(contract, features, weights, species, table)
    assert torch.equal(grad.abs().amax(dim=(1, 2)) > 0, torch.tensor([False, True, False, True, False]))


def test_equal_input_gives_equal_bits(table: ContractionTable) -> None:
    step = problem(table, 9, 33, dtype=torch.float32)
    for one, other in zip(training_step(contract, *step, table), training_step(contract, *step, table), strict=True):
        assert torch.equal(one, other)


@pytest.mark.usefixtures("both_ways")
def test_first_and_second_derivatives_by_finite_differences() -> None:
    table = ContractionTable(lmax=1, correlation=3, hidden_lmax=1)
    features, weights, species = problem(table, 2, 2, species=2)
    coefficients = coefficients_from_weights(weights, table).detach().requires_grad_()

    def function(x: Tensor, c: Tensor) -> Tensor:
        return contract(x, c, species, table)

    assert torch.autograd.gradcheck(function, (features, coefficients))
    assert torch.autograd.gradgradcheck(function, (features, coefficients))
    assert torch.autograd.gradgradcheck(lambda x: function(x, coefficients.detach()), (features,))
    assert torch.autograd.gradcheck(lambda c: function(features.detach(), c), (coefficients,))


def test_third_derivatives_are_refused_not_wrong(table: ContractionTable) -> None:
    features, weights, species = problem(table, 2, 2)
    out = contract(features, coefficients_from_weights(weights, table), species, table)
    (first,) = torch.autograd.grad(out.sum(), features, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), features, create_graph=True)
    with pytest.raises(NotImplementedError, match="third derivatives"):
        torch.autograd.grad(second.sum(), features)


def test_half_precision_goes_through_the_reference(table: ContractionTable) -> None:
    features, weights, species = problem(table, 3, 4)
    half = [w.bfloat16() for w in weights]
    coefficients = coefficients_from_weights(half, table)
    out = contract(features.bfloat16(), coefficients, species, table)
    assert torch.equal(out, contract_reference(features.bfloat16(), coefficients, species, table))


def test_wrong_input_is_refused(table: ContractionTable) -> None:
    features, weights, species = problem(table, 3, 4)
    coefficients = coefficients_from_weights(weights, table)
    with pytest.raises(ValueError, match="features have 4 components"):
        contract(features[:, :4], coefficients, species, table)
    with pytest.raises(ValueError, match="coefficients must have the shape"):
        contract(features, coefficients[:, :5], species, table)
    with pytest.raises(ValueError, match="cast one of them"):
        contract(features.float(), coefficients, species, table)
    with pytest.raises(ValueError, match="species must have the shape"):
        contract(features, coefficients, species[:2], table)
    with pytest.raises(ValueError, match=r"species must lie in 0\.\.2"):
        contract(features, coefficients, species + 3, table)
    with pytest.raises(ValueError, match="correlation 4"):
        ContractionTable(2, 4, 0)
