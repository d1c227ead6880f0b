"""Two processes give what one does: nothing missing, nothing twice; and what happens where one fails."""

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from atomsml.simulate.batching.processes import on_devices

SCRIPT = """
import json, os, sys
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from ase.build import molecule
from atomsml.simulate.batching.processes import on_devices

@lru_cache
def model(device):
    from atomsml import AtomsMLCalculator
    from atomsml.simulate.model import Model
    return Model.of(AtomsMLCalculator("organic-xtb", device=device, precision="float64"))

def energies(device, structures):
    from atomsml.simulate.state import State
    state = State.of(structures)
    model(device)(state)
    return [(energy, os.getpid()) for energy in state.energy.tolist()]

def dies(device, structures):
    os._exit(1)

if __name__ == "__main__":
    structures = [molecule(name) for name in ("H2O", "CH4", "NH3", "C2H2", "CO2")] * 4
    alone = [energy for energy, _ in energies("cpu", structures)]
    found = list(on_devices(energies, structures, ["cpu", "cpu"], part=3))
    try:
        list(on_devices(dies, structures, ["cpu"]))
    except BrokenProcessPool:
        print(json.dumps({"alone": alone, "found": found, "own": os.getpid()}))
"""


def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert sorted(i for i, _ in told["found"]) == list(range(20))
    for i, (energy, _) in told["found"]:
        assert energy == pytest.approx(told["alone"][i], abs=1e-10)
    processes = {process for _, (_, process) in told["found"]}
    assert len(processes) == 2
    assert told["own"] not in processes


def squares(device: str, numbers: Sequence[int]) -> list[str]:
    if 13 in numbers and device == "unlucky":
        raise RuntimeError("thirteen")
    return [f"{number**2} on {device}" for number in numbers]


def test_any_executor_serves() -> None:
    with ThreadPoolExecutor(4) as executor:
        found = dict(on_devices(squares, range(50), ["a", "b", "c"], executor, part=4))
        assert [found[i].split()[0] for i in range(50)] == [str(i**2) for i in range(50)]
        assert list(on_devices(squares, [], ["a"], executor)) == []
        with pytest.raises(RuntimeError, match="thirteen"):
            list(on_devices(squares, range(20), ["unlucky"], executor, part=2))
        with pytest.raises(ValueError, match="2 items have 1 results"):
            list(on_devices(lambda device, numbers: [device], range(4), ["a"], executor, part=2))
        with pytest.raises(ValueError, match="at least one device"):
            list(on_devices(squares, range(4), [], executor))
