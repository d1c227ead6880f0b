"""What a user must get of a damaged file: an answer that is sane, or one clear line that names the file."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from tests.fuzz.children import CPU_SECONDS, MEMORY, TRACEBACK, Ended

# lines on stderr beside the one of an error: notes of the commands, of which each is one line
NOTE = re.compile(
    r"^(warning: |refused: |model: |note: |\d+ of \d+ inputs were refused)"
    r"|: (left out|\d+ structures|.* suspicious)"
    r"|^  (\w+ = .*, on \d+ of \d+|without |not used: )|^the model will refuse "  # which labels, of what charge
    r"|  step +\d|: [\d,]+ weights to train, "  # how far it is
    r"|^\d+ structures (cannot be used and are|were) left out"
)
REFUSED = re.compile(r"^refused: |^  input\.\w+[,:] ")  # by most commands, and by train, of the input of the harness
# the damaged file; the structure to which settings of it lead, or the batch with its structures
NAMED = re.compile(r"input|^error: O, frame 0: |run/bad_batch\.extxyz")
OUT_OF_MEMORY = re.compile(r"MemoryError|out of memory|allocate|[Mm]emory", re.ASCII)


def judge(ended: Ended, name: str, content: bytes) -> tuple[str, str]:
    """("fine" | "refused" | "defect", why)."""
    if ended.memory > MEMORY:
        return "defect", f"memory: {ended.memory / 2**30:.1f} GB"
    if ended.seconds > CPU_SECONDS - 0.5:
        return "defect", f"time: {ended.seconds:.0f} s"
    if ended.status < 0:
        return "defect", f"signal {-ended.status}"
    lines = ended.err.splitlines()
    if ended.status == TRACEBACK or "Traceback (most recent call last)" in ended.err:
        return "defect", f"traceback: {lines[-1] if lines else ''}"
    errors = [line for line in lines if line.startswith("error: ")]
    refused = [line for line in lines if REFUSED.search(line)]
    strange = [line for line in lines if line not in errors + refused and not NOTE.search(line)]
    if ended.status == 0:
        return ("defect", f"silent: {wrong}") if (wrong := _wrong(ended.out, name, content)) else ("fine", "")
    if strange and ended.status != 2:
        return "defect", f"noise: {strange[0]}"
    if len(errors) > 1 or not (errors or refused or ended.status == 2):
        return "defect", f"{len(errors)} lines of errors"
    if ended.status == 2:
        return "defect", f"usage: {lines[-1] if lines else ''}"
    for line in errors or refused:
        if not NAMED.search(line.replace(name, "input")):
            return "defect", f"does not name the file: {line}"
        if OUT_OF_MEMORY.search(line):
            return "defect", f"memory: {line}"
        if len(line) > 1000:
            return "defect", f"a line of {len(line)} characters: {line[:200]}"
        if not re.sub(r"^(error: |refused: |  )", "", line).replace(name, "").strip(" :'"):
            return "defect", f"says nothing: {line}"
    return "refused", (errors or refused)[0]


def _wrong(out: str, name: str, content: bytes) -> str:
    """What can be known to be wrong with an answer; empty where nothing is."""
    if not out.lstrip().startswith(("[", "{")):
        return ""
    try:
        answer = json.loads(out)
    except json.JSONDecodeError as error:
        return f"no JSON ({error})"
    if isinstance(answer, list) and all(isinstance(row, dict) and "energy" in row for row in answer):
        if not all(_finite(row["energy"]) and _finite(row.get("forces")) for row in answer):
            return "an energy or force that is not finite"
        return _lost(answer, name, content)
    return ""


def _lost(records: list[dict[str, Any]], name: str, content: bytes) -> str:
    if name.endswith(".sdf"):
        ends = sum(line.rstrip() == b"$$$$" for line in content.splitlines())
        return f"{len(records)} records of {ends}" if len(records) < ends else ""
    if name.endswith("xyz"):
        counts = _xyz_frames(content.decode("utf-8", "replace"))
        if counts is None:
            return f"counts of atoms do not fit the lines, but {len(records)} frames were read"
        if counts != [len(record["forces"]) for record in records]:
            return f"frames of {counts} atoms gave {[len(record['forces']) for record in records]}"
    return ""


def _xyz_frames(text: str) -> list[int] | None:
    """Atoms of each frame; None where counts and lines do not agree."""
    lines = re.split(r"\r?\n", text)
    counts, place = [], 0
    while place < len(lines):
        word = lines[place].strip().removeprefix("\ufeff")
        if not word:
            place += 1
            continue
        if not word.isdecimal() or len(word) > 9 or place + int(word) + 2 > len(lines):
            return None
        rows = lines[place + 2 : place + 2 + int(word)]
        if any(len(row.split()) < 4 for row in rows):
            return None
        counts.append(int(word))
        place += 2 + int(word)
    return counts


def _finite(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_finite, value))
    return value is None or math.isfinite(value)
