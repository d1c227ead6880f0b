"""Two-phase coexistence: argon melts where it should, and what cannot be told is refused."""

import numpy as np
import pytest
from ase.build import bulk, molecule

from atomsml.properties.crystal_and_melt import Eye, half_molten, long_supercell
from atomsml.properties.engine import Engine
from atomsml.properties.melting import Melting, MeltingSettings, Run, bracket, melting_points, verdict
from atomsml.properties.task import Failure, Standing
from atomsml.simulate.analysis.local_structure import FCC
from atomsml.simulate.model import Model
from atomsml.testing.model_potentials import LennardJones

ARGON = LennardJones()
ENGINE = Engine(Model(ARGON, ARGON.cutoff))
CRYSTAL = bulk("Ar", cubic=True, a=5.3)


def found_of(settings: MeltingSettings) -> list[Melting | Failure]:
    [*standing, last] = [found for _, found in melting_points([CRYSTAL], ENGINE, settings)]
    assert all(isinstance(each, Standing) for each in standing)
    return last


@pytest.mark.slow
def test_argon_melts_between_temperatures_far_below_and_above():
    """Its triple point is at 83.8 K; 128 atoms decide within 5 ps at 40 and 120 K."""
    found = found_of(MeltingSettings(80.0, 0.5, runs=2, rounds=1, atoms=128, steps=1000, timestep=5.0))
    assert isinstance(found, Melting)
    assert (found.kind, found.lower, found.upper) == ("fcc", 40.0, 120.0)
    cold, hot = found.runs
    assert cold.verdict == "grew"
    assert hot.verdict == "shrank"
    assert hot.solid[-1] < 0.1 < 0.9 < cold.solid[-1]
    assert Eye(FCC).share(hot.last) < 0.1


@pytest.mark.slow
def test_half_is_molten_and_half_is_where_it_was():
    settings = MeltingSettings(100.0, atoms=128, steps=1000, timestep=5.0)
    crystal = long_supercell(CRYSTAL, 128)
    both = half_molten(crystal, ENGINE, settings, Eye(FCC))
    lower = crystal.get_scaled_positions()[:, 2] < 0.5
    assert lower.sum() == len(crystal) / 2
    np.testing.assert_allclose(both.get_scaled_positions()[lower], crystal.get_scaled_positions()[lower], atol=1e-9)
    assert Eye(FCC).share(both, ~lower) < 0.4  # at the interfaces it has begun to freeze
    assert not both.constraints


@pytest.mark.parametrize("symbol", ["Cu", "W", "Mg", "Si"])
def test_supercells_are_long_and_large_enough(symbol):
    found = long_supercell(bulk(symbol), 300)
    a, b, c = found.cell.lengths()
    assert 300 <= len(found) <= 600
    assert 1.2 < c / a < 3
    assert 0.6 < a / b < 1.6


@pytest.mark.parametrize(
    ("crystal", "element"), [(bulk("NaCl", "rocksalt", a=5.6), 11), (bulk("Cu"), None)], ids=["NaCl", "Cu"]
)
def test_salts_are_seen_by_one_of_their_elements(crystal, element):
    assert Eye.of(crystal * (3, 3, 3)) == Eye(FCC, element)


def test_a_structure_that_the_analysis_does_not_know_is_refused():
    graphite = bulk("C", "hcp", a=2.46, c=6.7)
    graphite.positions[1] = graphite.positions[0] + [0, 1.42, 0]
    with pytest.raises(ValueError, match="could not be seen whether it is solid"):
        Eye.of(graphite * (3, 3, 2))


@pytest.mark.parametrize(
    ("first", "second", "end", "expected"),
    [
        (0.5, 0.5, 0.5, "undecided"),
        (0.5, 0.5, 0.62, "grew"),
        (0.5, 0.5, 0.38, "shrank"),
        (0.8, 0.5, 0.52, "undecided"),  # what happens while the phases settle does not count
        (0.5, 0.95, 0.97, "grew"),
        (0.5, 0.05, 0.04, "shrank"),
    ],
)
def test_verdicts(first, second, end, expected):
    assert verdict(np.repeat([first, second, second, second, end], 10)) == expected


def run_at(temperature: float, told: str) -> Run:
    return Run(temperature, np.zeros(1), np.zeros(1), told, CRYSTAL)


def test_brackets():
    runs = [run_at(t, told) for t, told in [(50, "grew"), (60, "undecided"), (70, "grew"), (80, "shrank")]]
    assert bracket(runs) == (70, 80)
    doubtful = [run_at(t, told) for t, told in [(50, "grew"), (60, "shrank"), (70, "grew"), (80, "shrank")]]
    assert bracket(doubtful) == (50, 80)
    with pytest.raises(ValueError, match="melts at 60 K already"):
        bracket(doubtful[1:2] + doubtful[3:])
    with pytest.raises(ValueError, match="does not melt up to 70 K"):
        bracket(runs[:3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "a temperature in K, got -1"),
        ({"temperature": 80.0, "atoms": 50}, "at least 100 atoms, got 50"),
        ({"temperature": 80.0, "runs": 1}, "at least 2 temperatures, got 1"),
        ({"temperature": 80.0, "steps": 100}, "at least 500 steps, got 100"),
        ({"temperature": 80.0, "timestep": 0.0}, "a positive number of fs, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MeltingSettings(**settings)


def test_a_molecule_is_refused():
    with pytest.raises(ValueError, match="periodic along all three axes"):
        next(melting_points([molecule("H2O")], ENGINE, MeltingSettings(80.0)))
