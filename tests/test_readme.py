"""The code blocks of the README run as they stand, in a folder with examples/ and a small file in MACE's format."""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from atomsml.modelfile import embedded_models
from atomsml.potentials import POTENTIALS

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
README = (ROOT / "README.md").read_text()
BLOCKS = BLOCK.findall(README)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [code for language, code in BLOCKS if language == "bash" and code.startswith("atomsml ")]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with tarfile.open(ROOT / "tests" / "data" / "mace" / "models.tar.xz") as archive:
        model = archive.extractfile("off23.model")
        assert model is not None
        (tmp_path / "MACE-OFF23_small.model").write_bytes(model.read())
    return tmp_path


def run(command: list[str], folder: Path) -> None:
    scripts = Path(sys.executable).parent  # where `atomsml` was installed, also if the environment is not activated
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_has_both_kinds_of_blocks():
    assert PYTHON
    assert COMMANDS


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_block(code, folder):
    run([sys.executable, "-c", code], folder)


@pytest.mark.parametrize("code", COMMANDS, ids=range(len(COMMANDS)))
def test_command_block(code, folder):
    run(["bash", "-euc", code], folder)


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text())
    inside = [link for link in links if "://" not in link]
    assert [link for link in inside if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize(("section", "names"), [("Architectures", POTENTIALS), ("Embedded models", embedded_models())])
def test_tables_list_what_there_is(section, names):
    text = README.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)) == set(names)
