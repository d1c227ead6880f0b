"""The weights of a gated interaction block of a MACE `.model` file, for `GatedLayer`."""

from __future__ import annotations

import torch
from torch import Tensor

from atomsml.modelfile.inert_pickle import Record
from atomsml.ops.activation import SILU_GAIN
from atomsml.potentials.mace.checkpoint_records import (
    columns_of_paths,
    fan_in,
    gain_of,
    linear_matrices,
    named,
    paths_of,
    rows_of_paths,
    unsupported,
)
from atomsml.potentials.mace.model import MACEConfig

LAYER_NORM_EPS = 1e-5  # torch's default


def gated_interaction(block: Record, config: MACEConfig) -> dict[str, Tensor]:
    """Everything of one layer before the product, and the skip connection."""
    ours, theirs = paths_of(block, config)
    linear = rows_of_paths(linear_matrices(block.record("linear_1")), ours, theirs)
    radial, density = (_pair_network(block, name, config) for name in ("conv_tp_weights", "density_fn"))
    last = f"linears.{len(config.radial_mlp) - 1}"
    radial[f"{last}.weight"] = columns_of_paths(radial[f"{last}.weight"].T, ours, theirs).T
    radial[f"{last}.bias"] = columns_of_paths(radial[f"{last}.bias"], ours, theirs)
    gain, gate_gain = _gains(block.record("equivariant_nonlin"))
    after_gate = {
        l: weight * (gate_gain if l > 0 else gain / SILU_GAIN)
        for l, weight in linear_matrices(block.record("linear_2")).items()
    }
    return {
        **named("linear_up", fan_in(linear_matrices(block.record("linear_up")))),
        **{f"radial.{name}": value for name, value in radial.items()},
        **{f"density.{name}": value for name, value in density.items()},
        "divisor": torch.stack([block.tensor("alpha").double(), block.tensor("beta").double()]),
        **_graded("linear", linear),
        **_graded("residual", linear_matrices(block.record("linear_res"))),
        **named("linear_gated", fan_in(after_gate)),
        **named("skip", fan_in(linear_matrices(block.record("skip_tp")))),
    }


def _graded(name: str, weights: dict[int, Tensor]) -> dict[str, Tensor]:
    return named(name, {l: weight[None] for l, weight in fan_in(weights).items()})


def _pair_network(block: Record, name: str, config: MACEConfig) -> dict[str, Tensor]:
    """A network of the distance and of two embeddings; what its first map makes of these is kept for each element."""
    net = block.record(f"{name}.net")
    modules = [net.record(str(k)) for k in range(len(net.get("_modules")))]
    kinds = [module.name for module in modules]
    hidden = len(kinds) // 3
    if kinds != ["Linear", "LayerNorm", "SiLU"] * hidden + ["Linear"]:
        raise unsupported(f"the radial network {', '.join(kinds)}")
    first, *later = modules[::3]
    norms = modules[1::3]
    if any(norm.number("eps") != LAYER_NORM_EPS for norm in norms):
        raise unsupported("another eps in its layer normalisation")
    weight = first.tensor("weight").double()
    of_length, of_sender, of_receiver = weight.split([config.num_bessel, config.channels, config.channels], dim=1)
    sender, receiver = (linear_matrices(block.record(f"{end}_embedding"))[0] for end in ("source", "target"))
    state = {
        "of_length.weight": of_length,
        "of_sender": sender @ of_sender.T,
        "of_receiver": receiver @ of_receiver.T + first.tensor("bias").double(),
    }
    for kind, records in (("norms", norms), ("linears", later)):
        for k, record in enumerate(records):
            state |= {f"{kind}.{k}.{part}": record.tensor(part).double() for part in ("weight", "bias")}
    return state


def _gains(gate: Record) -> tuple[float, float]:
    """The factors of SiLU and of the sigmoid: of e3nn's Gate, or of the block that replaced it in mace-torch 0.3.16."""
    if "act_scalars" in gate:
        scalars, gates = (gate.record(f"{which}.acts.0") for which in ("act_scalars", "act_gates"))
        return gain_of(scalars, "f", "cst", "silu"), gain_of(gates, "f", "cst", "sigmoid")
    return gain_of(gate, "_act_scalar", "_scalar_cst", "silu"), gain_of(gate, "_act_gate", "_gate_cst", "sigmoid")
