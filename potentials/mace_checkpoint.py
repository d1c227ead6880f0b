"""Official MACE `.model` files become potentials of this package, with neither mace nor e3nn installed.

Such a file is a pickled torch module. It is read as inert records (atomsml.unpickle); hyperparameters are taken from
the records, never guessed, and the weights are brought to our conventions:

| in the file | here |
|---|---|
| edge vectors point from the neighbour to the centre | from the centre: weights of paths with odd edge l change sign |
| e3nn stores raw weights and multiplies by path weights, 1/sqrt(fan in) and the like | multiplied in |
| one-hot elements times a matrix | one row per element |
| U matrices over (lmax + 1)^2 x ... components, redundant | our basis of symmetric polynomials (see `_product_weights`) |
| one column of the readouts, E0, scale and shift per head | those of one head |

Families: MP-0, MPA-0 and 0b, OFF23 and what has the same blocks. All arithmetic is in float64, also for float32 files.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ase.data import covalent_radii
from torch import Tensor

from atomsml.layers import SILU_GAIN
from atomsml.o3.coupling import symmetric_basis
from atomsml.ops.convolution import convolution_table
from atomsml.potentials.mace import MACE, MACEConfig
from atomsml.potentials.zbl import SCREENING
from atomsml.unpickle import Record, load_inert

# What mace-torch of 2022 to 2025 writes for a model of energies.
NAMES = {
    "mace.modules.models": "MACE ScaleShiftMACE",
    "mace.modules.blocks": (
        "AtomicEnergiesBlock EquivariantProductBasisBlock LinearNodeEmbeddingBlock LinearReadoutBlock "
        "NonLinearReadoutBlock RadialEmbeddingBlock RealAgnosticDensityInteractionBlock "
        "RealAgnosticDensityResidualInteractionBlock RealAgnosticInteractionBlock "
        "RealAgnosticResidualInteractionBlock ScaleShiftBlock"
    ),
    "mace.modules.radial": "AgnesiTransform BesselBasis PolynomialCutoff ZBLBasis",
    "mace.modules.irreps_tools": "reshape_irreps",
    "mace.modules.symmetric_contraction": "Contraction EmptyParam SymmetricContraction",
    "e3nn.math._normalize_activation": "normalize2mom",
    "e3nn.nn._activation": "Activation",
    "e3nn.nn._fc": "FullyConnectedNet _Layer",
    "e3nn.o3._irreps": "Irrep Irreps _MulIr",
    "e3nn.o3._linear": "Instruction Linear",
    "e3nn.o3._spherical_harmonics": "SphericalHarmonics",
    "e3nn.o3._tensor_product._instruction": "Instruction",
    "e3nn.o3._tensor_product._sub": "FullyConnectedTensorProduct",
    "e3nn.o3._tensor_product._tensor_product": "TensorProduct",
    "torch.fx._symbolic_trace": "Tracer",
    "torch.fx.graph_module": "reduce_graph_module",
    "torch.nn.functional": "silu",
    "torch.nn.modules.container": "ModuleList ParameterList",
}
# What it writes for other models: read only to say, by their names, that they are not supported.
OTHER_NAMES = {
    "mace.modules.models": "AtomicDielectricMACE AtomicDipolesMACE BOTNet EnergyDipolesMACE ScaleShiftBOTNet",
    "mace.modules.extensions": "MACELES PolarMACE",
    "mace.modules.blocks": (
        "AgnosticNonlinearInteractionBlock AgnosticResidualNonlinearInteractionBlock GeneralNonLinearBiasReadoutBlock "
        "LinearDipolePolarReadoutBlock LinearDipoleReadoutBlock NonLinearBiasReadoutBlock "
        "NonLinearDipolePolarReadoutBlock NonLinearDipoleReadoutBlock RealAgnosticAttResidualInteractionBlock "
        "RealAgnosticResidualNonLinearInteractionBlock ResidualElementDependentInteractionBlock "
        "TensorProductWeightsBlock"
    ),
    "mace.modules.radial": "ChebychevBasis GaussianBasis RadialMLP SoftTransform",
    "mace.modules.embeddings": "GenericJointEmbedding",
    "mace.modules.gate": "GatedEquivariantBlock",
    "e3nn.nn._extract": "Extract",
    "e3nn.nn._gate": "Gate _Sortcut",
    "e3nn.o3._tensor_product._sub": "ElementwiseTensorProduct",
    "torch.nn.functional": "sigmoid",
    "torch.nn.modules.activation": "SiLU",
    "torch.nn.modules.container": "ModuleDict Sequential",
    "torch.nn.modules.linear": "Linear",
    "torch.nn.modules.normalization": "LayerNorm",
    "torch.nn.modules.sparse": "Embedding",
}
# (first, later) interaction blocks -> (residual_first, density_normalization)
INTERACTIONS = {
    ("RealAgnosticResidualInteractionBlock", "RealAgnosticResidualInteractionBlock"): (True, False),
    ("RealAgnosticInteractionBlock", "RealAgnosticResidualInteractionBlock"): (False, False),
    ("RealAgnosticDensityResidualInteractionBlock", "RealAgnosticDensityResidualInteractionBlock"): (True, True),
    ("RealAgnosticDensityInteractionBlock", "RealAgnosticDensityResidualInteractionBlock"): (False, True),
}


def convert(path: str | Path, head: str | None = None) -> tuple[MACE, dict[str, Any]]:
    """The potential in a MACE `.model` file, in float64, and metadata for atomsml.modelfile.save.

    Args:
        head: which head of a file that has several; their names are in the message where it is left out.

    Raises:
        ValueError: no such head, not a MACE file, an unsupported kind of MACE model, or a file that asks for names that
            no MACE model needs; the message says which.
        OSError: the file cannot be read.
    """
    path = Path(path)
    tree = load_inert(path, _allowed(), "a MACE checkpoint")
    try:
        _check_supported(tree)
        heads = _heads(tree)
        chosen = _choose(heads, head)
        config = _config(tree, heads.index(chosen))
        model = MACE(config).double()
        model.load_state_dict(_state(tree, config, heads.index(chosen)))
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    return model.eval(), {
        "kind": "converted",
        "references_kind": "given",
        "source": {
            "file": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "dtype": str(tree.tensor("node_embedding.linear.weight").dtype).removeprefix("torch."),
            "heads": heads,
            "head": chosen,
        },
    }


def _allowed() -> dict[str, list[str]]:
    return {m: f"{NAMES.get(m, '')} {OTHER_NAMES.get(m, '')}".split() for m in {**NAMES, **OTHER_NAMES}}


def _heads(tree: Record) -> list[str]:
    """Files from before there were heads have none to name."""
    return [str(name) for name in tree.get("heads")] if "heads" in tree else ["Default"]


def _choose(heads: list[str], head: str | None) -> str:
    if head is None and len(heads) == 1:
        return heads[0]
    if head not in heads:
        asked = "choose one with --head" if head is None else f"there is no head {head}"
        raise ValueError(f"{asked}; the file has {', '.join(heads)}")
    return head


def _check_supported(tree: Record) -> None:
    """Raise ValueError that names what would have to be computed differently."""
    others = {(module, name) for module, names in OTHER_NAMES.items() for name in names.split()}
    for record in _walk(tree):
        if (record.module, record.name) in others:
            raise _unsupported(record.name)
    blocks = tree.records("interactions")
    names = [block.name for block in blocks]
    readouts = [readout.name for readout in tree.records("readouts")]
    if len(set(names[1:])) != 1 or (names[0], names[1]) not in INTERACTIONS:
        raise _unsupported(f"the interactions {', '.join(names)}")
    if readouts != ["LinearReadoutBlock"] * (len(names) - 1) + ["NonLinearReadoutBlock"]:
        raise _unsupported(f"the readouts {', '.join(readouts)}")
    if "apply_cutoff" in tree and not tree.get("apply_cutoff"):
        raise _unsupported("a cutoff that acts outside the radial basis")
    for product in tree.records("products"):
        if "use_agnostic_product" in product and product.get("use_agnostic_product"):
            raise _unsupported("a product that ignores the elements")
    for block in blocks:
        if "edge_irreps" in block and _irreps(block, "edge_irreps") != _irreps(block, "node_feats_irreps"):
            raise _unsupported("edge irreps of their own")
        if "cueq_config" in block or "oeq_config" in block:
            raise _unsupported("the layout of an acceleration library; save it in the layout of e3nn")


def _unsupported(what: str) -> ValueError:
    return ValueError(f"unsupported MACE model: it has {what}")


def _walk(record: Record) -> Iterator[Record]:
    """The record and all of its submodules."""
    yield record
    modules = record.state.get("_modules") if isinstance(record.state, dict) else None
    for module in modules.values() if isinstance(modules, dict) else ():
        if isinstance(module, Record):
            yield from _walk(module)


def _config(tree: Record, head: int) -> MACEConfig:
    """The hyperparameters, each read from the part of the file that uses it."""
    first, product = tree.record("interactions.0"), tree.record("products.0")
    later = tree.record("interactions.1")
    residual_first, density = INTERACTIONS[first.name, later.name]
    hidden, harmonics = _irreps(product, "linear.irreps_out"), _irreps(first, "edge_attrs_irreps")
    basis = tree.record("radial_embedding")
    scaled = "scale_shift" in tree
    config = MACEConfig(
        elements=tuple(sorted(tree.tensor("atomic_numbers").tolist())),
        cutoff=tree.number("r_max"),
        channels=hidden[0][0],
        hidden_lmax=len(hidden) - 1,
        lmax=len(harmonics) - 1,
        correlation=int(product.number("symmetric_contractions.contractions.0.correlation")),
        num_layers=len(tree.records("interactions")),
        num_bessel=basis.tensor("bessel_fn.bessel_weights").numel(),
        envelope_power=int(basis.number("cutoff_fn.p")),
        radial_mlp=tuple(first.get("conv_tp_weights.hs")[1:-1]),
        readout_channels=_irreps(tree.records("readouts")[-1], "hidden_irreps")[0][0] // len(_heads(tree)),
        avg_num_neighbors=first.number("avg_num_neighbors"),
        residual_first=residual_first,
        density_normalization=density,
        distance_transform="agnesi" if "distance_transform" in basis else "none",
        zbl="pair_repulsion_fn" in tree,
        scale=float(torch.atleast_1d(tree.tensor("scale_shift.scale"))[head]) if scaled else 1.0,
        shift=float(torch.atleast_1d(tree.tensor("scale_shift.shift"))[head]) if scaled else 0.0,
    )
    _check_consistent(tree, config)
    return config


def _check_consistent(tree: Record, config: MACEConfig) -> None:
    """Raise ValueError where the file has a constant or a shape for which the config has no place."""
    all_l = [(config.channels, l) for l in range(config.lmax + 1)]
    for i, (block, product) in enumerate(zip(tree.records("interactions"), tree.records("products"), strict=True)):
        if _irreps(block, "target_irreps") != all_l or _irreps(block, "edge_attrs_irreps") != [
            (1, l) for _, l in all_l
        ]:
            raise _unsupported(f"irreps other than {config.channels} channels of each l")
        outputs = all_l[: config.hidden_lmax + 1] if i < config.num_layers - 1 else all_l[:1]
        if _irreps(product, "linear.irreps_out") != outputs:
            raise _unsupported("node features that differ between layers")
        if block.number("avg_num_neighbors") != config.avg_num_neighbors:
            raise _unsupported("an avg_num_neighbors that differs between layers")
        for contraction in product.records("symmetric_contractions.contractions"):
            if contraction.number("correlation") != config.correlation:
                raise _unsupported("a correlation that differs between layers")
    constants = {
        "radial_embedding.bessel_fn.bessel_weights": np.arange(1, config.num_bessel + 1) * np.pi / config.cutoff,
        "radial_embedding.cutoff_fn.r_max": config.cutoff,
        "radial_embedding.distance_transform.covalent_radii": covalent_radii,
        "pair_repulsion_fn.covalent_radii": covalent_radii,
        "pair_repulsion_fn.c": [weight for weight, _ in SCREENING],
        "pair_repulsion_fn.p": config.envelope_power,
    }
    for path, expected in constants.items():
        # 1e-6 leaves room for files in float32
        if path in tree and not np.allclose(tree.tensor(path).double().numpy(), expected, rtol=1e-6, atol=0.0):
            raise _unsupported(f"other values of {path}")


def _state(tree: Record, config: MACEConfig, head: int) -> dict[str, Tensor]:
    """Our state dict, in float64."""
    order = torch.argsort(tree.tensor("atomic_numbers"))
    embedding = tree.record("node_embedding.linear")
    state = {
        "references": torch.atleast_2d(tree.tensor("atomic_energies_fn.atomic_energies"))[head, order].double(),
        "embedding": _linear(embedding)[0][order],
    }
    if config.distance_transform == "agnesi":
        transform = tree.record("radial_embedding.distance_transform")
        state["radial_basis.agnesi.parameters_qpa"] = _numbers(transform, "q", "p", "a")
    if config.zbl:
        state["zbl.screening"] = _numbers(tree.record("pair_repulsion_fn"), "a_exp", "a_prefactor")
    for i, (block, product) in enumerate(zip(tree.records("interactions"), tree.records("products"), strict=True)):
        layer = {**_interaction(block, config, order), **_product(product, config, order)}
        state.update({f"layers.{i}.{name}": value for name, value in layer.items()})
    for i, readout in enumerate(tree.records("readouts")):
        weights = _readout(readout, head, config)
        state.update({f"readouts.{i}.weights.{k}": weight for k, weight in enumerate(weights)})
    return state


def _numbers(record: Record, *names: str) -> Tensor:
    return torch.tensor([record.number(name) for name in names], dtype=torch.float64)


def _interaction(block: Record, config: MACEConfig, order: Tensor) -> dict[str, Tensor]:
    """linear_up, radial, density, linear and skip of one layer."""
    lmax_in = len(_irreps(block, "node_feats_irreps")) - 1
    ours = convolution_table(lmax_in, config.lmax, config.lmax).paths
    theirs = _convolution_paths(block.record("conv_tp"))
    if set(ours) != set(theirs):
        raise _unsupported("other paths in the convolution")
    *radial, last = _radial(block.record("conv_tp_weights"))
    by_path = last.view(len(last), len(theirs), config.channels)
    factors = torch.tensor([theirs[path].factor for path in ours], dtype=torch.float64)
    radial.append((by_path[:, [theirs[path].number for path in ours]] * factors[:, None]).flatten(1))
    linear = {}
    for l, weight in _linear(block.record("linear")).items():
        places = sorted(theirs[path].place for path in ours if path[2] == l)
        chunks = weight.view(len(places), config.channels, -1)
        linear[l] = chunks[[places.index(theirs[path].place) for path in ours if path[2] == l]].flatten(0, 1)
    skip = _per_element(block.record("skip_tp"), order)
    skip_scale = math.sqrt(len(order) * config.channels)
    state = {
        **_named("linear_up", _fan_in(_linear(block.record("linear_up")))),
        **_named("linear", _fan_in(linear)),
        **_named("radial", dict(enumerate(radial))),
        **_named("skip", {l: weight * skip_scale for l, weight in skip.items()}),
    }
    return {**state, "density.weights.0": _radial(block.record("density_fn"))[0]} if "density_fn" in block else state


def _product(product: Record, config: MACEConfig, order: Tensor) -> dict[str, Tensor]:
    """The weights of the symmetric contraction and the linear map behind it."""
    weights = [
        _product_weights(contraction, config.lmax, l_out, degree, order)
        for l_out, contraction in enumerate(product.records("symmetric_contractions.contractions"))
        for degree in range(1, config.correlation + 1)
    ]
    return {
        **{f"product.{k}": weight for k, weight in enumerate(weights)},
        **_named("linear_out", _fan_in(_linear(product.record("linear")))),
    }


def _readout(readout: Record, head: int, config: MACEConfig) -> list[Tensor]:
    """The matrices of one readout, cut to one head: heads mask each other's hidden channels."""
    if "linear" in readout:
        weight = _linear(readout.record("linear"))[0]
        return [weight[:, head : head + 1] * math.sqrt(config.channels)]
    hidden = slice(head * config.readout_channels, (head + 1) * config.readout_channels)
    scale = _silu_scale(readout.record("non_linearity.acts.0"))
    first, second = _linear(readout.record("linear_1"))[0], _linear(readout.record("linear_2"))[0]
    return [
        first[:, hidden] * math.sqrt(config.channels),
        second[hidden, head : head + 1] * (scale * math.sqrt(config.readout_channels)),
    ]


def _named(name: str, weights: dict[int, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.weights.{k}": weight for k, weight in weights.items()}


def _fan_in(weights: dict[int, Tensor]) -> dict[int, Tensor]:
    """Undo the normalisation that our linear layers apply again."""
    return {l: weight * math.sqrt(len(weight)) for l, weight in weights.items()}


def _irreps(record: Record, path: str) -> list[tuple[int, int]]:
    """(multiplicity, l) of each irrep; only natural parity (-1)^l is known here."""
    result = []
    for term in record.record(path).arguments[0]:
        mul, irrep = term.arguments[0]
        l, parity = irrep.arguments[0]
        if parity != (-1) ** l:
            raise _unsupported(f"{l}{'e' if parity == 1 else 'o'} among its {path}")
        result.append((mul, l))
    return result


def _silu_scale(activation: Record) -> float:
    """The file's constant that gives silu unit second moment, over ours: e3nn estimates it when a model is made."""
    if getattr(activation.get("f"), "name", None) != "silu":
        raise _unsupported("an activation other than silu")
    return activation.number("cst") / SILU_GAIN


def _linear(linear: Record) -> dict[int, Tensor]:
    """l -> (inputs, outputs) of an e3nn Linear; inputs of one l in the order of its irreps."""
    weight = linear.tensor("weight").double()
    blocks: dict[int, list[Tensor]] = {}
    start = 0
    for instruction in linear.get("instructions"):
        i_in, _, shape, path_weight = instruction.arguments
        block = weight[start : start + math.prod(shape)].view(shape) * path_weight
        blocks.setdefault(_irreps(linear, "irreps_in")[i_in][1], []).append(block)
        start += math.prod(shape)
    return {l: torch.cat(parts) for l, parts in sorted(blocks.items())}


def _per_element(product: Record, order: Tensor) -> dict[int, Tensor]:
    """l -> (elements, inputs, outputs) of the product of features and one-hot elements."""
    weight = product.tensor("weight").double()
    blocks: dict[int, Tensor] = {}
    start = 0
    for instruction in product.get("instructions"):
        i_in, _, _, _, _, path_weight, shape = instruction.arguments
        degree = _irreps(product, "irreps_in1")[i_in][1]
        # the coupling of l with a scalar is the identity over sqrt(2 l + 1)
        block = weight[start : start + math.prod(shape)].view(shape) * (path_weight / math.sqrt(2 * degree + 1))
        blocks[degree] = block.movedim(1, 0)[order]
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


class _Path(NamedTuple):
    """One path of the file's convolution."""

    number: int  # among the outputs of the radial network
    place: int  # among the irreps of the convolution's output
    factor: float  # over ours


def _convolution_paths(product: Record) -> dict[tuple[int, int, int], _Path]:
    """(l1, l2, l3) -> path. Our factor is sqrt(2 l3 + 1), with edge vectors that point the other way: (-1)^l2."""
    in1, in2, out = (_irreps(product, name) for name in ("irreps_in1", "irreps_in2", "irreps_out"))
    paths = {}
    for number, instruction in enumerate(product.get("instructions")):
        i_1, i_2, i_out, _, _, path_weight, _ = instruction.arguments
        l1, l2, l3 = in1[i_1][1], in2[i_2][1], out[i_out][1]
        paths[l1, l2, l3] = _Path(number, i_out, (-1) ** l2 * path_weight / math.sqrt(2 * l3 + 1))
    return paths


def _product_weights(contraction: Record, lmax: int, l_out: int, degree: int, order: Tensor) -> Tensor:
    """(elements, paths, channels) for our basis of symmetric polynomials of one degree.

    The file multiplies U[m, i, j, k, q] x_i x_j x_k by weights[q]. Only the part of U that is symmetric in i, j, k
    counts; each of its columns q is a combination T[p, q] of our polynomials p, so that ours are T @ weights.
    """
    names = {contraction.get("correlation"): "weights_max"}
    name = names.get(degree, f"weights.{contraction.get('correlation') - 1 - degree}")
    weights = contraction.tensor(name).double()[order]
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
    tolerance = 1e-10 if stored.dtype == torch.float64 else 1e-5
    if np.abs(flat @ transform - target).max(initial=0.0) > tolerance:
        raise ValueError(f"U_matrix_{degree} for l = {l_out} is no equivariant polynomial; the file is damaged")
    return torch.einsum("pq,eqc->epc", torch.from_numpy(transform), weights)
