"""The weights of a MACE `.model` file, brought to the conventions of this package.

Beside what checkpoint_records.py says:

| in the file | here |
|---|---|
| one-hot elements times a matrix | one row per element |
| couplings U, redundant, over all (i, j, k) | our basis of symmetric polynomials: `_product_weights` |
| columns of every head in readouts and E0 | those of one head |

All arithmetic is in float64, also for files in float32.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from atomsml.modelfile.inert_pickle import Record
from atomsml.o3.coupling import symmetric_basis
from atomsml.ops.activation import SILU_GAIN
from atomsml.potentials.mace.checkpoint_gated import gated_interaction
from atomsml.potentials.mace.checkpoint_records import (
    columns_of_paths,
    fan_in,
    gain_of,
    irreps,
    linear_matrices,
    named,
    paths_of,
    rows_of_paths,
)
from atomsml.potentials.mace.model import MACEConfig


def state_dict(tree: Record, config: MACEConfig, head: int) -> dict[str, Tensor]:
    """The state dict of our MACE, in float64; `head` is the number of the head."""
    references = torch.atleast_2d(tree.tensor("atomic_energies_fn.atomic_energies").double())
    state = {
        "references": references[head],
        "embedding": linear_matrices(tree.record("node_embedding.linear"))[0],
    }
    if config.distance_transform == "agnesi":
        transform = tree.record("radial_embedding.distance_transform")
        state["radial_basis.agnesi.parameters_qpa"] = _numbers(transform, "q", "p", "a")
    if config.zbl:
        state["zbl.screening"] = _numbers(tree.record("pair_repulsion_fn"), "a_exp", "a_prefactor")
    for i, (block, product) in enumerate(zip(tree.records("interactions"), tree.records("products"), strict=True)):
        interaction = gated_interaction if config.interaction == "gated" else _interaction
        layer = {**interaction(block, config), **_product(product, config)}
        state.update({f"layers.{i}.{name}": value for name, value in layer.items()})
    for i, readout in enumerate(tree.records("readouts")):
        weights = _readout(readout, head, config)
        state.update({f"readouts.{i}.weights.{k}": weight for k, weight in enumerate(weights)})
    return state


def _numbers(record: Record, *names: str) -> Tensor:
    return torch.tensor([record.number(name) for name in names], dtype=torch.float64)


def _interaction(block: Record, config: MACEConfig) -> dict[str, Tensor]:
    """linear_up, radial, density, linear and skip of one layer."""
    ours, theirs = paths_of(block, config)
    *radial, last = _radial(block.record("conv_tp_weights"))
    radial.append(columns_of_paths(last, ours, theirs))
    linear = rows_of_paths(linear_matrices(block.record("linear")), ours, theirs)
    skip = _per_element(block.record("skip_tp"))
    skip_scale = math.sqrt(len(config.elements) * config.channels)
    state = {
        **named("linear_up", fan_in(linear_matrices(block.record("linear_up")))),
        **named("linear", fan_in(linear)),
        **named("radial", dict(enumerate(radial))),
        **named("skip", {l: weight * skip_scale for l, weight in skip.items()}),
    }
    return {**state, "density.weights.0": _radial(block.record("density_fn"))[0]} if "density_fn" in block else state


def _product(product: Record, config: MACEConfig) -> dict[str, Tensor]:
    """The weights of the symmetric contraction and the linear map behind it."""
    weights = [
        _product_weights(contraction, config.lmax, l_out, degree)
        for l_out, contraction in enumerate(product.records("symmetric_contractions.contractions"))
        for degree in range(1, config.correlation + 1)
    ]
    return {
        **{f"product.{k}": weight for k, weight in enumerate(weights)},
        **named("linear_out", fan_in(linear_matrices(product.record("linear")))),
    }


def _readout(readout: Record, head: int, config: MACEConfig) -> list[Tensor]:
    """The matrices of one readout, cut to one head: heads mask each other's hidden channels."""
    if "linear" in readout:
        weight = linear_matrices(readout.record("linear"))[0]
        return [weight[:, head : head + 1] * math.sqrt(config.channels)]
    hidden = slice(head * config.readout_channels, (head + 1) * config.readout_channels)
    scale = _silu_scale(readout.record("non_linearity.acts.0"))
    first, second = linear_matrices(readout.record("linear_1"))[0], linear_matrices(readout.record("linear_2"))[0]
    return [
        first[:, hidden] * math.sqrt(config.channels),
        second[hidden, head : head + 1] * (scale * math.sqrt(config.readout_channels)),
    ]


def _per_element(product: Record) -> dict[int, Tensor]:
    """l -> (elements, inputs, outputs) of the product of features and one-hot elements."""
    weight = product.tensor("weight").double()
    blocks: dict[int, Tensor] = {}
    start = 0
    for instruction in product.get("instructions"):
        i_in, _, _, _, _, path_weight, shape = instruction.arguments
        degree = irreps(product, "irreps_in1")[i_in][1]
        # the coupling of l with a scalar is the identity over sqrt(2 l + 1)
        block = weight[start : start + math.prod(shape)].view(shape) * (path_weight / math.sqrt(2 * degree + 1))
        blocks[degree] = block.movedim(1, 0)
        start += math.prod(shape)
    return blocks


def _radial(net: Record) -> list[Tensor]:
    """Matrices (inputs, outputs) of a radial network, which is normalised as ours is."""
    matrices = []
    scale = 1.0
    for k in range(len(net.get("hs")) - 1):
        layer = net.record(f"layer{k}")
        matrices.append(layer.tensor("weight").double() * scale)
        scale = _silu_scale(layer.record("act")) if "act" in layer else 1.0
    return matrices


def _silu_scale(activation: Record) -> float:
    """The file's constant over ours."""
    return gain_of(activation, "f", "cst", "silu") / SILU_GAIN


def _product_weights(contraction: Record, lmax: int, l_out: int, degree: int) -> Tensor:
    """(elements, paths, channels) for our basis of symmetric polynomials of one degree.

    The file multiplies U[m, i, j, k, q] x_i x_j x_k by weights[q]. Only the part of U that is symmetric in i, j, k
    counts; each of its columns q is a combination T[p, q] of our polynomials p, so that ours are T @ weights.
    """
    names = {contraction.get("correlation"): "weights_max"}
    name = names.get(degree, f"weights.{contraction.get('correlation') - 1 - degree}")
    weights = contraction.tensor(name).double()
    stored = contraction.tensor(f"U_matrix_{degree}")
    u = stored.double().numpy().reshape(2 * l_out + 1, -1, stored.shape[-1])  # (m, i j k, q)
    monomials, basis = symmetric_basis(lmax, degree, l_out)
    size = (lmax + 1) ** 2
    cubes = np.indices((size,) * degree).reshape(degree, -1)
    weight_of_digit = size ** np.arange(degree)
    keys, inverse = np.unique(weight_of_digit @ np.sort(cubes, axis=0), return_inverse=True)
    symmetric = np.zeros((len(keys), u.shape[0], u.shape[2]))
    np.add.at(symmetric, inverse, u.swapaxes(0, 1))
    ours = np.zeros((len(keys), u.shape[0], basis.shape[2]))
    ours[np.searchsorted(keys, monomials @ weight_of_digit)] = basis
    flat = ours.reshape(-1, basis.shape[2])
    target = symmetric.reshape(-1, u.shape[2])
    transform = np.linalg.lstsq(flat, target, rcond=None)[0]
    # couplings are of order one; some files keep them with the precision of float32
    if np.abs(flat @ transform - target).max(initial=0.0) > 1e-6:
        raise ValueError(f"U_matrix_{degree} for l = {l_out} is no equivariant polynomial; the file is damaged")
    return torch.einsum("pq,eqc->epc", torch.from_numpy(transform), weights)
