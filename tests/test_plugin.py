"""The example package, really installed: what it adds is trained, drawn from, and missed where it is not there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from atomsml.modelfile import read_metadata

ROOT = Path(__file__).parent.parent
CENTRES = np.array([[0.02, 0.5, 0.25], [0.52, 0.98, 0.75]])  # one at the seam of every axis but the last
WIDTH, SHARE = 0.04, 0.7  # of a cluster along each axis; of the points in the first cluster


def points(number: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    which = (rng.random(number) > SHARE).astype(int)
    return (CENTRES[which] + WIDTH * rng.standard_normal((number, 3))) % 1


def displacements(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centre of each point, and the way there by the nearest image."""
    ways = x[:, None] - CENTRES
    ways -= np.round(ways)
    nearest = np.linalg.norm(ways, axis=2).argmin(axis=1)
    return nearest, ways[np.arange(len(x)), nearest]


MAIN = """
import contextlib, io, json, sys
from atomsml.cli.main import main

for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as end:
            status = end.code or 0
    if isinstance(status, str):  # which Python itself would print
        status = [1, print(status, file=err)][0]
    print(json.dumps([status, out.getvalue(), err.getvalue()]))
"""


def atomsml(folder: Path, site: Path | None, *commands: Sequence[object]) -> list[tuple[int, str, str]]:
    """Status, output and errors of each command line, in a new process that has the packages of `site`."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    run = [sys.executable, "-c", MAIN, words]
    done = subprocess.run(run, cwd=folder, env=_environment(site), stdout=subprocess.PIPE, text=True, check=True)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def _environment(site: Path | None) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(str(each) for each in (site, ROOT) if each is not None)}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with the example in it."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(ROOT / "examples" / "plugin", folder / "source")  # setuptools writes beside what it builds
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile"]
    subprocess.run([sys.executable, *install, "--target", folder / "site", folder / "source"], check=True)
    return folder / "site"


@pytest.fixture(scope="module")
def trained(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, and 2000 points that were drawn from its model."""
    folder = tmp_path_factory.mktemp("trained")
    np.savez(folder / "data.npz", points=points(4000, seed=0))
    settings = ["--max-steps", 400, "--set", "batch.samples=256", "--set", "judge.samples=5"]
    few = ["-n", 5, "--seed", 3, "--batch", 2, "-o", "few.csv", "--json"]
    train, many, few = atomsml(
        folder,
        site,
        ["train", "--model", "torus-points", "--train", "data.npz", *settings, "-o", "run"],
        ["generate", "points", "-m", "run/model.safetensors", "-n", 2000, "--seed", 3],
        ["generate", "points", "-m", "run/model.safetensors", *few],
    )
    assert train[0] == 0, train
    assert "train: 3800 points" in train[2]
    assert re.search(r"5 points drawn in 50 steps by heun and [\d.e-]+ s; they are in run/samples.npz\n$", train[1])
    assert many[:2] == (0, "2000 points are in points.npz\n"), many
    assert json.loads(few[1]) == {"command": "generate points", "drawn": 5, "steps": 50, "sampler": "heun"}
    return folder


def test_the_potential_passes_the_tests_of_every_potential(site: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    words = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir", site]
    run = [sys.executable, "-m", "pytest", *words, ROOT / "examples" / "plugin" / "tests"]
    done = subprocess.run(run, cwd=site, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_the_potential_is_trained_and_used_by_the_commands(site: Path, tmp_path: Path) -> None:
    data = ROOT / "examples" / "data" / "carbonyls.extxyz"
    train, energy = atomsml(
        tmp_path,
        site,
        ["train", "--model", "schnet", "--train", data, "--max-steps", 3, "-o", "run"],
        ["energy", "C=O", "-m", "run/model.safetensors", "--json"],
    )
    assert train[0] == 0, train
    assert energy[0] == 0, energy
    assert np.isfinite(json.loads(energy[1])[0]["energy"])
    (without,) = atomsml(tmp_path, None, ["energy", "C=O", "-m", "run/model.safetensors"])
    assert without[0] == 1
    assert "needs the package atomsml-example: pip install atomsml-example" in without[2]


def test_what_is_drawn_is_distributed_as_the_data(trained: Path) -> None:
    x = np.load(trained / "points.npz")["points"]
    assert x.shape == (2000, 3)
    assert ((x >= 0) & (x < 1)).all()
    nearest, ways = displacements(x)
    near = np.linalg.norm(ways, axis=1) < 5 * WIDTH
    assert near.mean() > 0.93  # of uniform points 7 % are so near a centre
    # five standard deviations of so many draws, and as much for so short a training; noise would give one half
    assert abs((nearest == 0).mean() - SHARE) < 0.1
    for cluster in (0, 1):
        inside = ways[near & (nearest == cluster)]
        assert np.abs(inside.mean(axis=0)).max() < WIDTH / 4
        assert np.abs(inside.std(axis=0) / WIDTH - 1).max() < 0.25


def test_a_point_depends_on_the_seed_and_its_place_alone(trained: Path) -> None:
    few = np.loadtxt(trained / "few.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(few, np.load(trained / "points.npz")["points"][:5], atol=1e-5)  # float32
    about = json.loads((trained / "few.summary.json").read_text())
    assert (about["options"]["seed"], about["outputs"], about["structures"]) == (3, ["few.csv"], 5)


def test_its_file_says_what_it_is(trained: Path) -> None:
    about = read_metadata(trained / "run" / "model.safetensors")
    assert (about["architecture"], about["package"]) == ("torus-points", "atomsml-example")
    assert (about["kind"], about["generates"]) == ("generator of points", "points")
    result = json.loads((trained / "run" / "summary.json").read_text())
    samples = result["samples"]
    assert 0 < samples.pop("seconds") < 60
    assert samples == {"drawn": 5, "file": "run/samples.npz", "steps": 50, "sampler": "heun"}
    assert np.load(trained / "run" / "samples.npz")["points"].shape == (5, 3)


REFUSED = {
    "generate points": "no single embedded generator of points; give --model: or a file",
    "generate point": "nothing draws 'point'; did you mean 'points'? there are generators of molecules, graphs, "
    "backbones, points",
    "generate molecules -m MODEL": "draws points, not molecules; use `atomsml generate points`",
    "generate points -m qm9-flow": "qm9-flow draws molecules, not points; use `atomsml generate molecules`",
    "generate points -m MODEL -n 0": "-n must be at least 1, got 0",
    "generate points -m MODEL -o x.sdf": "cannot write points to x.sdf; use the suffix .npz, .csv",
    "generate points -m MODEL --sampler ddpm": "DDPM does not allow the process Geodesic",
    "energy O -m MODEL": "is a generator of points, not a potential; draw points with `atomsml generate points",
    "train -m torus-points --train DATA --set conditions=[gap]": "the training set has no property 'gap'",
    "train -m torus-points --train DATA --set model_options.channels=0": "channels must lie in 1 ... 4096, got 0",
    "train -m torus-points --train MODEL": "cannot be read",
}
REFUSED_WITHOUT_THE_PACKAGE = {
    "generate points -m MODEL": "needs the package atomsml-example: pip install atomsml-example",
    "generate points": "nothing draws 'points'; there are generators of molecules, graphs, backbones",
    "train -m torus-points --train DATA": "unknown model 'torus-points'; there are the potentials mace,",
}


@pytest.mark.parametrize("installed", [True, False])
def test_what_cannot_be_done_is_said_in_one_line(site: Path, trained: Path, tmp_path: Path, installed: bool) -> None:
    refused = REFUSED if installed else REFUSED_WITHOUT_THE_PACKAGE
    places = {"MODEL": trained / "run" / "model.safetensors", "DATA": trained / "data.npz"}
    commands = [[places.get(word, word) for word in command.split()] for command in refused]
    done = atomsml(tmp_path, site if installed else None, *commands)
    for (command, message), (status, _, errors) in zip(refused.items(), done, strict=True):
        assert status == 1, command
        assert message in errors, command
        assert errors.count("\n") == 1, errors
    assert not list(tmp_path.iterdir())


def test_ctrl_c_keeps_what_is_finished(site: Path, trained: Path, tmp_path: Path) -> None:
    words = ["-m", trained / "run" / "model.safetensors", "-n", 20_000, "--batch", 50, "-o", "out.csv"]
    command = [sys.executable, "-m", "atomsml.cli", "generate", "points", *map(str, words)]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=_environment(site),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    ) as process:
        assert process.stderr is not None
        started, tenth = process.stderr.readline(), process.stderr.readline()
        process.send_signal(signal.SIGINT)
        lines = process.stderr.read().splitlines()
        assert process.wait() == 130
    assert started.startswith("generate  step 0/20000 ")
    drawn = np.loadtxt(tmp_path / "out.csv", delimiter=",", skiprows=1)
    assert int(tenth.split()[3]) <= len(drawn) < 20_000
    assert len(drawn) % 50 == 0
    assert lines[-1] == f"interrupted: {len(drawn)} points are in out.csv, of the 20000 asked for"
    assert json.loads((tmp_path / "out.summary.json").read_text())["drawn"] == len(drawn)
