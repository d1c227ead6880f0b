"""Surface and adsorption energies beside the same slabs relaxed one after the other by ASE: energies and time.

    python -m benchmarks.properties.surfaces [--docs]

Three low-index surfaces of each of four refractory metals, and oxygen on every site of copper along 111, 100 and 110.
Both begin with the same slabs and relax them until no force is larger, here with L-BFGS, ASE with its default BFGS: its
LBFGS takes steps along directions of negative curvature, and carries most of the oxygen off. Time is that of the CPU,
one thread; to cut slabs and to relax crystals before that is not in it. A minute of one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import ase
import numpy as np
import torch
from ase.build import bulk
from ase.optimize import BFGS

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.surfaces.bases import bases
from atomsml.properties.surfaces.sites import find_sites
from atomsml.properties.surfaces.slabs import SlabSettings
from atomsml.properties.surfaces.surface import surface_energies
from atomsml.properties.task import Failure, Start
from atomsml.simulate.relax import RelaxSettings
from benchmarks.shared.reporting import DOCS, processor, replace_section, table, three_digits

FMAX, STEPS = 0.02, 300
SAME = 0.005  # eV: two relaxations ended in one minimum
Slabs = list[ase.Atoms]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/properties/surface.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        compare("12 surfaces of Nb, Mo, Ta, W", "refractory-pbe", surfaces),
        compare("O on 11 sites of Cu", "universal-small", adsorbed),
    ]
    header = [
        "relaxed",
        "model",
        "atoms of each",
        "together, s",
        "ASE, s",
        "ratio",
        "same minimum",
        "a lower one",
        "a higher one",
    ]
    text = f"{processor()}, one thread, ASE {ase.__version__}.\n\n{table(header, rows)}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "properties" / "surface.md", "beside ASE", text)


def surfaces(engine: Engine) -> Slabs:
    """As they are cut."""
    settings = SlabSettings()
    metals = [bulk(symbol) for symbol in ("Nb", "Mo", "Ta", "W")]
    found = [each for _, each in surface_energies(metals, engine, settings) if not isinstance(each, Failure)]
    return [surface.cut.atoms for each in found for surface in each.surfaces]


def adsorbed(engine: Engine) -> Slabs:
    """2 A above each site."""
    settings = SlabSettings(miller=((1, 1, 1), (1, 0, 0), (1, 1, 0)), thickness=6, hold="bottom")
    [(_, found)] = bases([bulk("Cu")], engine, settings, True, 5.0, Start(cell=True))
    assert not isinstance(found, Failure)
    slabs = []
    for base in found:
        for site in find_sites(base.slab.atoms)[0]:
            slabs.append(base.atoms + ase.Atoms("O", [site.position + np.array([0, 0, 2])]))
            slabs[-1].set_constraint(base.atoms.constraints)
    return slabs


def compare(what: str, model: str, make: Callable[[Engine], Slabs]) -> list[str]:
    calculator = AtomsMLCalculator(model, device="cpu")
    slabs = make(Engine.of(calculator))
    relaxed(Engine.of(calculator), slabs[:1]), by_ase(calculator, slabs[:1])  # machine code is made at first need
    together, mine = timed(lambda: relaxed(Engine.of(calculator), slabs))
    one_by_one, theirs = timed(lambda: by_ase(calculator, slabs))
    sizes = [len(slab) for slab in slabs]
    return [
        what,
        model,
        f"{min(sizes)} to {max(sizes)}",
        three_digits(together),
        three_digits(one_by_one),
        f"{one_by_one / together:.1f}",
        f"{np.count_nonzero(np.abs(mine - theirs) < SAME)}",
        f"{np.count_nonzero(mine - theirs <= -SAME)}",
        f"{np.count_nonzero(mine - theirs >= SAME)}",
    ]


def timed(call: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start = time.process_time()
    found = call()
    return time.process_time() - start, found


def relaxed(engine: Engine, slabs: Slabs) -> np.ndarray:
    """eV, of each."""
    found = {each.index: each.state.energy for each in engine.relax(slabs, RelaxSettings(FMAX, STEPS))}
    return np.array([found[i] for i in range(len(slabs))])


def by_ase(calculator: AtomsMLCalculator, slabs: Slabs) -> np.ndarray:
    energies = []
    for slab in slabs:
        atoms = slab.copy()
        atoms.calc = calculator
        BFGS(atoms, logfile=None).run(fmax=FMAX, steps=STEPS)
        energies.append(atoms.get_potential_energy())
    return np.array(energies)


if __name__ == "__main__":
    main()
