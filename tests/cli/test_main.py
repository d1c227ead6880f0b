"""The command as a process: how it starts, what it imports, how errors leave it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import atomsml


def _python(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    source = str(Path(atomsml.__file__).parent.parent)
    paths = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=folder, env=environment)


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['atomsml', '--help']\n"
        "from atomsml.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'numpy', 'scipy', 'ase', 'rdkit', 'pymatgen', 'matplotlib', 'yaml', 'rich', 'llvmlite'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    result = _python("-c", code, folder=tmp_path)
    assert result.stderr == ""
    assert result.stdout.splitlines()[-1] == "loaded: []"
    for command in ("energy", "relax", "md", "convert", "models", "info"):
        assert f"  {command} " in result.stdout


def test_runs_as_a_module_and_prints_its_version(tmp_path: Path) -> None:
    result = _python("-m", "atomsml.cli", "--version", folder=tmp_path)
    assert (result.returncode, result.stdout) == (0, f"atomsml {atomsml.__version__}\n")


def test_an_error_of_the_user_is_one_line_on_stderr_and_status_1(tmp_path: Path) -> None:
    result = _python("-m", "atomsml.cli", "convert", "some.model", "-o", "some.txt", folder=tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == "error: the converted model must have the suffix .safetensors, got some.txt\n"


@pytest.mark.parametrize("words", [(), ("energy",), ("fly",), ("energy", "O", "--no-such-option")])
def test_a_usage_error_has_status_2(tmp_path: Path, words: tuple[str, ...]) -> None:
    result = _python("-m", "atomsml.cli", *words, folder=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
