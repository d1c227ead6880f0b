"""Draw new molecules from the embedded generator, judge them, and relax the good ones with a potential.

    python examples/04_generate_molecules.py --count 16 --formula C6H6O

The molecules go to generated.xyz, as drawn, and to relaxed.xyz, the least strained first.
`atomsml generate molecules --relax` does the same with more checks, and writes SDF.
"""

import argparse

import ase.io

from atomsml import AtomsMLCalculator
from atomsml.generative.core.sampling import sample_seed
from atomsml.generative.molecules.compositions import parse_formula
from atomsml.generative.molecules.metrics.evaluate import evaluate_molecules
from atomsml.generative.molecules.model import draw_requests
from atomsml.generative.molecules.modelfile import load_generator
from atomsml.generative.molecules.relaxation import relax_molecules
from atomsml.generative.molecules.sampling import sample_molecules

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--count", type=int, default=16)
parser.add_argument("--formula", help="such as C6H6O; default: formulas as the training molecules had")
parser.add_argument("--steps", type=int, default=50, help="from noise to molecule; more are better and slower")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--generator", default="qm9-flow", help="an embedded name or a file")
parser.add_argument("--model", default="organic-xtb", help="the potential")
options = parser.parse_args()

generator = load_generator(options.generator)
seeds = [sample_seed(options.seed, i) for i in range(options.count)]  # molecule i depends on its seed alone
requests = draw_requests(generator, seeds, formula=parse_formula(options.formula) if options.formula else None)
batches = generator.batches(requests)
drawn = {}
# yields after every step
for progress in sample_molecules(generator, requests, batches, options.steps, generator.default_sampler):
    drawn |= progress.drawn
molecules = [drawn[i] for i in range(options.count)]
ase.io.write("generated.xyz", molecules)

strict = evaluate_molecules(molecules, ["strict"]).suites["strict"]
good = [atoms for atoms, failure in zip(molecules, strict.failures, strict=True) if not failure]
fraction = strict.metrics["valid_connected"]
print(f"drawn       {len(molecules):5d}")
print(f"good        {len(good):5d} valid and in one piece")
print(f"of many     {fraction.low:.0%} to {fraction.high:.0%} would be, with 95 % confidence")

calculator = AtomsMLCalculator(options.model, device="cpu")
relaxed = [one for one in relax_molecules(good, calculator.predict_batch) if one.converged and one.bonds_kept]
relaxed.sort(key=lambda one: one.strain)
ase.io.write("relaxed.xyz", [one.atoms for one in relaxed])
print(f"relaxed     {len(relaxed):5d} kept their bonds")
for one in relaxed:
    print(f"{one.atoms.get_chemical_formula():10s}  {one.strain:7.1f} kcal/mol of strain")
