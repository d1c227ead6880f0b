"""Train a generator on a few molecules of your own, and draw new ones from it.

    python examples/05_train_a_generator.py --steps 100

It takes seconds, which is enough to see how it goes and not for good molecules: those take thousands of molecules
and an hour (docs/training.md). The run is in the folder generator, what was drawn in drawn.xyz.
"""

import argparse
from pathlib import Path

import ase.io
import torch
from rdkit.Chem import SDWriter

from atomsml.generative.core.training.config import GeneratorConfig, SampleDataConfig
from atomsml.generative.core.training.run import GeneratorRun
from atomsml.generative.molecules.model import draw_requests
from atomsml.generative.molecules.modelfile import load_generator
from atomsml.io import mol_from_smiles

SMILES = "CCO CCN CCC COC CC=O CC#N CNC OCCO CC(C)O CC(C)N CCCO NCCO C1CC1 C1CO1".split()  # noqa: SIM905

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=100, help="of training")
parser.add_argument("--count", type=int, default=10, help="molecules to draw")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()
torch.set_num_threads(1)  # networks as small as these gain nothing from more

with SDWriter("molecules.sdf") as file:  # with bonds, which help; .xyz files do without
    for smiles in SMILES:
        for conformer in range(2):
            file.write(mol_from_smiles(smiles, seed=conformer))

# quick networks; without model_options they are those of the size "small"
tiny = {"channels": 32, "pair_channels": 16, "vectors": 8, "hidden": 64, "num_layers": 3}
config = GeneratorConfig(
    data=SampleDataConfig(train=("molecules.sdf",), valid=0.1),  # a tenth of the molecules is held out
    model_options={"skeleton": tiny, "hydrogens": tiny},
    max_steps=options.steps,
    ema_decay=0.95,  # the average that is kept covers some 20 steps: of so few, more would reach back to the start
    seed=options.seed,
)
run = GeneratorRun(config, Path("generator"))
for progress in run.steps():  # yields after every step, some of which end in an evaluation
    if progress.metrics and progress.step.number % 25 == 0:
        print(f"step {progress.step.number}  loss {progress.metrics['valid_loss']:.3f}")

generator = load_generator("generator/model.safetensors")
requests = draw_requests(generator, seeds=range(options.count))  # formulas as those of the training molecules
*_, molecules = generator.sample(requests, steps=20, sampler=generator.default_sampler)
drawn = molecules.to_ase()
ase.io.write("drawn.xyz", drawn)
print(f"drawn         {len(drawn):6d}")
for atoms in drawn:
    print(atoms.get_chemical_formula())
