"""What one process of `benchmarks.speed.inference` computes: a job by one program, whenever it is asked to.

| program | what computes |
|---|---|
| atomsml | `potential.predictor()`, and AtomsMLCalculator |
| atomsml, exact | `potential.predictor(exact=True)`: radial functions are computed, not tabulated |
| mace-torch | the model called directly, and MACECalculator |
| mace-torch, compiled | the same through torch.compile |
| mace-torch, cuEquivariance | the same with the kernels of NVIDIA |
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import units
from ase.calculators.calculator import Calculator
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

from benchmarks.shared.peers import answer_words, seconds, sustained
from benchmarks.shared.workloads import Model, Structure

ATOMSML, EXACT = "atomsml", "atomsml, exact"
MACE_TORCH, COMPILED, CUEQ = "mace-torch", "mace-torch, compiled", "mace-torch, cuEquivariance"
Result = dict[str, NDArray[Any]]  # energy (systems,), forces (atoms, 3), and of periodic systems stress (systems, 3, 3)


@dataclass(frozen=True)
class Job:
    program: str
    model: Model
    structure: Structure
    dtype: str = "float32"
    threads: int = 1
    device: str = "cpu"
    steps: int = 0  # of molecular dynamics through ASE; 0: energy, forces and stress, neighbour lists made beforehand

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, job: dict[str, Any]) -> Job:
        model = replace(Model(**job["model"]), elements=tuple(job["model"]["elements"]))
        return cls(**{**job, "model": model, "structure": Structure(**job["structure"])})


def atomsml_evaluation(job: Job, path: Path) -> Callable[[], Result]:
    from atomsml.graph import AtomicGraph
    from atomsml.potentials.mace.checkpoint import convert

    dtype, systems = getattr(torch, job.dtype), job.structure.systems()
    potential = convert(path)[0].cast(dtype).requires_grad_(False).to(job.device)
    graph = AtomicGraph.from_list([AtomicGraph.from_ase(atoms, dtype) for atoms in systems])
    graph = graph.with_neighbors(potential.cutoff).to(job.device)
    predict = potential.predictor(exact=job.program == EXACT)
    stress = bool(systems[0].pbc.all())

    def run() -> Result:
        prediction = predict(graph, forces=True, stress=stress)
        return as_numpy({name: getattr(prediction, name) for name in ("energy", "forces", "stress")})

    return run


def mace_torch_evaluation(job: Job, path: Path) -> Callable[[], Result]:
    from benchmarks.shared.peer_mace import batch

    dtype, systems = getattr(torch, job.dtype), job.structure.systems()
    torch.set_default_dtype(dtype)
    model: Any = load_mace_torch(job, path).to(dtype).requires_grad_(False).to(job.device)
    inputs = batch(systems, job.model.elements, job.model.cutoff, dtype)
    graph = {key: value.to(job.device) for key, value in inputs.items()}
    compiled = job.program == COMPILED
    if compiled:
        model = torch.compile(model, fullgraph=True)
        for name in ("positions", "node_attrs"):
            graph[name].requires_grad_(True)
    stress = bool(systems[0].pbc.all())

    def run() -> Result:
        return as_numpy(model(dict(graph), compute_stress=stress, training=compiled))

    return run


def load_mace_torch(job: Job, path: Path) -> torch.nn.Module:
    if job.program == CUEQ:
        from mace.cli.convert_e3nn_cueq import run as with_cueq

        return with_cueq(torch.load(path), device=job.device)
    if job.program == COMPILED:
        from mace.tools.compile import prepare
        from mace.tools.scripts_utils import extract_model

        return prepare(extract_model)(model=torch.load(path), map_location=job.device)
    return torch.load(path)


def as_numpy(output: dict[str, torch.Tensor | None]) -> Result:
    """Copied to the host, which waits for a GPU to finish."""
    found = {name: output[name] for name in ("energy", "forces", "stress")}
    return {name: value.detach().cpu().numpy() for name, value in found.items() if value is not None}


def calculator(job: Job, path: Path) -> Calculator:
    if job.program == MACE_TORCH:
        from mace.calculators import MACECalculator

        return MACECalculator(model_paths=str(path), device=job.device, default_dtype=job.dtype)
    from atomsml import AtomsMLCalculator
    from atomsml.potentials.mace.checkpoint import convert

    return AtomsMLCalculator(convert(path)[0], device=job.device, precision=job.dtype)


def dynamics(job: Job, path: Path) -> Callable[[], Result]:
    """A block of velocity Verlet steps of 0.5 fs from velocities of 300 K, and what it ends with.

    Each block begins 3 A away from the last one's start, so that no neighbour list outlives it.
    """
    (atoms,) = job.structure.systems()
    atoms.calc = calculator(job, path)
    start, rng = atoms.positions.copy(), np.random.default_rng(0)

    def run() -> Result:
        direction = rng.normal(size=3)
        atoms.positions = start + 3 * direction / np.linalg.norm(direction)
        MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=rng)
        VelocityVerlet(atoms, 0.5 * units.fs).run(job.steps)
        return {"energy": np.array([atoms.get_potential_energy()]), "forces": atoms.get_forces()}

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=json.loads, required=True)
    parser.add_argument("--models", type=Path, required=True, help="folder with the models of workloads.py")
    arguments = parser.parse_args()
    job = Job.from_json(arguments.job)
    torch.set_num_threads(job.threads)
    prepare = dynamics if job.steps else atomsml_evaluation if "atomsml" in job.program else mace_torch_evaluation
    run = prepare(job, arguments.models / job.model.file)
    answer_words(
        {
            "seconds": lambda: seconds(run),
            "sustained": lambda: sustained(run),
            "processor": lambda: sustained(run, time.process_time),
            "result": lambda: {name: value.tolist() for name, value in run().items()},
            "peak": lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,  # MB
        }
    )


if __name__ == "__main__":
    main()
