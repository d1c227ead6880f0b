"""Write MACE models with seeded random weights, and what mace-torch computes with them.

Run by hand and by test_checkpoint.py, with the Python of `.venv-peers` (`make peers`):

    export TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1
    .venv-peers/bin/python tests/potentials/mace/make_golden.py --archive tests/data/mace

writes golden.npz (structures, energies in eV, forces in eV/A, stress in eV/A^3, energies of the atoms, in float64) and
FAMILY.model for each family, packed into models.tar.xz. `--full` takes the sizes of the published models instead of
tiny ones. Weights are multiples of 1/32, so that the files compress.

With an older mace-torch in PYTHONPATH (its wheel, unpacked), the files are as that release writes them, for families
whose blocks it has: this is how published files look, which such releases wrote.
"""

import argparse
import inspect
import tarfile
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.build
import numpy as np
import torch
from e3nn import nn, o3
from mace import __version__, modules
from mace.modules.radial import PolynomialCutoff
from matscipy.neighbours import neighbour_list

torch.set_default_dtype(torch.float64)
ELEMENTS = (1, 8, 14)
NEW = __version__ == "0.3.16"  # otherwise the files are old without help
RESIDUAL = ("RealAgnosticResidualInteractionBlock", "RealAgnosticResidualInteractionBlock")
DENSITY = ("RealAgnosticDensityInteractionBlock", "RealAgnosticDensityResidualInteractionBlock")
GATED = ("RealAgnosticResidualNonLinearInteractionBlock", "RealAgnosticResidualNonLinearInteractionBlock")
FIRST_PLAIN = ("RealAgnosticInteractionBlock", "RealAgnosticResidualInteractionBlock")
HEADS = ("omat_pbe", "spice_wB97M", "oc20_usemppbe")


@dataclass(frozen=True)
class Family:
    blocks: tuple[str, str]  # first, later
    hidden_lmax: int
    num_bessel: int = 10
    envelope_power: int = 5
    heads: tuple[str, ...] = ("Default",)
    size: tuple[int, int, float] = (128, 89, 6.0)  # channels, elements and cutoff of the published model
    scaled: bool = True
    num_layers: int = 2
    lmax: int = 3
    correlation: int = 3
    core: bool = False  # Agnesi transform and ZBL repulsion
    edge_channels: int = 0  # of the published model; the tiny one has 4
    old: bool = False  # as the versions of mace-torch wrote it that made the published files
    dtype: torch.dtype = torch.float64  # of the file
    seed: int | None = None  # of its weights; where none is given, its place among the families


FAMILIES = {
    "mp0-small": Family(RESIDUAL, 0, old=True),
    "mp0-medium": Family(RESIDUAL, 1),
    "mp0-large": Family(RESIDUAL, 2),
    "mpa0": Family(DENSITY, 1, core=True),
    "off23": Family(FIRST_PLAIN, 1, num_bessel=8, envelope_power=6, size=(128, 15, 5.0)),
    "multihead": Family(DENSITY, 1, core=True, heads=("surface", "bulk")),
    "deep": Family(RESIDUAL, 2, num_layers=3, lmax=2, correlation=2, scaled=False),
    "mp0b": Family(FIRST_PLAIN, 1, core=True, old=True),
    "mh1": Family(GATED, 1, core=True, heads=HEADS, size=(512, 89, 6.0), edge_channels=128, old=True),
    "mh1-new": Family(GATED, 1, core=True, heads=HEADS, size=(512, 89, 6.0), edge_channels=128),
}
LIVE_FAMILIES = {
    **FAMILIES,
    "float32": Family(RESIDUAL, 1, dtype=torch.float32, seed=7),
    "mp0b2-small": Family(DENSITY, 0, core=True),
    "mp0b2-large": Family(DENSITY, 2, core=True),
    "off24": Family(FIRST_PLAIN, 1, num_bessel=8, size=(128, 15, 6.0)),
}


def build(name: str, full: bool) -> torch.nn.Module:
    family = LIVE_FAMILIES[name]
    channels, num_elements, cutoff = family.size if full else (8, len(ELEMENTS), 4.5)
    numbers = tuple(range(1, num_elements + 1)) if full else ELEMENTS
    heads = len(family.heads)
    gated = family.blocks is GATED
    edge_channels = family.edge_channels if full else 4
    rng = np.random.default_rng(list(LIVE_FAMILIES).index(name) if family.seed is None else family.seed)
    torch.manual_seed(int(rng.integers(1 << 30)))
    scale, shift = rng.uniform(0.7, 1.3, heads).squeeze(), rng.uniform(-0.2, 0.2, heads).squeeze()
    model_class = modules.ScaleShiftMACE if family.scaled else modules.MACE
    options = {
        "r_max": cutoff,
        "num_bessel": family.num_bessel,
        "num_polynomial_cutoff": family.envelope_power,
        "max_ell": family.lmax,
        "interaction_cls_first": modules.interaction_classes[family.blocks[0]],
        "interaction_cls": modules.interaction_classes[family.blocks[1]],
        "num_interactions": family.num_layers,
        "num_elements": len(numbers),
        "hidden_irreps": o3.Irreps([(channels, (l, (-1) ** l)) for l in range(family.hidden_lmax + 1)]),
        "MLP_irreps": o3.Irreps("16x0e"),
        "atomic_energies": rng.uniform(-20, -1, (heads, len(numbers)) if heads > 1 else len(numbers)),
        "avg_num_neighbors": float(rng.uniform(4, 8)),
        "atomic_numbers": list(numbers),
        "correlation": family.correlation,
        "gate": torch.nn.functional.silu,
        "radial_MLP": [64, 64, 64] if full else [16, 16, 16],
        "distance_transform": "Agnesi" if family.core else "None",
        "pair_repulsion": family.core,
        "apply_cutoff": not gated,
        "use_agnostic_product": gated,
        "edge_irreps": o3.Irreps(f"{edge_channels}x0e + {edge_channels}x1o") if gated else None,
        "use_edge_irreps_first": gated,
        "heads": list(family.heads),
    }
    known = inspect.signature(modules.MACE.__init__).parameters
    scaling = {"atomic_inter_scale": scale, "atomic_inter_shift": shift} if family.scaled else {}
    model = model_class(**{key: value for key, value in options.items() if key in known}, **scaling)
    if family.old and NEW and gated:
        use_gates_of_e3nn(model)
    elif family.old and NEW:
        make_old(model)
    if gated:
        vary(model)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            # the product basis starts with weights of 1 / paths: too small for its highest order to be felt
            larger = parameter.shape[1] / 4 if "symmetric_contractions" in key else 1
            parameter.copy_(torch.round(parameter * larger * 32) / 32)
    return model.to(family.dtype)


def make_old(model: torch.nn.Module) -> None:
    """Bring a model to the state in which the files of 2023 have it; mace-torch still computes with it."""
    for name in ("heads", "lammps_mliap", "apply_cutoff", "edge_irreps", "use_reduced_cg", "use_agnostic_product"):
        del model.__dict__[name]
    for block in model.interactions:
        # paths of one l are merged into one irrep
        block.linear = o3.Linear(block.linear.irreps_in.simplify(), block.linear.irreps_out)
        del block.edge_irreps
    for product in model.products:
        del product.use_agnostic_product
        for contraction in product.symmetric_contractions.contractions:
            for name in ("weights_0_zeroed", "weights_1_zeroed", "weights_max_zeroed"):
                del contraction._buffers[name]
    del model.readouts[-1].num_heads
    cutoff = model.radial_embedding.cutoff_fn
    cutoff.p = cutoff.p.double()

    if hasattr(model, "pair_repulsion_fn"):
        model.pair_repulsion_fn.register_buffer("r_max", model.r_max.clone())
        model.pair_repulsion_fn.cutoff = PolynomialCutoff(float(model.r_max), p=5)


def use_gates_of_e3nn(model: torch.nn.Module) -> None:
    """As before mace-torch 0.3.16, which has a gate of its own."""
    for block in model.interactions:
        new = block.equivariant_nonlin
        gates = [torch.nn.functional.sigmoid] * len(new.irreps_gates)
        block.equivariant_nonlin = nn.Gate(
            new.irreps_scalars, [torch.nn.functional.silu], new.irreps_gates, gates, new.irreps_gated
        )


def vary(model: torch.nn.Module) -> None:
    """Give numbers to what starts as zero, one or next to nothing, so that its place is felt."""
    with torch.no_grad():
        for block in model.interactions:
            block.alpha.fill_(6.0)
            block.beta.fill_(1.5)
            for embedding in (block.source_embedding, block.target_embedding):
                embedding.weight.normal_()
            for net in (block.conv_tp_weights.net, block.density_fn.net):
                for norm in (module for module in net if isinstance(module, torch.nn.LayerNorm)):
                    norm.weight.normal_(1.0, 0.25)
                    norm.bias.normal_(0.0, 0.25)


def structures() -> dict[str, ase.Atoms]:
    rng = np.random.default_rng(67)
    triclinic = ase.Atoms(
        numbers=[14, 8, 8, 1, 1, 14, 8],
        scaled_positions=rng.uniform(0, 1, (7, 3)),
        cell=[[5.1, 0.3, -0.2], [0.9, 4.7, 0.5], [-1.1, 0.8, 5.6]],
        pbc=True,
    )
    slab = ase.build.bulk("Si", cubic=True) * (1, 1, 2)
    slab.pbc = (True, True, False)
    slab.center(vacuum=6.0, axis=2)
    slab.numbers[[3, 11]] = 8
    slab.rattle(0.1, seed=3)
    water = ase.build.molecule("H2O")
    pair = water.copy()
    pair.translate([2.9, 0.3, 0.4])
    silane = ase.build.molecule("SiH4")
    silane.rattle(0.05, seed=4)
    tiny = ase.Atoms("SiO", scaled_positions=[[0.1, 0.2, 0.3], [0.6, 0.55, 0.8]], cell=[2.1, 2.3, 2.6], pbc=True)
    return {
        "triclinic": triclinic,
        "slab": slab,
        "waters": water + pair,
        "silane": silane,
        "atom": ase.Atoms("O", positions=[[0.3, 0.1, -0.2]]),
        "tiny": tiny,
    }


def compute(model: torch.nn.Module, atoms: ase.Atoms, head: int) -> dict[str, np.ndarray]:
    numbers = model.atomic_numbers.tolist()
    # matscipy needs a cell even where nothing is periodic
    cell = atoms.cell.array if atoms.pbc.any() else np.eye(3) * 100.0
    i, j, offsets = neighbour_list(
        "ijS", positions=atoms.positions, cell=cell, pbc=atoms.pbc, cutoff=float(model.r_max)
    )
    data = {
        "positions": torch.tensor(atoms.positions, requires_grad=True),
        "cell": torch.tensor(cell),
        "pbc": torch.tensor(atoms.pbc)[None],
        "edge_index": torch.tensor(np.stack([i, j]), dtype=torch.int64),
        "unit_shifts": torch.tensor(offsets, dtype=torch.float64),
        "shifts": torch.tensor(offsets @ cell),
        "node_attrs": torch.eye(len(numbers))[[numbers.index(z) for z in atoms.numbers]],
        "batch": torch.zeros(len(atoms), dtype=torch.int64),
        "ptr": torch.tensor([0, len(atoms)]),
        "head": torch.tensor([head]),
    }
    out = model(data, compute_stress=True)
    result = {name: out[name].detach().numpy() for name in ("energy", "forces", "node_energy")}
    return {**result, **({"stress": out["stress"][0].detach().numpy()} if atoms.pbc.any() else {})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--archive", action="store_true")
    arguments = parser.parse_args()
    golden = {}
    for name, atoms in structures().items():
        for key in ("numbers", "positions", "pbc"):
            golden[f"{name}/{key}"] = getattr(atoms, key)
        golden[f"{name}/cell"] = atoms.cell.array
    for family in arguments.families:
        model = build(family, arguments.full)
        torch.save(model, arguments.folder / f"{family}.model")
        for index, head in enumerate(LIVE_FAMILIES[family].heads):
            for name, atoms in structures().items():
                for key, value in compute(model.double(), atoms, index).items():
                    golden[f"{name}/{family}/{head}/{key}"] = value
    np.savez_compressed(arguments.folder / "golden.npz", **golden)
    if arguments.archive:  # one for all: they share most of their bytes
        with tarfile.open(arguments.folder / "models.tar.xz", "w:xz", preset=9) as archive:
            for family in arguments.families:
                file = arguments.folder / f"{family}.model"
                archive.add(file, file.name)
                file.unlink()


if __name__ == "__main__":
    main()
