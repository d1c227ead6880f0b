"""What came out of a run: samples drawn from its model, what their kind says of them, likelihood, and a summary."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from atomsml.generative.core.likelihood import likelihood
from atomsml.generative.core.modelfile import load_generator
from atomsml.generative.core.sampling import draw, sample_seed
from atomsml.generative.core.training.run import AnyGenerator, GeneratorRun
from atomsml.io import write_atomically
from atomsml.training.evaluation.summary import run_facts, write_summary


def judge(run: GeneratorRun) -> dict[str, Any]:
    """Draw samples from the model of a finished run; writes them to samples.*, and summary.json.

    Returns:
        what summary.json holds: the run, how good its samples are, and how likely it finds those that were held out.

    Raises:
        ValueError: the run ended before its first evaluation, so that there is no model.
        OSError: a file cannot be written.
    """
    facts = {**run_facts(run), "data": run.counts(), "warnings": run.warnings}
    model = load_generator(run.folder / "model.safetensors", run.device)
    if model.has_bound:
        facts["likelihood"] = likelihood(model, run.valid).to_json()
    if run.config.judge.samples:
        facts["samples"] = _judge_samples(run, model)
    return write_summary(run, facts)


def _judge_samples(run: GeneratorRun, model: AnyGenerator) -> dict[str, Any]:
    how = run.config.judge
    requests = model.requests([sample_seed(run.config.seed, i) for i in range(how.samples)])
    steps, sampler = how.steps or model.default_steps, how.sampler or model.default_sampler
    drawn: dict[int, Any] = {}
    start = time.perf_counter()
    for progress in draw(model, requests, model.batches(requests), partial(model.sample, steps=steps, sampler=sampler)):
        drawn |= progress.drawn
    seconds = time.perf_counter() - start
    samples = [drawn[place] for place in sorted(drawn)]
    path = run.folder / f"samples{model.suffixes[0]}"
    write_atomically(path, lambda beside: model.write(beside, samples))
    return {
        "drawn": how.samples,
        "file": str(path),
        "steps": steps,
        "sampler": sampler,
        "seconds": seconds,
        **model.judge(samples),
    }
