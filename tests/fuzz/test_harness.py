"""Damaged files end in an answer or in one clear line: a short run of the harness, and what it must find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_a_short_run_finds_no_defect() -> None:
    """Of a fixed seed; `make fuzz` takes another each time."""
    words = [sys.executable, "-m", "tests.fuzz", "--count", "119", "--seed", "1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


PROBE = """
import os, sys, time
from pathlib import Path
os.environ["OMP_NUM_THREADS"] = "1"
import tests.fuzz.children as children
from tests.fuzz.verdicts import judge
def crash(words): os.abort()
def grow(words): keep = [bytearray(b"x") * 2**26 for _ in range(40)]; time.sleep(1)
def raises(words): raise KeyError("x")
def noise(words): print("libfoo: oops\\nerror: input.x: bad", file=sys.stderr); sys.exit(1)
def nameless(words): sys.exit("error: bad")
def several(words): print("error: input.x: bad\\nerror: input.x: bad", file=sys.stderr); sys.exit(1)
def good(words): sys.exit("error: input.x: has no atoms")
children.main = locals()[sys.argv[1]]
print(*judge(children.run([], Path(sys.argv[2])), "input.x", b""))
"""


@pytest.mark.parametrize(
    ("what", "verdict"),
    [
        ("crash", "defect signal 6"),
        ("grow", "defect memory"),
        ("raises", "defect traceback: KeyError"),
        ("noise", "defect noise: libfoo"),
        ("nameless", "defect does not name the file"),
        ("several", "defect 2 lines"),
        ("good", "refused error: input.x: has no atoms"),
    ],
)
def test_defects_are_seen(tmp_path: Path, what: str, verdict: str) -> None:
    words = [sys.executable, "-c", PROBE, what, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith(verdict), done.stdout + done.stderr
