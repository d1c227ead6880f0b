"""Every benchmark starts, and the table of them is complete."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# these run in environments that have what they compare with, and no other
OF_PEERS = {f"shared/peer_{name}" for name in ("mace", "energies", "nequip", "sevennet", "chgnet")}
# started by the scripts that measure, not by hand
OF_OTHERS = {"shared/mace_programs", "shared/calls", "accuracy/architecture_costs"}

ANSWER_HELP = """
import contextlib, io, runpy, sys
failed = []
for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            runpy.run_module(f"benchmarks.{name.replace('/', '.')}", run_name="__main__")
    except SystemExit as stop:
        if stop.code == 0 and text.getvalue().startswith("usage: "):
            continue
    failed.append(name)
print(*failed)
"""


def scripts() -> set[str]:
    """Room and name of each file that runs by itself."""
    files = (ROOT / "benchmarks").rglob("*.py")
    return {f"{path.parent.name}/{path.stem}" for path in files if '__name__ == "__main__"' in path.read_text()}


def test_every_script_answers_help():
    """In one process, which imports torch once; from the root of the repository, as they are to be run."""
    names = sorted(scripts() - OF_PEERS)
    command = [sys.executable, "-W", "ignore", "-c", ANSWER_HELP, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_table_lists_every_script():
    table = (ROOT / "benchmarks" / "README.md").read_text()
    assert set(re.findall(r"^\| `([\w/]+)` \|", table, re.MULTILINE)) == scripts() - OF_PEERS - OF_OTHERS
