"""A network of the program nequip, its weights brought here, is the same function.

The weights in tests/data/nequip/golden.npz are random; they and the values beside them were written by nequip 0.19.0
(make_nequip_golden.py).
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.data import atomic_numbers

from atomsml.graph import AtomicGraph
from atomsml.potentials.nequip import NEQUIP, NequIP, NequIPConfig
from atomsml.potentials.nequip.nequip_weights import state_dict
from tests.potentials.nequip.test_sevennet_checkpoint import Golden, assert_agrees, read

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "data" / "nequip" / "golden.npz"
PEER = ROOT / ".venv-nequip" / "bin" / "python"
CASES = ("preset", "natural", "both, l 1", "both, l 2", "both, l 3", "natural, l 3", "repulsion")
EXACT = {"energy": 1e-9}  # of all quantities


def config_of(settings: dict[str, Any]) -> NequIPConfig:
    """nequip's words in ours."""
    features, lmax = settings["num_features"], settings["l_max"]
    scales = settings["per_type_energy_scales"]
    return NequIPConfig(
        **{**NEQUIP, "first_self_connection": settings.get("learnable_shift", False)},
        elements=tuple(sorted(atomic_numbers[name] for name in settings["type_names"])),
        cutoff=settings["r_max"],
        channels=(features,) * (lmax + 1) if isinstance(features, int) else tuple(features),
        lmax=lmax,
        parity=settings["parity"],
        num_layers=settings["num_layers"],
        embedding_channels=settings.get("type_embed_num_features"),
        num_bessel=settings.get("num_bessels", 8),
        envelope_power=settings.get("polynomial_cutoff_p", 6),
        radial_mlp=(settings["radial_mlp_width"],) * settings.get("radial_mlp_depth", 1),
        avg_num_neighbors=settings["avg_num_neighbors"],
        relative_to_isolated=False,
        zbl="pair_potential" in settings,
        element_scales=isinstance(scales, dict),
        scale=scales if isinstance(scales, float) else 1.0,
    )


def potential_of(golden: Golden, case: str) -> NequIP:
    settings, prefix = json.loads(str(golden[f"settings/{case}"])), f"weights/{case}/"
    weights = {name.removeprefix(prefix): torch.from_numpy(x) for name, x in golden.items() if name.startswith(prefix)}
    names = ("scales", "shifts")
    weights = {f"per_type_energy_scale_shift.{name}": torch.empty(0) for name in names} | weights
    potential = NequIP(config_of(settings)).double()
    potential.load_state_dict(state_dict(potential, weights, [atomic_numbers[x] for x in settings["type_names"]]))
    return potential


@pytest.mark.parametrize("case", CASES)
def test_energies_forces_and_stress_are_those_of_nequip(case: str) -> None:
    golden = read(GOLDEN)
    assert np.abs(golden[f"triclinic/{case}/forces"]).max() > 0.01  # which a wrong sign or factor would change
    assert_agrees(potential_of(golden, case), golden, case, EXACT)


def test_what_no_path_leads_from_is_all_that_does_not_count() -> None:
    """The last layer reads true scalars alone: what the one before makes of the other parity goes nowhere."""
    golden = read(GOLDEN)
    potential = potential_of(golden, "both, l 2")
    atoms = ase.Atoms(**{key: golden[f"triclinic/{key}"] for key in ("numbers", "positions", "cell", "pbc")})
    energy = potential(AtomicGraph.from_ase(atoms).connected(potential.cutoff)).sum()
    gradients = torch.autograd.grad(energy, list(potential.parameters()), materialize_grads=True)
    names = [name for name, _ in potential.named_parameters()]
    idle = {name for name, x in zip(names, gradients, strict=True) if x.abs().max() < 1e-12}
    tensors = {f"layers.2.{kind}.weights.{block}" for kind in ("linear_out", "self_connection") for block in (3, 4)}
    assert idle == tensors | {"layers.2.linear_out.weights.5"}  # pseudoscalars, which the self-connection has not yet


def remake(folder: Path, *words: str) -> Golden:
    """What the script writes."""
    if not PEER.exists():
        pytest.skip("nequip is not installed; run `make nequip`")
    script, environment = Path(__file__).with_name("make_nequip_golden.py"), {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    command = [PEER, "-W", "ignore", script, folder, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return read(folder / "golden.npz")


@pytest.mark.slow
def test_nequip_computes_the_golden_values_again(tmp_path: Path) -> None:
    found = remake(tmp_path)
    assert found.keys() == read(GOLDEN).keys()
    for case in CASES:
        assert_agrees(potential_of(found, case), found, case, EXACT)
