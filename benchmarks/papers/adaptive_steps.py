"""Steps of fixed length beside steps as long as a tolerance allows: the claim of Gotta Go Fast, on molecules.

    python -m benchmarks.papers.adaptive_steps FOLDER [--docs]

A. Jolicoeur-Martineau et al., arXiv:2105.14080: their solver draws 2 to 10 times faster than Euler-Maruyama with steps
of fixed length, at equal or better quality. Here the skeletons of the embedded flow are drawn by both, and by ancestral
steps, from two reverse equations: that of the schedule of EDM, which preserves variance as the paper's do, and that of
the straight lines on which the network was trained. Its prediction of the data holds for both, as it depends on
sigma / alpha alone. It gets no guess of its own from the step before, which adaptive steps cannot give. All have the
same seeds and end at the same sigma / alpha. Hydrogens are drawn in 20 ancestral steps by their own network, which are
not counted.

Molecules are valid, connected and stable by the suites `strict` and `edm`; strain is what relaxing a valid molecule by
organic-xtb takes off. Evaluations are means over molecules, each with its own steps. Points go to FOLDER/points.json as
they are done; those that are there are not drawn again. --docs puts the table into docs/claims.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atomsml.generative.core.fields import Field, Fields, State, prior
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import per_sample
from atomsml.generative.core.processes.gaussian import GaussianProcess, LinearInterpolant, PolynomialVP
from atomsml.generative.core.samplers.adaptive import Adaptive, euler_maruyama
from atomsml.generative.core.samplers.base import GridSampler, Sampler, time_grid
from atomsml.generative.core.samplers.ddim import DDIM
from atomsml.generative.core.samplers.ddpm import DDPM
from atomsml.generative.core.sampling import sample_seed
from atomsml.generative.core.spaces.euclidean import CenteredPositions
from atomsml.generative.molecules.flow.matching import place
from atomsml.generative.molecules.flow.model import MoleculeFlow
from atomsml.generative.molecules.flow.tasks import UNIT, Task, hydrogen_task, skeleton_task
from atomsml.generative.molecules.metrics.evaluate import evaluate_molecules
from atomsml.generative.molecules.model import draw_requests
from atomsml.generative.molecules.modelfile import load_generator
from atomsml.generative.molecules.molecules import Molecules
from atomsml.generative.molecules.relaxation import relax_molecules
from atomsml.interfaces.ase import AtomsMLCalculator
from benchmarks.shared.reporting import DOCS, processor, replace_section, table

MODEL, JUDGE, SEED, MOLECULES = "qm9-flow", "organic-xtb", 5, 100
PROCESSES: dict[str, GaussianProcess] = {"EDM's schedule": PolynomialVP(), "straight lines": LinearInterpolant()}
STEPS = {"Euler-Maruyama": (20, 50, 100, 200), "ancestral": (50,)}
TOLERANCES = ((0.5, 0.05), (0.2, 0.02), (0.1, 0.01), (0.02, 0.01))  # relative, absolute
END = 0.01  # sigma / alpha where all take what the network says; that of the paper's last time, 0.001, is the same
HYDROGEN_STEPS = 20
LINES = LinearInterpolant()


@dataclass(frozen=True)
class EulerMaruyama(GridSampler):
    """x_s = x_t - (t - s) drift + g sqrt(t - s) z, of the same reverse equation as `Adaptive`."""

    allowed = GaussianProcess

    def step(
        self, predict: Any, fields: Fields, state: State, t: Tensor, s: Tensor, noise: SampleNoise, steps: int
    ) -> State:
        h = t - s
        w = {name: per_sample(h.sqrt(), x) * noise(fields[name].space) for name, x in state.items()}
        return euler_maruyama(fields, state, state, predict(state, t), t, h, w)


class Network:
    """The skeleton's network as a prediction of data under any process.

    Attributes:
        evaluations: of each sample, while adaptive steps, which take two each, are ahead of it.
    """

    def __init__(self, model: MoleculeFlow, task: Task, process: GaussianProcess, end: Tensor) -> None:
        self.model, self.task, self.process, self.end = model, task, process, end
        self.evaluations = torch.zeros(len(task.places))
        self.ahead: Tensor | None = None  # between the two of a step

    def __call__(self, state: State, t: Tensor) -> State:
        first = self.ahead is None
        ahead = t > self.end if self.ahead is None else self.ahead
        self.evaluations += ahead
        self.ahead = ahead if first else None
        x, time = state["places"], t
        if self.process != LINES:
            alpha = self.process.alpha(t)
            time = LINES.time_of_ratio(self.process.sigma(t) / alpha)
            x = per_sample(LINES.alpha(time) / alpha, x) * x
        found = self.model.skeleton(self.task.atoms, self.task.positions(x), time, None)
        return {"places": self.task.state(found.positions)}


@torch.no_grad()
def draw(model: MoleculeFlow, process: GaussianProcess, sampler: Sampler, steps: int) -> tuple[Any, Tensor]:
    """Molecules, and how often the network was asked for each; adaptive steps need no number of steps."""
    requests = draw_requests(model, [sample_seed(SEED, i) for i in range(MOLECULES)])
    united, numbers = model.compose(requests, None)
    conditions = model.normalised_conditions(model.conditions_of(requests), MOLECULES)
    task = skeleton_task(united, torch.zeros_like(united.mask), conditions)
    seeds, nodes = [request.seed for request in requests], task.places.shape[1]
    fields = {"places": Field(CenteredPositions(), process)}
    noise = SampleNoise(seeds, task.atoms.mask.sum(dim=1).tolist(), nodes)
    end = process.time_of_ratio(torch.tensor(END))
    predict, state = Network(model, task, process, end), prior(fields, noise)
    if isinstance(sampler, Adaptive):
        *_, state = sampler.sample(predict, fields, state, time_grid(1), noise)
        evaluations = predict.evaluations + 1
    else:
        times = 1 - (1 - end) * torch.linspace(0, 1, steps)
        *_, state = sampler.sample(predict, fields, state, times, noise)
        *_, state = DDIM().sample(predict, fields, state, torch.stack([end, torch.zeros(())]), noise)
        evaluations = torch.full((MOLECULES,), float(steps))
    x = task.positions(state["places"]) + task.centre
    united = replace(united, positions=torch.cat([x, united.positions[:, nodes:]], dim=1))
    seeds = [seed + 1 for seed in seeds]
    *_, whole = place(model.hydrogens, hydrogen_task(united), seeds, HYDROGEN_STEPS, DDPM(), 1.0)
    return Molecules(numbers, whole * UNIT).to_ase(), evaluations


def judge(images: list[Any]) -> dict[str, list[float]]:
    """What the table says, with 95 % intervals."""
    relax = partial(relax_molecules, predict=AtomsMLCalculator(JUDGE).predict_batch)
    suites = evaluate_molecules(images, ("edm", "strict", "geometry"), relax=relax).suites
    wanted = {
        "valid": suites["strict"].metrics["valid_connected"],
        "stable": suites["edm"].metrics["molecule_stability"],
        "strain": suites["geometry"].metrics["strain_median"],
    }
    return {name: [metric.value, metric.low, metric.high] for name, metric in wanted.items()}


def cases() -> dict[str, tuple[GaussianProcess, Sampler, int]]:
    """Name of a row -> what is drawn."""
    found: dict[str, tuple[GaussianProcess, Sampler, int]] = {}
    for equation, process in PROCESSES.items():
        for rtol, atol in TOLERANCES:
            found[f"{equation}|adaptive, {rtol} and {atol}"] = process, Adaptive(rtol=rtol, atol=atol, end=END), 0
        for name, sampler in (("Euler-Maruyama", EulerMaruyama()), ("ancestral", DDPM())):
            found |= {f"{equation}|{name}, {steps:,} steps": (process, sampler, steps) for steps in STEPS[name]}
    return found


def rows_of(points: dict[str, dict[str, Any]]) -> list[list[str]]:
    rows = []
    for name, point in points.items():
        equation, sampler = name.split("|")
        shares = [
            f"{100 * v:.1f} ({100 * low:.1f}-{100 * high:.1f})" for v, low, high in (point["valid"], point["stable"])
        ]
        strain = "{:.1f} ({:.1f}-{:.1f})".format(*point["strain"])
        rows.append([equation, sampler, f"{point['evaluations']:.0f}", *shares, strain])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    path = arguments.folder / "points.json"
    known: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    model = load_generator(MODEL)
    assert isinstance(model, MoleculeFlow)
    for name, (process, sampler, steps) in sorted(cases().items(), key=lambda case: case[1][2]):  # soon done first
        if name not in known:
            images, evaluations = draw(model, process, sampler, steps)
            known[name] = {"evaluations": evaluations.mean().item(), **judge(images)}
            path.write_text(json.dumps(known, indent=1))
            print(name, known[name], flush=True)
    header = [
        "reverse equation",
        "steps",
        "evaluations",
        "valid, connected (strict-2), %",
        "stable molecules, %",
        "strain, kcal/mol",
    ]
    machine = f"{processor()}; {MODEL}, {MOLECULES} molecules a row; 95 % intervals in brackets."
    text = f"{machine}\n\n{table(header, rows_of({name: known[name] for name in cases()}))}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "claims.md", "adaptive steps", text)


if __name__ == "__main__":
    main()
