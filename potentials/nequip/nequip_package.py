"""Packaged models of nequip become NequIP potentials of this package, with neither nequip nor e3nn installed.

Such a file (.nequip.zip) is an archive of torch.package: the model as a pickle of whole modules, and the source code of
their classes, which is never looked at. The pickle is read as inert data (atomsml.modelfile.inert_pickle), and what the
network computes is read off its modules. What would have to be computed differently is refused by name.

nequip's foundation models come as such files; so does whatever `nequip-package build` writes.
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers
from torch import Tensor

from atomsml.modelfile.inert_pickle import Record, StoredTensor, load_inert_package
from atomsml.modelfile.official import choose_head, converted
from atomsml.ops.activation import SILU_GAIN, TANH_GAIN
from atomsml.potentials.corrections.zbl import LAMMPS_COULOMB
from atomsml.potentials.nequip.model import NEQUIP, NequIP, NequIPConfig
from atomsml.potentials.nequip.nequip_weights import Irrep, state_dict

WHAT = "a packaged nequip model"
PICKLE = "model/eager_model.pkl"
# Classes and functions that such a file needs; none is built or called.
NAMES = {
    "builtins": ("slice", "getattr"),
    "e3nn.math._normalize_activation": ("normalize2mom",),
    "e3nn.nn._activation": ("Activation",),
    "e3nn.nn._extract": ("Extract",),
    "e3nn.nn._gate": ("Gate", "_Sortcut"),
    "e3nn.o3._irreps": ("Irrep", "Irreps", "_MulIr"),
    "e3nn.o3._linear": ("Instruction", "Linear", "LinearSlices"),
    "e3nn.o3._spherical_harmonics": ("SphericalHarmonics", "_spherical_harmonics"),
    "e3nn.o3._tensor_product._instruction": ("Instruction",),
    "e3nn.o3._tensor_product._sub": ("ElementwiseTensorProduct", "FullyConnectedTensorProduct"),
    "e3nn.o3._tensor_product._tensor_product": ("TensorProduct",),
    "nequip.nn._ghost_exchange_base": ("NoOpGhostExchangeModule",),
    "nequip.nn._graph_mixin": ("SequentialGraphNetwork",),
    "nequip.nn._tp_scatter_base": ("TensorProductScatter",),
    "nequip.nn.atomwise": ("AtomwiseReduce", "PerTypeScaleShift"),
    "nequip.nn.convnetlayer": ("ConvNetLayer",),
    "nequip.nn.embedding._edge": ("BesselEdgeLengthEncoding", "EdgeLengthNormalizer", "SphericalHarmonicEdgeAttrs"),
    "nequip.nn.embedding.cutoffs": ("PolynomialCutoff",),
    "nequip.nn.embedding.node": ("NodeTypeEmbed",),
    "nequip.nn.grad_output": ("ForceStressOutput",),
    "nequip.nn.graph_model": ("GraphModel",),
    "nequip.nn.interaction_block": ("InteractionBlock",),
    "nequip.nn.misc": ("ApplyFactor",),
    "nequip.nn.mlp": ("DeepLinearMLP", "ScalarLinearLayer", "ScalarMLP", "ScalarMLPFunction"),
    "nequip.nn.norm": ("AvgNumNeighborsNorm",),
    "nequip.nn.pair_potential": ("ZBL", "_ZBL"),
    "torch": ("float32", "float64"),
    "torch._C": ("_VariableFunctionsClass",),
    "torch.nn.functional": ("silu",),
    "torch.nn.modules.activation": ("SiLU", "Mish", "GELU"),
    "torch.nn.modules.container": ("ModuleDict", "ModuleList", "ParameterList", "Sequential"),
    "torch.nn.modules.linear": ("Identity",),
    "torch.nn.modules.sparse": ("Embedding",),
}
# The modules of an energy model, beside its layers.
MODULES = {
    "type_embed": "NodeTypeEmbed",
    "spharm": "SphericalHarmonicEdgeAttrs",
    "edge_norm": "EdgeLengthNormalizer",
    "bessel_encode": "BesselEdgeLengthEncoding",
    "factor": "ApplyFactor",
    "per_atom_energy_readout": "ScalarMLP",
    "per_type_energy_scale_shift": "PerTypeScaleShift",
    "total_energy_sum": "AtomwiseReduce",
}


def convert(path: str | Path, head: str | None = None) -> tuple[NequIP, dict[str, Any]]:
    """The potential in a packaged model, in float64, and metadata for atomsml.modelfile.save.

    Args:
        head: which model of a file that has several; their names are in the message where it is left out.

    Raises:
        ValueError: no such model, not a package of nequip, an unsupported kind of network, or a file that asks for
            names that no such package needs; the message says which.
        OSError: the file cannot be read.
    """
    path = Path(path)
    tree = load_inert_package(path, PICKLE, NAMES, WHAT)
    try:
        models = list(tree.get("_modules"))
        chosen = choose_head(models, head)
        network = tree.record(f"{chosen}.model.func")
        _check_supported(network)
        weights = {name: x.double() for name, x in _tensors(network)}
        numbers = _numbers(tree.get(f"{chosen}.type_names"))
        config = _config(network, weights, numbers)
        with torch.device("meta"):  # what is really there bounds what is allocated
            model = NequIP(config)
        model.load_state_dict(state_dict(model, weights, numbers), assign=True)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except (RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        reason = " ".join(str(error)[:200].split())  # shapes, types and sizes that do not fit together
        raise ValueError(f"{path} is damaged and cannot be read as {WHAT}: {reason}") from None
    return model.eval(), converted(path, "default" if len(models) == 1 else chosen, heads=models)


def unsupported(what: str) -> ValueError:
    return ValueError(f"unsupported nequip model: it has {what}")


def _check_supported(network: Record) -> None:
    """Raise ValueError that names what would have to be computed differently."""
    modules = network.get("_modules")
    for name in modules:
        is_zbl = name == "pair_potential" and network.record(name).name == "ZBL"
        if name not in MODULES and not name.endswith("_convnet") and not is_zbl:
            raise unsupported(f"the module {name} ({network.record(name).name})")
    for name, kind in MODULES.items():
        if network.record(name).name != kind:
            raise unsupported(f"{network.record(name).name} as {name}; supported is {kind}")
    wanted: dict[str, Any] = {
        "type_embed.do_categorical_graph_field_embed": False,
        "spharm.sh.normalize": True,
        "spharm.sh.normalization": "component",
        "edge_norm._per_edge_type": False,
        "total_energy_sum.reduce": "sum",
        "total_energy_sum.constant": 1.0,
        "per_atom_energy_readout.mlp_module.num_layers": 1,
    }
    for place, value in wanted.items():
        if network.get(place) != value:
            raise unsupported(f"{place} = {reprlib.repr(network.get(place))}; supported is {value!r}")
    power = network.number("bessel_encode.cutoff.p")
    if power != int(power):
        raise unsupported(f"an envelope of power {power}")
    if "pair_potential" in modules:
        _check_repulsion(network)
    for layer in _layers(network):
        _check_layer(layer)


def _check_repulsion(network: Record) -> None:
    """ZBL with the elements, the unit of energy and the envelope of the network."""
    repulsion = network.record("pair_potential")
    if repulsion.tensor("atomic_numbers").tolist() != _numbers(network.get("per_type_energy_scale_shift.type_names")):
        raise unsupported("a ZBL repulsion of other elements than its types")
    if abs(repulsion.number("_qqr2exesquare") / (LAMMPS_COULOMB / 2) - 1) > 1e-6:
        raise unsupported("a ZBL repulsion in other units than eV and A")
    if repulsion.number("cutoff.p") != network.number("bessel_encode.cutoff.p"):
        raise unsupported("a ZBL repulsion with another envelope than the network")


def _check_layer(layer: Record) -> None:
    if layer.get("resnet"):
        raise unsupported("layers with resnet")
    if layer.record("equivariant_nonlin").name != "Gate":
        raise unsupported(f"the nonlinearity {layer.record('equivariant_nonlin').name}")
    norm = layer.tensor("conv.avg_num_neighbors_norm.norm_const")
    if norm.numel() != 1:
        raise unsupported("a number of neighbours for each type")
    gains = {"silu": SILU_GAIN, "tanh": TANH_GAIN}
    scalars = layer.record("equivariant_nonlin.act_scalars").get("irreps_in")
    wanted = ["silu" if parity == 1 else "tanh" for _, (_, parity) in _irreps(scalars)]
    for place, names in (("act_scalars", wanted), ("act_gates", None)):
        for i, act in enumerate(layer.records(f"equivariant_nonlin.{place}.acts")):
            name = _function(act.get("f"))
            if name != ("silu" if names is None else names[i]):
                raise unsupported(f"{name} in {place}")
            if abs(act.number("cst") / gains[name] - 1) > 1e-9:
                raise unsupported(f"{name} with the gain {act.number('cst')}; supported is {gains[name]}")
    hidden = [act.name for act in layer.records("conv.edge_mlp.mlp")[1::2]]
    if set(hidden) - {"SiLU"}:
        raise unsupported(f"{hidden[0]} in the radial network")


def _function(stored: Any) -> str:
    """The name of a function of torch: pickled by name, or as an attribute of what holds torch's functions."""
    if isinstance(stored, Record) and stored.name == "getattr":
        return str(stored.arguments[1])[:100]
    return str(stored.name)


def _layers(network: Record) -> list[Record]:
    count = sum(name.endswith("_convnet") for name in network.get("_modules"))
    return [network.record(f"layer{i}_convnet") for i in range(count)]


def _tensors(record: Record, prefix: str = "") -> list[tuple[str, Tensor]]:
    """All parameters and buffers of a module and those in it, by name."""
    found: list[tuple[str, Tensor]] = []
    for kind in ("_parameters", "_buffers"):
        stored = record.state.get(kind) or {}
        found += [(f"{prefix}{name}", x.values) for name, x in stored.items() if isinstance(x, StoredTensor)]
    for name, inner in (record.state.get("_modules") or {}).items():
        if isinstance(inner, Record):
            found += _tensors(inner, f"{prefix}{name}.")
    return found


def _numbers(names: list[str]) -> list[int]:
    """Atomic numbers of types that have the names of elements."""
    for name in names:
        if name not in atomic_numbers or atomic_numbers[name] == 0:
            raise unsupported(f"the type {reprlib.repr(name)}, which is no element")
    return [atomic_numbers[name] for name in names]


def _irreps(stored: Any) -> list[tuple[int, Irrep]]:
    """Multiplicity, degree and parity of each of e3nn's irreps."""
    pairs = [each.arguments[0] for each in stored.arguments[0]] if stored.arguments else []
    return [(mul, irrep.arguments[0]) for mul, irrep in pairs]


def _config(network: Record, weights: dict[str, Tensor], numbers: list[int]) -> NequIPConfig:
    layers = _layers(network)
    channels, parity = _channels([_irreps(layer.get("feature_irreps_hidden")) for layer in layers])
    connected = [bool(layer.get("conv.use_sc")) for layer in layers]
    if not all(connected[1:]):
        raise unsupported("layers without self-connection beyond the first")
    norms = {float(weights[f"layer{i}_convnet.conv.avg_num_neighbors_norm.norm_const"]) for i in range(len(layers))}
    if len(norms) != 1:
        raise unsupported("a number of neighbours that differs between layers")
    (norm,) = norms
    radial = [
        weights[name].shape[1]
        for k in range(len(layers[0].records("conv.edge_mlp.mlp")) // 2)
        for name in (f"layer0_convnet.conv.edge_mlp.mlp.{2 * k}.weight",)
    ]
    scales = weights["per_type_energy_scale_shift.scales"]
    return NequIPConfig(
        **{**NEQUIP, "first_self_connection": connected[0]},
        elements=tuple(sorted(numbers)),
        cutoff=network.number("edge_norm.r_max"),
        channels=channels,
        parity=parity,
        lmax=max(l for _, (l, _) in _irreps(network.get("spharm.irreps_edge_sh"))),
        num_layers=len(layers),
        embedding_channels=weights["type_embed.embed_module.weight"].shape[1],
        num_bessel=weights["bessel_encode.bessel_weights"].numel(),
        envelope_power=int(network.number("bessel_encode.cutoff.p")),
        radial_mlp=tuple(radial),
        avg_num_neighbors=norm**-2,
        relative_to_isolated=False,
        element_scales=scales.numel() > 1,
        zbl="pair_potential" in network.get("_modules"),
        scale=float(scales) if scales.numel() == 1 else 1.0,
    )


def _channels(layers: list[list[tuple[int, Irrep]]]) -> tuple[tuple[int, ...], bool]:
    """The multiplicity of each degree between layers, and whether both parities are there."""
    *between, last = layers
    irreps = between[0] if between else last
    both = any(parity != (-1) ** l for _, (l, parity) in irreps)
    channels = [mul for mul, (l, parity) in irreps if parity == (-1) ** l]
    parities = [((-1) ** l,) if not both else (1, -1) for l in range(len(channels))]
    expected = [(channels[l], (l, p)) for l in range(len(channels)) for p in parities[l]]
    if irreps != expected or any(other != irreps for other in between) or last != [(channels[0], (0, 1))]:
        raise unsupported("features other than those of NequIPGNNModel, which are the same in all layers but the last")
    return tuple(channels), both
