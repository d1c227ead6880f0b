"""Relaxations on devices that are not here: the same results, and no step that waits."""

import ase
import pytest
from ase.build import bulk

from atomsml.simulate.batching.in_flight import Room
from atomsml.simulate.model import Model
from atomsml.simulate.optimizers import OPTIMIZERS
from atomsml.simulate.optimizers.running import Method
from atomsml.simulate.relax import LOOK, RelaxSettings, iterate_relax_many, relax_many
from atomsml.simulate.state import State
from atomsml.testing import pretended_device
from atomsml.testing.model_potentials import HarmonicWell


def _wells() -> list[ase.Atoms]:
    """They end after different numbers of steps."""
    return [ase.Atoms("Ar", [[0.1 * 3**i, 0.2, 0]]) for i in range(3)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_gpu_gives_the_same(optimizer: str) -> None:
    """Though it is looked at now and then only, by when some have ended, and swaps in between."""
    settings, model = RelaxSettings(fmax=1e-2, optimizer=optimizer), Model(HarmonicWell(20.0))
    here = {done.index: done for done in relax_many(_wells(), model, settings)}
    assert len({done.state.step for done in here.values()}) > 1
    with pretended_device("cuda") as device:
        batches = list(iterate_relax_many(_wells(), model, settings, Room(atoms=2), device))
    found = [done for batch in batches for done in batch.done]
    assert len(batches) < sum(done.state.step for done in found) // LOOK + 3
    assert sorted(done.index for done in found) == [0, 1, 2]
    for there in found:
        assert there.state.reason == here[there.index].state.reason
        assert there.state.step == here[there.index].state.step
        assert there.state.energy == pytest.approx(here[there.index].state.energy, abs=1e-12)
        assert there.atoms.positions == pytest.approx(here[there.index].atoms.positions, abs=1e-12)


@pytest.mark.parametrize("symmetry", [None, 0.1])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_step_waits_for_the_device(optimizer: str, symmetry: float | None) -> None:
    """On torch's device without numbers, where whatever asks for one is an error."""
    settings = RelaxSettings(cell=True, optimizer=optimizer, symmetry=symmetry)
    method = Method(settings.coordinates(), OPTIMIZERS[optimizer].make(), 0.01, 10)
    crystals = [bulk("Ar", a=a, cubic=True) for a in (5.2, 5.3)]
    running = method.start(State.of(crystals))
    for name in ("state", "coordinates", "optimizer", "standing"):
        setattr(running, name, getattr(running, name).to("meta"))
    method.judge(running)
    method.step(running)
    assert running.state.positions.device.type == running.standing.reason.device.type == "meta"
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool((running.standing.reason == 0).any())
