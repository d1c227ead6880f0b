"""The command as a process: how it starts, what it imports, how errors leave it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

import atomsml
from atomsml.cli.main import built_commands, main


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


def test_a_first_energy_waits_for_no_library_that_it_can_do_without(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['atomsml', 'energy', 'CCO']\n"
        "from atomsml.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "slow = {'sympy', 'torch._dynamo', 'scipy.interpolate', 'scipy.optimize', 'pymatgen', 'matplotlib', 'h5py'}\n"
        "print('loaded:', sorted(slow & set(sys.modules)))"
    )
    result = _python("-c", code, folder=tmp_path)
    assert result.stdout.splitlines()[-1] == "loaded: []"


def test_runs_as_a_module_and_prints_its_version(tmp_path: Path) -> None:
    result = _python("-m", "atomsml.cli", "--version", folder=tmp_path)
    assert (result.returncode, result.stdout) == (0, f"atomsml {atomsml.__version__}\n")


def test_an_error_of_the_user_is_one_line_on_stderr_and_status_1(tmp_path: Path) -> None:
    result = _python("-m", "atomsml.cli", "convert", "some.model", "-o", "some.txt", folder=tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == "error: the converted model must have the suffix .safetensors, got some.txt\n"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("atomsml re", ["relax"]),
        ("atomsml md --ens", ["--ensemble"]),
        ("atomsml md --ensemble n", ["nve", "nvt", "npt"]),
        ("atomsml data b", ["build", "backbones"]),
    ],
)
def test_a_shell_completes_words(
    tmp_path: Path, line: str, offered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As bash asks, once `atomsml --install-completion` has told it how."""
    monkeypatch.setenv("_ATOMSML_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    code = "import sys; sys.argv = ['atomsml']; from atomsml.cli.main import main; main()"
    result = _python("-c", code, folder=tmp_path)
    assert result.stdout.split() == offered


def test_completion_is_installed_for_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # the shell is named instead
    code = (
        "import sys; sys.argv = ['atomsml', '--install-completion', 'bash']\nfrom atomsml.cli.main import main; main()"
    )
    assert _python("-c", code, folder=tmp_path).returncode == 0
    assert "_ATOMSML_COMPLETE" in (tmp_path / ".bash_completions" / "atomsml.sh").read_text()
    assert "atomsml.sh" in (tmp_path / ".bashrc").read_text()


@pytest.mark.parametrize("words", [(), ("energy",), ("fly",), ("energy", "O", "--no-such-option")])
def test_a_usage_error_has_status_2(tmp_path: Path, words: tuple[str, ...]) -> None:
    result = _python("-m", "atomsml.cli", *words, folder=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_request_to_stop_before_any_command_has_begun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Typer builds its commands first, which takes a while; the signal comes in the middle of that."""
    build = typer.main.get_command

    def interrupted(app: typer.Typer) -> object:
        signal.raise_signal(signal.SIGTERM)
        return build(app)

    monkeypatch.setattr(typer.main, "get_command", interrupted)
    built_commands.cache_clear()
    with pytest.raises(SystemExit) as end:
        main(["models"])
    assert end.value.code == 143
    assert capsys.readouterr().err == "interrupted: nothing more is written\n"
