"""Optimisers: torch's own AdamW and Muon, and the singular value decomposition, are the oracles."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atomsml.potentials.mace import MACE, MACEConfig
from atomsml.training.optim.optimizers import Muon, OptimizerConfig, build_optimizer, is_matrix, orthogonalize


class Net(nn.Module):
    """Every kind of parameter: embedding, matrix, a batch of matrices, column, bias; smooth everywhere."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embedding = nn.Parameter(torch.randn(3, 6, generator=generator))
        self.first = nn.Parameter(torch.randn(6, 10, generator=generator))
        self.each = nn.Parameter(torch.randn(3, 10, 6, generator=generator))
        self.out = nn.Parameter(torch.randn(6, 1, generator=generator))
        self.bias = nn.Parameter(torch.randn(6, generator=generator))

    def forward(self, species: Tensor) -> Tensor:
        hidden = torch.tanh(self.embedding[species] @ self.first)
        mixed = torch.einsum("ac,acd->ad", hidden, self.each[species]) + self.bias
        return torch.tanh(mixed) @ self.out


SPECIES = torch.tensor([0, 1, 2, 1, 0])


def train(net: Net, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (net(SPECIES).squeeze(1) - SPECIES).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def parameters_of(net: Net, *names: str) -> list[nn.Parameter]:
    return [dict(net.named_parameters())[name] for name in names]


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adamw_is_torchs_bit_for_bit(amsgrad: bool) -> None:
    ours, theirs = Net(), Net()
    config = OptimizerConfig("adamw", learning_rate=0.03, weight_decay=0.1, betas=(0.8, 0.97), amsgrad=amsgrad)
    reference = torch.optim.AdamW(
        [
            {"params": parameters_of(theirs, "first", "each"), "weight_decay": 0.1},
            {"params": parameters_of(theirs, "embedding", "out", "bias"), "weight_decay": 0.0},
        ],
        lr=0.03,
        betas=(0.8, 0.97),
        amsgrad=amsgrad,
    )
    assert train(ours, build_optimizer(ours.named_parameters(), config), 20) == train(theirs, reference, 20)


def test_the_rest_beside_muon_follows_adamw() -> None:
    torch.manual_seed(0)
    ours = [("embedding", nn.Parameter(torch.randn(4, 5, dtype=torch.float64)))]
    theirs = copy.deepcopy(ours[0][1])
    optimizer = build_optimizer(ours, OptimizerConfig("muon", learning_rate=0.02, betas=(0.85, 0.98)))
    reference = torch.optim.AdamW([theirs], lr=0.02, betas=(0.85, 0.98), weight_decay=0.0)
    for _ in range(20):
        gradient = torch.randn(4, 5, dtype=torch.float64)
        ours[0][1].grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        reference.step()
    assert torch.allclose(ours[0][1], theirs, rtol=0, atol=1e-13)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
@pytest.mark.parametrize("shape", [(8, 8), (12, 5), (5, 12)])
def test_muon_is_torchs_to_the_rounding_of_bfloat16(shape: tuple[int, int]) -> None:
    """torch orthogonalises in bfloat16, whose rounding of 2^-8 the iteration, of slope 3.4 at 0, makes larger."""
    torch.manual_seed(0)
    ours = nn.Parameter(torch.randn(shape))
    theirs = copy.deepcopy(ours)
    start = ours.detach().clone()
    config = OptimizerConfig("muon", learning_rate=0.01, weight_decay=0.5, momentum=0.9)
    optimizer = build_optimizer([("matrix", ours)], config)
    # torch's steps are 0.2 times the learning rate: a five times larger one, with a fifth of the decay
    reference = torch.optim.Muon([theirs], lr=0.05, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        gradient = torch.randn(shape)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        reference.step()
    assert (ours - theirs).norm() < 0.05 * (ours - start).norm()


@pytest.mark.parametrize("shape", [(1, 6, 6), (1, 9, 4), (1, 4, 9), (3, 5, 7), (2, 1, 4)])
def test_orthogonalize_keeps_singular_vectors_and_levels_singular_values(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    matrices = torch.randn(shape, generator=generator, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ orthogonalize(matrices) @ v.mT  # diagonal, if the singular vectors are the same
    values = torch.diagonal(inner, dim1=-2, dim2=-1)
    assert torch.allclose(inner, torch.diag_embed(values), atol=1e-10)
    assert values.min() > 0.65
    assert values.max() < 1.25


def test_orthogonalize_leaves_zeros() -> None:
    assert torch.equal(orthogonalize(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


@pytest.mark.parametrize("size", [1e-36, 1e-24, 1e24])
def test_orthogonalize_does_not_see_the_size(size: float) -> None:
    """Squares of 1e-24 are zero in float32, and those of 1e24 infinite."""
    matrices = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(orthogonalize(size * matrices), orthogonalize(matrices), rtol=0, atol=1e-5)


def test_one_matrix_per_element_is_one_matrix_with_the_rows_of_all() -> None:
    torch.manual_seed(0)
    start, gradient = torch.randn(3, 4, 6), torch.randn(3, 4, 6)
    gradient[1] = 0.0  # an element that the batch lacks
    stacked, flat = nn.Parameter(start.clone()), nn.Parameter(start.clone().flatten(0, 1))
    stacked.grad, flat.grad = gradient.clone(), gradient.clone().flatten(0, 1)
    for parameter in (stacked, flat):
        build_optimizer([("matrix", parameter)], OptimizerConfig("muon")).step()
    assert torch.equal(stacked.flatten(0, 1), flat)
    assert torch.equal(stacked[1], start[1])


@pytest.mark.parametrize("shape", [(16, 16), (40, 8), (3, 10, 20)])
def test_a_step_of_muon_is_as_large_as_the_learning_rate(shape: tuple[int, ...]) -> None:
    """Its numbers have the root mean square learning rate times that of the singular values, which are 0.7 to 1.2."""
    torch.manual_seed(0)
    start = torch.randn(shape)
    p = nn.Parameter(start.clone())
    p.grad = torch.randn(shape)
    build_optimizer([("matrix", p)], OptimizerConfig("muon", learning_rate=0.01)).step()
    size = (p - start).square().mean().sqrt().item()
    assert 0.7 * 0.01 < size < 1.2 * 0.01


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_both_learn_at_the_same_learning_rate(name: Any) -> None:
    net = Net()
    losses = train(net, build_optimizer(net.named_parameters(), OptimizerConfig(name, learning_rate=0.03)), 150)
    assert losses[-1] < 1e-2 * losses[0]


@pytest.mark.parametrize("config", [OptimizerConfig("adamw", amsgrad=True), OptimizerConfig("muon", weight_decay=0.1)])
def test_a_restored_optimizer_goes_on_bit_for_bit(config: OptimizerConfig) -> None:
    net = Net()
    optimizer = build_optimizer(net.named_parameters(), config)
    train(net, optimizer, 3)
    state = optimizer.state_dict()
    tensors = {(i, k): v.clone() for i, s in state["state"].items() for k, v in s.items() if isinstance(v, Tensor)}
    numbers = {i: {k: v for k, v in s.items() if not isinstance(v, Tensor)} for i, s in state["state"].items()}
    groups, numbers = json.loads(json.dumps([state["param_groups"], list(numbers.items())]))  # numbers, text, lists
    restored: dict[int, dict[str, Any]] = dict(numbers)
    for (i, key), tensor in tensors.items():
        restored[i][key] = tensor
    other = Net(seed=1)
    other.load_state_dict(net.state_dict())
    again = build_optimizer(other.named_parameters(), config)
    again.load_state_dict({"state": restored, "param_groups": groups})
    assert train(net, optimizer, 5) == train(other, again, 5)


def test_the_compiler_of_torch_is_not_imported() -> None:
    """By all that a run asks of its optimiser: torch's own imports it, which takes a second."""
    code = """
import sys, torch
from atomsml.training.optim.optimizers import OptimizerConfig, build_optimizer
w = torch.nn.Parameter(torch.eye(3))
optimizer = build_optimizer([("w", w)], OptimizerConfig())
optimizer.zero_grad()
w.square().sum().backward()
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
print(w.grad is not None, "torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


def test_only_matrices_are_decayed() -> None:
    net = Net()
    before = copy.deepcopy(net)
    optimizer = build_optimizer(net.named_parameters(), OptimizerConfig("muon", learning_rate=0.1, weight_decay=0.5))
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for (name, old), new in zip(before.named_parameters(), net.parameters(), strict=True):
        factor = 1 - 0.1 * 0.5 if name in ("first", "each") else 1.0
        assert torch.allclose(new, factor * old)


def test_parameters_without_a_gradient_stay() -> None:
    net = Net()
    before = copy.deepcopy(net.state_dict())
    optimizer = build_optimizer(net.named_parameters(), OptimizerConfig("muon", weight_decay=0.5))
    optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("product", ["clebsch_gordan", "gaunt"])
def test_all_of_mace_but_embedding_columns_and_products_are_matrices(product: str) -> None:
    sizes: dict[str, Any] = {
        "channels": 4,
        "hidden_lmax": 1,
        "lmax": 1,
        "correlation": 2,
        "radial_mlp": (8,),
        "product": product,
    }
    model = MACE(MACEConfig(elements=(1, 8), **sizes))
    others = {name for name, p in model.named_parameters() if not is_matrix(name, p)}
    products = {name for name, _ in model.named_parameters() if ".product." in name}
    assert len(products) >= 4
    assert others == {"embedding", "readouts.0.weights.0", "readouts.1.weights.1"} | products


def test_an_embedding_is_what_is_called_so() -> None:
    """Not what belongs to an embedding of neighbours; a name of a low-rank update has slashes."""
    names = ("embedding", "atoms.embedding", "up.atoms/embedding", "neighbor_embedding.radial.0", "embedding.map")
    assert [is_matrix(name, torch.ones(3, 4)) for name in names] == [False, False, False, True, True]


def test_muon_has_no_matrices_of_one_row() -> None:
    optimizer = build_optimizer(Net().named_parameters(), OptimizerConfig("muon"))
    assert isinstance(optimizer, Muon)
    assert [[tuple(p.shape) for p in group["params"]] for group in optimizer.param_groups] == [
        [(6, 10), (3, 10, 6)],
        [(3, 6), (6, 1), (6,)],
    ]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"momentum": 1.5}, "momentum"),
        ({"name": "muon", "amsgrad": True}, "amsgrad belongs to adamw"),
    ],
)
def test_refuses_impossible_values(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        OptimizerConfig(**options)


def test_refuses_to_train_nothing() -> None:
    with pytest.raises(ValueError, match="nothing to train"):
        build_optimizer([], OptimizerConfig())
