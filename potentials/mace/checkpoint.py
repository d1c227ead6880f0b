"""Official MACE `.model` files become potentials of this package, with neither mace nor e3nn installed.

Such a file is a pickled torch module. It is read as inert records (atomsml.modelfile.inert_pickle); hyperparameters
come from the records, and weights are brought to our conventions (checkpoint_weights.py).

Families: MP-0, 0b, MPA-0, OMAT-0, MATPES, OFF23 and OFF24, MH-1, one or several heads, and whatever else is made of
the same blocks. What would have to be computed differently is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import covalent_radii

from atomsml.modelfile.checks import build_within_budget
from atomsml.modelfile.inert_pickle import Record, load_inert
from atomsml.modelfile.official import choose_head, converted
from atomsml.potentials.corrections.zbl import SCREENING
from atomsml.potentials.mace.checkpoint_records import irreps, unsupported
from atomsml.potentials.mace.checkpoint_weights import state_dict
from atomsml.potentials.mace.model import MACE, MACEConfig

# What mace-torch of 2022 to 2025 writes for a model of energies.
NAMES = {
    "mace.modules.models": "MACE ScaleShiftMACE",
    "mace.modules.blocks": (
        "AtomicEnergiesBlock EquivariantProductBasisBlock LinearNodeEmbeddingBlock LinearReadoutBlock "
        "NonLinearReadoutBlock RadialEmbeddingBlock RealAgnosticDensityInteractionBlock "
        "RealAgnosticDensityResidualInteractionBlock RealAgnosticInteractionBlock "
        "RealAgnosticResidualInteractionBlock RealAgnosticResidualNonLinearInteractionBlock ScaleShiftBlock"
    ),
    "mace.modules.radial": "AgnesiTransform BesselBasis PolynomialCutoff RadialMLP ZBLBasis",
    "mace.modules.gate": "GatedEquivariantBlock",
    "mace.modules.irreps_tools": "reshape_irreps",
    "mace.modules.wrapper_ops": "CuEquivarianceConfig OEQConfig",
    "mace.modules.symmetric_contraction": "Contraction EmptyParam SymmetricContraction",
    "e3nn.math._normalize_activation": "normalize2mom",
    "e3nn.nn._activation": "Activation",
    "e3nn.nn._extract": "Extract",
    "e3nn.nn._gate": "Gate _Sortcut",
    "e3nn.nn._fc": "FullyConnectedNet _Layer",
    "e3nn.o3._irreps": "Irrep Irreps _MulIr",
    "e3nn.o3._linear": "Instruction Linear",
    "e3nn.o3._spherical_harmonics": "SphericalHarmonics",
    "e3nn.o3._tensor_product._instruction": "Instruction",
    "e3nn.o3._tensor_product._sub": "ElementwiseTensorProduct FullyConnectedTensorProduct",
    "e3nn.o3._tensor_product._tensor_product": "TensorProduct",
    "torch.fx._symbolic_trace": "Tracer",
    "torch.fx.graph_module": "reduce_graph_module",
    "torch.nn.functional": "sigmoid silu",
    "torch.nn.modules.activation": "SiLU",
    "torch.nn.modules.container": "ModuleList ParameterList Sequential",
    "torch.nn.modules.linear": "Linear",
    "torch.nn.modules.normalization": "LayerNorm",
}
# What it writes for other models: read only to say, by their names, that they are not supported.
OTHER_NAMES = {
    "mace.modules.models": "AtomicDielectricMACE AtomicDipolesMACE BOTNet EnergyDipolesMACE ScaleShiftBOTNet",
    "mace.modules.extensions": "MACELES PolarMACE",
    "mace.modules.blocks": (
        "AgnosticNonlinearInteractionBlock AgnosticResidualNonlinearInteractionBlock GeneralNonLinearBiasReadoutBlock "
        "LinearDipolePolarReadoutBlock LinearDipoleReadoutBlock NonLinearBiasReadoutBlock "
        "NonLinearDipolePolarReadoutBlock NonLinearDipoleReadoutBlock RealAgnosticAttResidualInteractionBlock "
        "ResidualElementDependentInteractionBlock TensorProductWeightsBlock"
    ),
    "mace.modules.radial": "ChebychevBasis GaussianBasis SoftTransform",
    "mace.modules.embeddings": "GenericJointEmbedding",
    "torch.nn.modules.container": "ModuleDict",
    "torch.nn.modules.sparse": "Embedding",
}
# (first, later) interaction blocks -> fields of the config
INTERACTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("RealAgnosticResidualInteractionBlock", "RealAgnosticResidualInteractionBlock"): {},
    ("RealAgnosticInteractionBlock", "RealAgnosticResidualInteractionBlock"): {"residual_first": False},
    ("RealAgnosticDensityResidualInteractionBlock", "RealAgnosticDensityResidualInteractionBlock"): {
        "density_normalization": True
    },
    ("RealAgnosticDensityInteractionBlock", "RealAgnosticDensityResidualInteractionBlock"): {
        "residual_first": False,
        "density_normalization": True,
    },
    ("RealAgnosticResidualNonLinearInteractionBlock", "RealAgnosticResidualNonLinearInteractionBlock"): {
        "interaction": "gated"
    },
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
    with _one_line(path):
        _check_supported(tree)
        heads = _heads(tree)
        chosen = choose_head(heads, head)
        config = _config(tree, heads.index(chosen))
        weights = state_dict(tree, config, heads.index(chosen))
    model = build_within_budget(path, lambda: MACE(config)).double()
    with _one_line(path):
        model.load_state_dict(weights)
    dtype = str(tree.tensor("node_embedding.linear.weight").dtype).removeprefix("torch.")
    return model.eval(), converted(path, chosen, dtype=dtype, heads=heads)


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """What goes wrong with a file becomes one line of ValueError that names it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except (RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        reason = " ".join(str(error)[:200].split())  # shapes, types and sizes that do not fit together
        raise ValueError(f"{path} is damaged and cannot be read as a MACE checkpoint: {reason}") from None


def _allowed() -> dict[str, list[str]]:
    return {m: f"{NAMES.get(m, '')} {OTHER_NAMES.get(m, '')}".split() for m in {**NAMES, **OTHER_NAMES}}


def _heads(tree: Record) -> list[str]:
    """Files from before there were heads have none to name."""
    return [str(name)[:100] for name in tree.get("heads")] if "heads" in tree else ["Default"]


def _check_supported(tree: Record) -> None:
    """Raise ValueError that names what would have to be computed differently."""
    others = {(module, name) for module, names in OTHER_NAMES.items() for name in names.split()}
    for record in _walk(tree):
        if (record.module, record.name) in others:
            raise unsupported(f"the class {record.name}")
    blocks = tree.records("interactions")
    names = [block.name for block in blocks]
    readouts = [readout.name for readout in tree.records("readouts")]
    if len(set(names[1:])) != 1 or (names[0], names[1]) not in INTERACTIONS:
        raise unsupported(f"the interactions {', '.join(names)}")
    if readouts != ["LinearReadoutBlock"] * (len(names) - 1) + ["NonLinearReadoutBlock"]:
        raise unsupported(f"the readouts {', '.join(readouts)}")
    gated = INTERACTIONS[names[0], names[1]].get("interaction") == "gated"
    radial = tree.record("radial_embedding")
    inside = "apply_cutoff" not in radial or bool(radial.get("apply_cutoff"))
    if inside == gated:
        raise unsupported(f"a cutoff that acts {'inside' if inside else 'outside'} the radial basis")
    for product in tree.records("products"):
        shared = "use_agnostic_product" in product and bool(product.get("use_agnostic_product"))
        if shared != gated:
            raise unsupported(f"a product that {'ignores' if shared else 'knows'} the elements")
    for block in blocks:
        own = "edge_irreps" in block and irreps(block, "edge_irreps") != irreps(block, "node_feats_irreps")
        if own and not gated:
            raise unsupported("edge irreps of their own")


def _walk(record: Record) -> Iterator[Record]:
    """The record and all of its submodules, each once however many others hold it."""
    waiting, seen = [record], {id(record)}
    while waiting:
        found = waiting.pop()
        yield found
        modules = found.state.get("_modules") if isinstance(found.state, dict) else None
        for module in modules.values() if isinstance(modules, dict) else ():
            if isinstance(module, Record) and id(module) not in seen:
                seen.add(id(module))
                waiting.append(module)


def _config(tree: Record, head: int) -> MACEConfig:
    """The hyperparameters, each read from the part of the file that uses it."""
    first, product = tree.record("interactions.0"), tree.record("products.0")
    hidden, harmonics = irreps(product, "linear.irreps_out"), irreps(first, "edge_attrs_irreps")
    basis = tree.record("radial_embedding")
    scaled = "scale_shift" in tree
    fields = INTERACTIONS[first.name, tree.record("interactions.1").name]
    if fields.get("interaction") == "gated":
        fields = {**fields, "edge_channels": irreps(first, "edge_irreps")[0][0]}
    config = MACEConfig(
        elements=tuple(tree.tensor("atomic_numbers").tolist()),
        cutoff=tree.number("r_max"),
        channels=hidden[0][0],
        hidden_lmax=len(hidden) - 1,
        lmax=len(harmonics) - 1,
        correlation=int(product.number("symmetric_contractions.contractions.0.correlation")),
        num_layers=len(tree.records("interactions")),
        num_bessel=basis.tensor("bessel_fn.bessel_weights").numel(),
        envelope_power=int(basis.number("cutoff_fn.p")),
        radial_mlp=tuple(first.get("conv_tp_weights.hs")[1:-1]),
        readout_channels=irreps(tree.records("readouts")[-1], "hidden_irreps")[0][0] // len(_heads(tree)),
        avg_num_neighbors=first.number("avg_num_neighbors"),
        **fields,
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
        harmonics = [(1, l) for _, l in all_l]
        if irreps(block, "target_irreps") != all_l or irreps(block, "edge_attrs_irreps") != harmonics:
            raise unsupported(f"irreps other than {config.channels} channels of each l")
        degrees_in = range(config.hidden_lmax + 1 if i > 0 else 1)
        edge_irreps = [(config.edge_channels, l) for l in degrees_in]
        if config.interaction == "gated" and irreps(block, "edge_irreps") != edge_irreps:
            raise unsupported("edge irreps that differ between layers")
        outputs = all_l[: config.hidden_lmax + 1] if i < config.num_layers - 1 else all_l[:1]
        if irreps(product, "linear.irreps_out") != outputs:
            raise unsupported("node features that differ between layers")
        if block.number("avg_num_neighbors") != config.avg_num_neighbors:
            raise unsupported("an avg_num_neighbors that differs between layers")
        for contraction in product.records("symmetric_contractions.contractions"):
            if contraction.number("correlation") != config.correlation:
                raise unsupported("a correlation that differs between layers")
    constants: dict[str, Any] = {
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
            raise unsupported(f"other values of {path}")
