"""`atomsml convert`: from an official file to an energy, and files that it refuses."""

from __future__ import annotations

import json
import os
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk

from atomsml.modelfile import read_metadata

Run = Callable[..., Any]

# random weights, written by mace-torch 0.3.16 and sevenn 0.13.0 together with what they compute for them
DATA = Path(__file__).parents[1] / "data" / "mace"
SEVENNET = DATA.with_name("sevennet")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the heads surface and bulk."""
    folder = tmp_path_factory.mktemp("mace")
    with tarfile.open(DATA / "models.tar.xz") as archive:
        archive.extract("multihead.model", folder, filter="data")
    return folder / "multihead.model"


def test_converted_file_gives_what_mace_computes(run: Run, checkpoint: Path) -> None:
    golden = np.load(DATA / "golden.npz")
    atoms = ase.Atoms(**{key: golden[f"triclinic/{key}"] for key in ("numbers", "positions", "cell", "pbc")})
    ase.io.write("crystal.traj", atoms)
    result = run("convert", checkpoint, "--head", "bulk", "-o", "new/bulk.safetensors")
    assert (result.status, result.err) == (0, "")
    assert result.out == "wrote new/bulk.safetensors; `atomsml info new/bulk.safetensors` describes it\n"
    result = run("energy", "crystal.traj", "-m", "new/bulk.safetensors", "--precision", "float64", "--json")
    record = json.loads(result.out)[0]
    assert record["energy"] == pytest.approx(golden["triclinic/multihead/bulk/energy"].item(), rel=1e-9)
    np.testing.assert_allclose(record["forces"], golden["triclinic/multihead/bulk/forces"], rtol=0, atol=1e-9)


def test_output_stands_beside_the_file_by_default(run: Run, checkpoint: Path) -> None:
    Path("some.model").write_bytes(checkpoint.read_bytes())
    assert run("convert", "some.model", "--head", "surface").status == 0
    assert sorted(path.name for path in Path().iterdir()) == ["some.model", "some.safetensors"]


@pytest.mark.parametrize("suffix", [".pth", ".model"])
def test_sevennet_is_known_by_its_content(run: Run, suffix: str) -> None:
    Path(f"some{suffix}").write_bytes((SEVENNET / "graded.pth").read_bytes())
    result = run("convert", f"some{suffix}")
    assert (result.status, result.err) == (0, "")
    assert result.out == "wrote some.safetensors; `atomsml info some.safetensors` describes it\n"
    about = read_metadata("some.safetensors")
    assert (about["charge"], about["spin"]) == (None, None)  # which such files do not say
    golden = np.load(SEVENNET / "golden.npz")
    atoms = ase.Atoms(**{key: golden[f"slab/{key}"] for key in ("numbers", "positions", "cell", "pbc")})
    ase.io.write("slab.traj", atoms)
    result = run("energy", "slab.traj", "-m", "some.safetensors", "--precision", "float64", "--json")
    assert json.loads(result.out)[0]["energy"] == pytest.approx(golden["slab/graded/energy"].item(), rel=1e-9)


def test_sevennet_is_trimmed_on_request(run: Run) -> None:
    """A radial network as wide as those of published models; the one of the golden file is too small to gain."""
    checkpoint = torch.load(SEVENNET / "graded.pth", weights_only=False)  # written by us, not from elsewhere
    checkpoint["config"]["weight_nn_hidden_neurons"] = [64, 64]
    generator = torch.Generator().manual_seed(0)
    for name, old in checkpoint["model_state_dict"].items():
        if ".weight_nn.layer" in name:
            rows = len(old) if ".layer0." in name else 64
            columns = old.shape[1] if ".layer2." in name else 64
            checkpoint["model_state_dict"][name] = torch.randn(rows, columns, generator=generator)
    torch.save(checkpoint, "wide.pth")
    result = run("convert", "wide.pth", "--trim", "-o", "trimmed.safetensors")
    assert (result.status, result.err) == (0, "")
    counts, r2, wrote = result.out.splitlines()
    before, after = (int(word) for word in re.findall(r" (\d+)\b(?! *%)", counts)[:2])
    assert after < 0.5 * before
    assert r2.startswith("R2 of the radial functions by layer: 9")
    assert r2.count("%") == 3
    assert wrote.startswith("wrote trimmed.safetensors")


def test_a_trim_that_would_gain_nothing_is_refused(run: Run) -> None:
    result = run("convert", SEVENNET / "graded.pth", "--trim", "-o", "trimmed.safetensors")
    assert result.status == 1
    assert result.err.startswith("error: a trim would make 1903 parameters ")
    assert list(Path().iterdir()) == []


def test_a_trim_of_a_mace_file_is_refused(run: Run, checkpoint: Path) -> None:
    result = run("convert", checkpoint, "--head", "bulk", "--trim", "-o", "out.safetensors")
    assert result.status == 1
    assert result.err.startswith("error: --trim ")
    assert result.err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_a_head_of_a_file_that_has_none_is_refused(run: Run) -> None:
    result = run("convert", SEVENNET / "graded.pth", "--head", "bulk", "-o", "out.safetensors")
    assert result.status == 1
    assert result.err.endswith("there is no head bulk; the file has default\n")
    assert result.err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_a_modality_of_sevennet_is_a_head(run: Run) -> None:
    assert "the file has R2SCAN, PBE" in run("convert", SEVENNET / "modal.pth", "-o", "out.safetensors").err
    assert run("convert", SEVENNET / "modal.pth", "--head", "PBE", "-o", "pbe.safetensors").status == 0
    golden = np.load(SEVENNET / "golden.npz")
    atoms = ase.Atoms(**{key: golden[f"slab/{key}"] for key in ("numbers", "positions", "cell", "pbc")})
    ase.io.write("slab.traj", atoms)
    result = run("energy", "slab.traj", "-m", "pbe.safetensors", "--precision", "float64", "--json")
    assert json.loads(result.out)[0]["energy"] == pytest.approx(golden["slab/modal/PBE/energy"].item(), rel=1e-9)


@pytest.mark.parametrize("head", [(), ("--head", "molecule")])
def test_heads_are_listed_where_none_fits(run: Run, checkpoint: Path, head: tuple[str, ...]) -> None:
    result = run("convert", checkpoint, *head, "-o", "out.safetensors")
    assert result.status == 1
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert "surface, bulk" in result.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(("content", "message"), [(None, "No such file"), (b"", ""), (b"no model", "")])
def test_bad_files_are_refused(run: Run, content: bytes | None, message: str) -> None:
    if content is not None:
        Path("bad.model").write_bytes(content)
    _check_refused(run, message)
    assert [path.name for path in Path().iterdir()] == (["bad.model"] if content is not None else [])


class Hostile:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("owned",)


def test_a_file_that_asks_for_more_than_a_model_runs_nothing(run: Run) -> None:
    torch.save(Hostile(), "bad.model")
    _check_refused(run, "mkdir")
    assert [path.name for path in Path().iterdir()] == ["bad.model"]
    torch.load("bad.model", weights_only=False)  # what it does to those who trust it
    assert Path("owned").is_dir()


def _check_refused(run: Run, message: str) -> None:
    result = run("convert", "bad.model")
    assert result.status == 1
    assert result.err.startswith("error: ")
    assert "bad.model" in result.err
    assert message in result.err
    assert result.err.count("\n") == 1


def test_bad_outputs_are_refused_before_the_file_is_read(run: Run) -> None:
    assert "must have the suffix .safetensors" in run("convert", "none.model", "-o", "out.pt").err
    Path("file").write_text("")
    assert "cannot write file/out.safetensors" in run("convert", "none.model", "-o", "file/out.safetensors").err


def test_a_training_checkpoint_of_mace_is_known(run: Run) -> None:
    """What `mace_run_train` leaves in its folder checkpoints: weights without the model that they belong to."""
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters(), amsgrad=True)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9993)
    states = {"model": layer.state_dict(), "optimizer": optimizer.state_dict(), "lr_scheduler": schedule.state_dict()}
    torch.save({**states, "epoch": 3}, "u_run-1_epoch-3.pt")
    result = run("convert", "u_run-1_epoch-3.pt", "-o", "u.safetensors")
    assert result.status == 1
    assert "a checkpoint of mace_run_train, which holds weights only; give the .model that lies beside it" in result.err
    torch.save(layer.state_dict(), "weights.pt")
    result = run("convert", "weights.pt", "-o", "u.safetensors")
    assert result.status == 1
    assert (
        "weights.pt is not a SevenNet checkpoint but a state_dict, which holds weights only; give the whole saved model"
        in result.err
    )
    assert not Path("u.safetensors").exists()


def test_modules_that_share_their_children_are_visited_once(run: Run) -> None:
    """Forty levels of a module that holds the next one twice: 2^40 paths lead to the last."""

    def text(word: str) -> bytes:
        return b"X" + len(word).to_bytes(4, "little") + word.encode()

    module = b"cmace.modules.models\nScaleShiftMACE\n)R}" + text("_modules") + b"}"
    level = b"0" + module + text("a") + b"h\0s" + text("b") + b"h\0ssbq\0"
    with zipfile.ZipFile("shared.model", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + module + b"sbq\0" + level * 40 + b".")
    result = run("convert", "shared.model", "-o", "shared.safetensors")
    assert result.status == 1
    assert result.err == "error: shared.model: the file's ScaleShiftMACE has no interactions\n"


@pytest.fixture
def a_run(run: Run) -> Path:
    """run.h5, two systems with three frames each, and one that cannot move."""
    from atomsml.simulate.dynamics.nve import NVE
    from atomsml.simulate.md import md
    from atomsml.simulate.model import Model
    from atomsml.simulate.trajectory import TrajectoryWriter, record
    from atomsml.testing.model_potentials import LennardJones

    model, structures = Model(LennardJones(), 8.5), [bulk("Ar", cubic=True), bulk("Ar") * (2, 1, 1), bulk("Ar")]
    with TrajectoryWriter.create(Path("run.h5"), structures, timestep=1.0, interval=2) as writer:
        for _ in record(md(structures, model, NVE(1.0), 4, 2, temperature=20.0), writer, model):
            pass
    return Path("run.h5")


def test_a_run_becomes_a_file_for_each_system(run: Run, a_run: Path) -> None:
    result = run("convert", a_run, "-o", "out.extxyz")
    assert result.out == "wrote out-0.extxyz: 3 frames of Ar4\nwrote out-1.extxyz: 3 frames of Ar2\n"
    assert result.err.startswith("note: Ar has no frames: a single atom cannot move")
    assert result.status == 0
    frames = ase.io.read("out-0.extxyz", ":")
    assert [len(atoms) for atoms in frames] == [4, 4, 4]
    result = run("convert", a_run, "-o", "XDATCAR")
    assert len(ase.io.read("XDATCAR-1", ":", format="vasp-xdatcar")) == 3


def test_a_run_is_an_input_of_every_command(run: Run, a_run: Path) -> None:
    """Frames of all systems, and their energies as labels."""
    result = run("data", "info", a_run, "--json")
    assert result.status == 0, result.err
    report = json.loads(result.out)["files"][0]
    assert report["structures"] == 6
    result = run("data", "build", a_run, "-o", "data.h5")
    assert result.status == 0, result.err
    assert "6 structures (energy 6, forces 6" in result.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "run.h5 is a run of md: name the output with -o, for example run.extxyz"),
        (["-o", "out.pdb"], "cannot write a trajectory to out.pdb; use the suffix .extxyz"),
        (["-o", "run.h5"], "cannot write a trajectory to run.h5"),
        (["--head", "a", "-o", "out.dcd"], "--head is for models, but run.h5 is a run of md; leave it out"),
    ],
)
def test_what_cannot_be_done_with_a_run_is_said(run: Run, a_run: Path, words: list[str], said: str) -> None:
    before = a_run.read_bytes()
    result = run("convert", a_run, *words)
    assert result.status == 1
    assert said in result.err
    assert [path.name for path in Path().iterdir()] == ["run.h5"]
    assert a_run.read_bytes() == before


def test_a_data_set_is_no_run(run: Run, data: Path) -> None:
    assert run("data", "build", data, "--energy-key", "dft_energy", "-o", "data.h5").status == 0
    result = run("energy", "data.h5", "-m", "universal-small")
    assert result.status == 1
    assert "is no trajectory of atomsml; data sets in HDF5 are for train, evaluate and data" in result.err
