"""Memory predicted from two small evaluations, beside what a process takes at ten times their size."""

import subprocess
import sys

import ase
import pytest
import torch
from ase.build import molecule

from atomsml.simulate.batching.in_flight import Room, Size
from atomsml.simulate.batching.memory import free_bytes, measure_room, peak_bytes, size_of
from atomsml.simulate.model import Model
from atomsml.testing.model_potentials import LennardJones

# in a process of its own, whose memory nothing else has used
MEASURE = """
import sys
import torch
from ase.build import bulk, molecule
from atomsml import AtomsMLCalculator
from atomsml.simulate.batching.memory import PROBE_ATOMS, measure_room, peak_bytes, size_of
from atomsml.simulate.model import Model
from atomsml.simulate.state import State
torch.set_num_threads(1)
name, exact = sys.argv[1], sys.argv[2] == "exact"
atoms = molecule("CH3CH2OH") if name == "organic-xtb" else bulk("W", cubic=True) * (2, 2, 2)
model, cpu = Model.of(AtomsMLCalculator(name, device="cpu", exact=exact)), torch.device("cpu")
many = [atoms] * (12 * PROBE_ATOMS // len(atoms))
room = measure_room(model, many, cpu, stress=True)
state, size = State.of(many), size_of(atoms, model, room)
print(len(many) * room.needed(size) / peak_bytes(lambda: model(state, stress=True), cpu))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the peak of a process")
@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("organic-xtb", "fast"),
        pytest.param("refractory-pbe", "fast", marks=pytest.mark.slow),
        pytest.param("refractory-pbe", "exact", marks=pytest.mark.slow),
    ],
)
def test_prediction_at_ten_times_the_size(name, way):
    done = subprocess.run([sys.executable, "-c", MEASURE, name, way], capture_output=True, text=True, check=True)
    assert 2 / 3 < float(done.stdout) < 1.5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the peak of a process")
def test_the_peak_is_that_of_the_call_alone():
    cpu, megabytes = torch.device("cpu"), 2**20
    peak_bytes(lambda: torch.ones(100 * megabytes), cpu)
    found = peak_bytes(lambda: torch.ones(10 * megabytes, dtype=torch.float64), cpu)
    assert found == pytest.approx(80 * megabytes, rel=0.05)


def test_few_atoms_have_room_anyway():
    model = Model(LennardJones(), LennardJones().cutoff)
    room = measure_room(model, [molecule("CH4")], torch.device("cpu"))
    assert room == Room(atoms=2000)
    assert size_of(molecule("CH4"), model, room) == Size(atoms=5)
    counting = Room(per_edge=1.0)
    assert size_of(molecule("CH4"), model, counting) == Size(atoms=5, edges=20)
    flat = ase.Atoms("Ar", cell=[3, 3, 0], pbc=True)
    assert size_of(flat, model, counting) == Size(atoms=1)


def test_free_memory_is_some():
    assert free_bytes(torch.device("cpu")) > 2**20
