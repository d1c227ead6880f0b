"""One call each on the structures of a file, by a calculator in a process of its own.

    python -m benchmarks.shared.calls PROGRAM MODEL FILE

PROGRAM is atomsml or mace-torch, whose interpreter must have it; MODEL is a file that it reads. The word is "next": the
milliseconds of the processor that the next structure takes.
"""

from __future__ import annotations

import argparse
import time

import ase.io
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator

from benchmarks.shared.peers import answer_words

WARM_UP = 5  # calls: in its third, TorchScript still compiles


def call(calculator: Calculator, atoms: Atoms) -> float:
    """Milliseconds of the processor for the energy, then the forces, then of crystals the stress."""
    start = time.process_time()
    atoms.calc = calculator
    atoms.get_potential_energy()
    atoms.get_forces()
    if atoms.pbc.any():
        atoms.get_stress()
    return 1000 * (time.process_time() - start)


def make(program: str, model: str) -> Calculator:
    if program == "mace-torch":
        from mace.calculators import MACECalculator

        return MACECalculator(model_paths=model, device="cpu", default_dtype="float32")
    from atomsml import AtomsMLCalculator

    return AtomsMLCalculator(model, device="cpu", precision="float32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("program", "model", "file"):
        parser.add_argument(name)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    frames = ase.io.read(arguments.file, ":")
    calculator = make(arguments.program, arguments.model)
    for atoms in frames[:WARM_UP]:
        call(calculator, atoms.copy())
    if arguments.program == "atomsml":  # what elements need is made once, and counts
        calculator = make(arguments.program, arguments.model)
    stream = iter(frames)
    answer_words({"next": lambda: call(calculator, next(stream))})


if __name__ == "__main__":
    main()
