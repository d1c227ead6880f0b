"""Damaged files end in an answer or in one clear line: a short run of the harness, and what it must find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_short_run_finds_no_defect() -> None:
    """Of a fixed seed; `make fuzz` takes another each time."""
    words = [sys.executable, "-m", "tests.fuzz", "--count", "51", "--seed", "1"]
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
def long(words): sys.exit("error: input.x: " + "x" * 5000)
def good(words): sys.exit("error: input.x: has no atoms")
def notes(words): print("  energy = e, on 1 of 2\\nmd  step 3/9\\nerror: input.x: bad", file=sys.stderr); sys.exit(1)
for end in (crash, grow, raises, noise, nameless, several, long, good, notes):
    children.main = end
    print(*judge(children.run([], Path(sys.argv[1])), "input.x", b""))
"""


def test_defects_are_seen(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, tmp_path], cwd=ROOT, capture_output=True, text=True)
    verdicts = done.stdout.splitlines()
    expected = [
        "defect signal 6",
        "defect memory",
        "defect traceback: KeyError",
        "defect noise: libfoo",
        "defect does not name the file",
        "defect 2 lines",
        "defect a line of 5016 characters",
        "refused error: input.x: has no atoms",
        "refused error: input.x: bad",
    ]
    assert len(verdicts) == len(expected), done.stdout + done.stderr
    for verdict, words in zip(verdicts, expected, strict=True):
        assert verdict.startswith(words)
