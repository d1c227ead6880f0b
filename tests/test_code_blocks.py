"""Every block of code in README and docs runs as it stands, page by page, beside files of the names that it uses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk
from rdkit import Chem

from atomsml.io import mol_from_smiles

ROOT = Path(__file__).parent.parent
GUIDES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))
PAGES = ["README.md", "benchmarks/README.md", *GUIDES]
SLOW = {  # they train, or start many commands
    *("docs/architectures.md", "docs/generators/backbone-metrics.md", "docs/published.md"),
    *("docs/training.md", "docs/finetuning.md", "docs/uncertainty.md", "docs/generators/edm.md"),
    *("docs/interfaces/openmm.md", "docs/interfaces/ipi.md", "docs/interfaces/screening.md"),
    *("docs/simulation.md", "docs/generators/generate.md", "docs/generators/molecule-metrics.md", "docs/sevennet.md"),
    "docs/interfaces/lammps.md",
    *(page for page in GUIDES if page.startswith("docs/properties/") and page != "docs/properties/eos.md"),
}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMILES = ("CCO", "CC=O", "C1CC1", "CC(=O)N", "c1ccccc1", "CC#N", "CCN", "OCCO", "C=CC=O", "COC", "NC=O", "CC(C)O")
# A page says at the head of a block what it needs that no test has; of these nothing runs.
NEEDS = {
    "README.md": ["a network"],
    "docs/accuracy.md": ["the published sets, which are not in this repository"] * 4,
    "docs/architectures.md": [
        "the published sets, which are not in this repository",
        "the models of the command above",
        "the published sets, which are not in this repository",
    ],
    "docs/claims.md": ["minutes of an idle core", "hours of an idle core"],
    "docs/devices.md": ["a GPU"],
    "docs/faithful.md": [
        *["your data"] * 2,
        "the published sets, which are not in this repository",
        "your data",
        *["the published sets, which are not in this repository"] * 2,
        "your data",
    ],
    "docs/generators/backbone-metrics.md": ["DATA, and models that were trained on it"],
    "docs/generators/backbones.md": ["1guu.pdb, of the Protein Data Bank"],
    "docs/generators/edm.md": [
        *["QM9, and days of a GPU", "an hour of a core, and DATA", "molecules that it has not learnt from"],
        *["the authors' program", "files of theirs"],
    ],
    "docs/generators/generative.md": ["to install a package; tests/test_plugin.py does"],
    "docs/generators/symphony.md": ["core.xyz", "a trained model and a fragment"],
    "docs/interfaces/ase.md": ["matcalc"],
    "docs/interfaces/ipi.md": ["i-PI, waiting at a socket"],
    "docs/interfaces/lammps.md": ["a network"],
    "docs/interfaces/screening.md": [
        'a script with its own `if __name__ == "__main__"`',
        "a cluster with Slurm",
    ],
    "docs/models.md": ["a network", "sevennet-0, fetched", "a network", "files that were brought here"],
    "docs/properties/phonons.md": ["sevennet-0 fetched, and a minute of a core"],
    "docs/published.md": ["make peers, and a network"],
    "docs/sevennet.md": ["MatterSim's file, and an hour"],
    "docs/speed.md": [
        "an hour of an idle machine",
        "the published set, which is not in this repository",
        *["minutes of an idle core"] * 3,
        *["the published sets, which are not in this repository"] * 2,
        "a C++ compiler, and minutes of an idle core",
    ],
    "docs/tensor-products.md": ["minutes of an idle core"] * 3,
    "docs/universal.md": ["a network", *["DATA, make chgnet, both SevenNets fetched, and an hour of a core"] * 2],
}
INSTALLING = ("make ", "pip install ")  # what made the environment in which this test runs
# the same commands with smaller numbers: an epoch in place of an hour, three molecules in place of a thousand
SHORTER = {
    r"--max-minutes \d{3}": "--max-epochs 300",  # of a dozen molecules, without which nothing can be drawn
    r"--max-minutes \d+": "--max-epochs 1",
    r"-n \d{2,}": "-n 3",
}


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and code."""
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What stands in for official files, by the names of these: tiny ones of the same classes."""
    unpacked, tests = tmp_path_factory.mktemp("official"), ROOT / "tests" / "data"
    with tarfile.open(tests / "mace" / "models.tar.xz") as archive:
        for name in ("off23.model", "mh1.model"):
            archive.extract(name, unpacked, filter="data")
    return {
        "MACE-OFF23_small.model": unpacked / "off23.model",
        "mace-mh-1.model": unpacked / "mh1.model",
        "checkpoint_sevennet_0.pth": tests / "sevennet" / "nequip.pth",
        "checkpoint_sevennet_mf_0.pth": tests / "sevennet" / "modal.pth",
        "model.nequip.zip": tests / "nequip" / "preset.nequip.zip",
    }


@pytest.fixture
def folder(tmp_path: Path, official: dict[str, Path]) -> Path:
    """What the pages call mine.extxyz, mine.sdf and so on."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    for name in ("mine", "train", "valid", "input"):
        (tmp_path / f"{name}.extxyz").symlink_to(ROOT / "examples" / "data" / "carbonyls.extxyz")
    for name in ("mine", "molecules", "generated"):
        with Chem.SDWriter(str(tmp_path / f"{name}.sdf")) as writer:
            for seed, smiles in enumerate(SMILES):
                mol = mol_from_smiles(smiles, seed=seed)
                mol.SetDoubleProp("gap", 3.0 + 0.5 * seed)
                writer.write(mol)
    bulk("Si", cubic=True).write(tmp_path / "crystal.cif")
    (tmp_path / "proteins").mkdir()
    for path in (ROOT / "tests" / "data" / "proteins").glob("*.pdb.gz"):
        (tmp_path / "proteins" / path.name).symlink_to(path)
    for name, file in official.items():
        (tmp_path / name).symlink_to(file)
    return tmp_path


def program(part: list[tuple[str, str]]) -> str:
    """Python that runs the blocks of a guide one after the other: Python goes on where its last block ended."""
    lines = ["import subprocess"]
    for language, code in part:
        for long, short in SHORTER.items():
            code = re.sub(long, short, code)
        command = ["bash", "-euc", code.replace(".venv/bin/", "")]
        lines.append(code if language == "python" else f"subprocess.run({command!r}, check=True)")
    return "\n".join(lines)


def runs() -> Iterator[Any]:
    """The blocks of a guide, in their order; those of the README each for itself."""
    for page in PAGES:
        found = [(language, code) for language, code in blocks(page) if language in ("bash", "python")]
        found = [(language, code) for language, code in found if not code.startswith(("# needs ", *INSTALLING))]
        for i, part in enumerate([[x] for x in found] if page == "README.md" else [found]):
            marks = pytest.mark.slow if page in SLOW else ()
            yield pytest.param(part, id=f"{page}-{i}", marks=marks)


@pytest.mark.parametrize("part", list(runs()))
def test_blocks_run(part: list[tuple[str, str]], folder: Path) -> None:
    scripts = Path(sys.executable).parent  # where `atomsml` was installed, also if the environment is not activated
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-c", program(part)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{part}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES)
def test_what_does_not_run_says_so(page: str) -> None:
    unmet = [code.partition("\n")[0] for _, code in blocks(page) if code.startswith("# needs ")]
    assert unmet == [f"# needs {what}" for what in NEEDS.get(page, [])]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_language(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert {language for language, _ in blocks(page)} <= {"bash", "python", "yaml", "toml", "text"}
    assert re.findall(r"^ {4,}(?:atomsml|python|make|from|import) .*", BLOCK.sub("", text), re.MULTILINE) == []


@pytest.mark.parametrize("page", PAGES)
def test_targets_of_make_exist(page: str) -> None:
    named = [
        line.split("#")[0].split()
        for language, code in blocks(page)
        if language == "bash"
        for line in code.splitlines()
    ]
    for command in [words for words in named if words[:1] == ["make"]]:
        subprocess.run([*command, "--dry-run"], cwd=ROOT, capture_output=True, check=True)
