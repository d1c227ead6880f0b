"""Two processes give what one does: nothing missing, nothing twice; and what happens where one fails."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule

from atomsml.simulate.batching.processes import on_devices
from atomsml.testing import pretended_device

SCRIPT = """
import json, os, sys
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
    yield from enumerate((energy, os.getpid()) for energy in state.energy.tolist())

if __name__ == "__main__":
    structures = [molecule(name) for name in ("H2O", "CH4", "NH3", "C2H2", "CO2")] * 4
    alone = [energy for _, (energy, _) in energies("cpu", structures)]
    found = list(on_devices(energies, structures, ["cpu", "cpu"], part=3))
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


def counted(device: str, numbers: Sequence[int]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Two results of each; on "mortal" the number 5 ends the process, on "unlucky" 13 is an error."""
    for i, number in enumerate(numbers):
        for result in ("begun", "done"):
            if device == "mortal" and number == 5 and result == "done":
                os.kill(os.getpid(), signal.SIGKILL)
            if device == "unlucky" and number == 13:
                raise RuntimeError("thirteen")
            yield i, (device, f"{number} {result}")


def test_results_come_as_they_are_found_and_others_finish_when_one_dies() -> None:
    found = list[tuple[int, tuple[str, str]]]()
    with pytest.raises(ChildProcessError, match=r"^the process on mortal was killed by SIGKILL; was memory short\?$"):
        found.extend(on_devices(counted, range(5, 25), ["mortal", "cpu"], part=2))
    assert (0, ("mortal", "5 begun")) in found
    expected = sorted((i, f"{5 + i} {what}") for i in range(2, 20) for what in ("begun", "done"))
    assert sorted((i, what) for i, (device, what) in found if device == "cpu") == expected


def test_an_error_in_a_process_is_that_of_the_caller() -> None:
    with pytest.raises(RuntimeError, match="thirteen"):
        list(on_devices(counted, range(20), ["unlucky"], part=2))


def on_pretended(kind: str, distances: Sequence[float]) -> Iterator[tuple[int, tuple[str, torch.Tensor]]]:
    """Energies and forces of water on a device of this kind."""
    from atomsml import AtomsMLCalculator
    from atomsml.simulate.model import Model
    from atomsml.simulate.state import State

    with pretended_device(kind) if kind != "cpu" else nullcontext(torch.device(kind)) as device:
        model = Model.of(AtomsMLCalculator("organic-xtb", device=kind))
        for i, distance in enumerate(distances):
            water = molecule("H2O")
            water.set_distance(0, 1, distance)
            state = State.of([water], device)
            model(state)
            yield i, (state.forces.device.type, state.forces)


def test_tensors_of_a_device_arrive_on_the_cpu() -> None:
    """Of a pretended GPU in the other process."""
    there, here = dict(on_devices(on_pretended, [0.9, 1.0], ["cuda"])), dict(on_pretended("cpu", [0.9, 1.0]))
    for i in range(2):
        assert (there[i][0], there[i][1].device.type) == ("cuda", "cpu")
        np.testing.assert_allclose(there[i][1].numpy(), here[i][1].numpy(), atol=1e-5)


def test_any_executor_serves() -> None:
    with ThreadPoolExecutor(4) as executor:
        found = list(on_devices(counted, range(50), ["a", "b", "c"], executor, part=4))
        assert sorted(i for i, _ in found) == sorted([*range(50)] * 2)
        assert all(words.split()[0] == str(i) for i, (_, words) in found)
        assert list(on_devices(counted, [], ["a"], executor)) == []
        with pytest.raises(RuntimeError, match="thirteen"):
            list(on_devices(counted, range(20), ["unlucky"], executor, part=2))
        with pytest.raises(ValueError, match="at least one device"):
            list(on_devices(counted, range(4), [], executor))
