"""The EGNN layers against their equations, atom by atom, and what these promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from atomsml.nn.egnn import EGNNLayer, EGNNLayers
from atomsml.nn.linear import MLP
from atomsml.ops.activation import SILU_GAIN
from atomsml.ops.convolution import Edges

ATOMS, CHANNELS, ATTRIBUTES, NEIGHBORS = 5, 4, 2, 3.0
RECEIVER, SENDER = torch.tensor(list(itertools.permutations(range(ATOMS), 2))).T
COMPLETE = Edges.from_index(torch.stack([SENDER, RECEIVER]), ATOMS)


@pytest.fixture
def layers() -> EGNNLayers:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return EGNNLayers(CHANNELS, ATTRIBUTES, 3, NEIGHBORS, coordinate_range=2.0, moves_last=True).double()


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def silu(x: np.ndarray) -> np.ndarray:
    return SILU_GAIN * x / (1 + np.exp(-x))


def perceptron(mlp: MLP, x: np.ndarray) -> np.ndarray:
    for i, weight in enumerate(mlp.weights):
        x = (silu(x) if i > 0 else x) @ weight.detach().numpy() / np.sqrt(len(weight))
    return x


def equations(layer: EGNNLayer, h: np.ndarray, x: np.ndarray, a: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, ...]:
    """Those of the module's docstring; a[i, j] and w[i, j] belong to the edge from j to i."""
    new_h, new_x = [], []
    for i in range(len(x)):
        x_i, m_i = x[i].copy(), np.zeros(h.shape[1])
        for j in set(range(len(x))) - {i}:
            squared = np.sum((x[i] - x[j]) ** 2)
            ends = perceptron(layer.of_receiver, h[i]) + perceptron(layer.of_sender, h[j])
            first = ends + perceptron(layer.of_edge, np.array([squared, *a[i, j]]))
            m_ij = silu(perceptron(layer.message, silu(first / np.sqrt(3))))
            e_ij = w[i, j] / (1 + np.exp(-perceptron(layer.gate, m_ij)))
            phi_x = 2 / 3 * np.tanh(perceptron(layer.move.phi, m_ij))  # a range of 2 over three layers
            x_i += e_ij * phi_x * (x[i] - x[j]) / (np.sqrt(squared + 1e-8) + 1) / NEIGHBORS
            m_i += e_ij * m_ij / NEIGHBORS
        new_h.append(h[i] + perceptron(layer.update, np.concatenate([h[i], m_i])))
        new_x.append(x_i)
    return np.array(new_h), np.array(new_x)


def test_layers_are_their_equations(layers: EGNNLayers) -> None:
    h, x = normal(ATOMS, CHANNELS), normal(ATOMS, 3)
    attributes, weights = normal(ATOMS, ATOMS, ATTRIBUTES), normal(ATOMS, ATOMS).square()
    of_edge = (RECEIVER, SENDER)
    found_h, displacements = layers(h, x[SENDER] - x[RECEIVER], attributes[of_edge], weights[of_edge], COMPLETE)
    h_n, x_n = h.numpy(), x.numpy()
    for layer in layers.layers:
        h_n, x_n = equations(layer, h_n, x_n, attributes.numpy(), weights.numpy())
    np.testing.assert_allclose(found_h.detach(), h_n, rtol=0, atol=1e-12 * np.abs(h_n).max())
    np.testing.assert_allclose((x + displacements).detach(), x_n, rtol=0, atol=1e-12 * np.abs(x_n).max())


def test_features_are_invariant_and_displacements_turn_along(layers: EGNNLayers) -> None:
    rotation = torch.linalg.qr(normal(3, 3))[0]
    attributes, weights = normal(len(SENDER), ATTRIBUTES), normal(len(SENDER)).square()
    vectors = (x := normal(ATOMS, 3))[SENDER] - x[RECEIVER]
    h, step = layers(normal(ATOMS, CHANNELS), vectors, attributes, weights, COMPLETE)
    for matrix in (rotation, -rotation):  # one of them a reflection
        turned_h, turned_step = layers(normal(ATOMS, CHANNELS), vectors @ matrix, attributes, weights, COMPLETE)
        torch.testing.assert_close(turned_h, h, rtol=0, atol=1e-12 * h.abs().max().item())
        torch.testing.assert_close(turned_step, step @ matrix, rtol=0, atol=1e-12 * step.abs().max().item())
    assert step.abs().max() > 0.01


def test_atoms_stay_after_the_last_layer_of_an_energy() -> None:
    layers = EGNNLayers(CHANNELS, ATTRIBUTES, 1, NEIGHBORS, coordinate_range=2.0, moves_last=False).double()
    edges = normal(len(SENDER), 3), normal(len(SENDER), ATTRIBUTES), normal(len(SENDER)).square()
    h, step = layers(normal(ATOMS, CHANNELS), *edges, COMPLETE)
    assert not step.any()
    gradients = torch.autograd.grad(h.sum(), list(layers.parameters()))  # an unused weight would raise
    assert all(g.any() for g in gradients)


def test_smooth_where_atoms_meet(layers: EGNNLayers) -> None:
    """First and second derivatives are those of finite differences also for an edge of length zero."""
    attributes, weights = normal(len(SENDER), ATTRIBUTES), normal(len(SENDER)).square()
    x = normal(ATOMS, 3)
    x[1] = x[0]

    def last(x: torch.Tensor) -> torch.Tensor:
        h, step = layers(normal(ATOMS, CHANNELS), x[SENDER] - x[RECEIVER], attributes, weights, COMPLETE)
        return h.sum() + step.square().sum()

    # steps small beside the length 1e-4 below which a difference is no longer normalised
    x.requires_grad_()
    assert torch.autograd.gradcheck(last, (x,), eps=1e-6, atol=1e-6, rtol=1e-5)
    assert torch.autograd.gradgradcheck(last, (x,), eps=1e-7, atol=1e-4, rtol=1e-4)
