"""Drawing molecules on the command line: rounds, progress, bonds, and Ctrl-C that keeps what is finished."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from atomsml.cli.generate.records import Generated, judged
from atomsml.cli.generate.requests import Wishes

if TYPE_CHECKING:
    import ase

    from atomsml.generative.molecules.metrics.perception import Perceived
    from atomsml.generative.molecules.model import MoleculeModel
    from atomsml.generative.molecules.molecules import Request

STEREO_TRIES = 20  # times that a molecule is drawn at most until it has the stereochemistry of its SMILES
TRIES = 20  # molecules that are drawn for each that is to be valid, at most
FARTHEST = 1000.0  # A: positions beyond this, or not finite, are no molecule and fit into no file


@dataclass(frozen=True)
class SamplingSettings:
    """How molecules are drawn."""

    seed: int
    steps: int
    sampler: str
    guidance: float
    batch: int | None  # molecules at once, without effect on what they are; None: as many as keep the device busy


@dataclass
class Run:
    """Molecules as they come."""

    model: MoleculeModel
    wishes: Wishes
    settings: SamplingSettings
    write: Callable[[Sequence[Generated]], object]  # is called now and then with the molecules that are finished
    found: dict[int, Generated] = field(default_factory=dict)  # by index
    drawn: int = 0
    failed: list[dict[str, int | str]] = field(default_factory=list)  # index and reason of what was left out
    stop: KeyboardInterrupt | None = None  # the request that ended the drawing early
    evaluations: Counter[str] = field(default_factory=Counter)  # of each network, for all molecules together

    def draw(self, number: int) -> list[Generated]:
        """The first `number` molecules; those of finished batches after Ctrl-C."""
        self._draw(range(number))
        return self._sorted()

    def draw_valid(self, number: int) -> list[Generated]:
        """The first `number` molecules that are valid; fewer after Ctrl-C, or after TRIES for each."""
        valid: list[Generated] = []
        tried = 0
        while len(valid) < number and tried < TRIES * number and self.stop is None:
            rate = (len(valid) + 1) / (tried + 1)
            count = min(math.ceil((number - len(valid)) / rate), TRIES * number - tried)
            self._draw(range(tried, tried + count))
            tried += count
            valid = [molecule for molecule in self._sorted() if molecule.valid]
        self.failed += [{"index": m.index, "reason": m.reason} for m in self._sorted() if not m.valid]
        return valid[:number]

    def _sorted(self) -> list[Generated]:
        return [self.found[index] for index in sorted(self.found)]

    def _draw(self, indices: Sequence[int]) -> None:
        from atomsml.generative.molecules.metrics.strict import strict

        requests = self.wishes.requests(self.model, self.settings.seed, indices)
        drawn = self._sample(indices, requests)
        if self.wishes.smiles:
            drawn = self._with_stereo(indices, requests, drawn)
        images = list(drawn.values())
        perceived = self._perceive(images)
        reasons = strict(images, perceived).failures
        for place, atoms, found, reason in zip(drawn, images, perceived, reasons, strict=True):
            if _is_molecule(atoms):
                self.found[indices[place]] = judged(indices[place], requests[place].seed, atoms, found, reason)
            else:
                self.failed.append({"index": indices[place], "reason": "its positions diverged"})

    def _with_stereo(
        self, indices: Sequence[int], requests: Sequence[Request], drawn: dict[int, ase.Atoms]
    ) -> dict[int, ase.Atoms]:
        """With the stereochemistry of their SMILES: as they are, mirrored, or drawn again; the rest is left out."""
        from atomsml.generative.core.sampling import sample_seed
        from atomsml.generative.molecules.conformers import with_stereo

        right: dict[int, ase.Atoms] = {}
        for attempt in range(1, STEREO_TRIES + 1):
            turned = {place: with_stereo(atoms, str(requests[place].smiles)) for place, atoms in drawn.items()}
            right |= {place: atoms for place, atoms in turned.items() if atoms is not None}
            left = [place for place, atoms in turned.items() if atoms is None]
            if not left or self.stop is not None or attempt == STEREO_TRIES:
                break
            again = [replace(requests[place], seed=sample_seed(requests[place].seed, attempt)) for place in left]
            redrawn = self._sample([indices[place] for place in left], again)
            drawn = {left[place]: atoms for place, atoms in redrawn.items()}
        reason = f"its stereochemistry did not come in {STEREO_TRIES} tries"
        self.failed += [{"index": indices[place], "reason": reason} for place in left if self.stop is None]
        return dict(sorted(right.items()))

    def _sample(self, indices: Sequence[int], requests: Sequence[Request]) -> dict[int, ase.Atoms]:
        """By the place of their request: all molecules, or those of finished batches."""
        from atomsml.cli.files import now_and_then
        from atomsml.cli.output import follow
        from atomsml.generative.molecules.sampling import sample_molecules
        from atomsml.signals import held_stops

        how = self.settings
        batches = self.model.batches(requests, how.batch)
        states = sample_molecules(
            self.model, requests, batches, how.steps, how.sampler, self.wishes.scaffold, how.guidance
        )
        states_each, drawn = self.model.num_states(how.steps, how.sampler), dict[int, "ase.Atoms"]()
        total = None if states_each is None else states_each * len(batches)
        seeds = [request.seed for request in requests]
        keep = now_and_then(lambda: self.write([*self._sorted(), *_not_judged(indices, seeds, drawn)]))
        try:
            for state in follow(states, total, "generate", lambda s: f"{s.finished} of {len(requests)} molecules"):
                if state.drawn:
                    with held_stops():
                        drawn |= state.drawn
                        keep()
                for network, calls in state.evaluations.items():
                    self.evaluations[network] += calls * len(state.drawn)
        except KeyboardInterrupt as stop:
            self.stop = stop
        self.drawn += len(drawn)
        return drawn

    def _perceive(self, images: Sequence[ase.Atoms]) -> list[Perceived]:
        """Bonds of all molecules, or of as many as are done before Ctrl-C."""
        from atomsml.generative.molecules.metrics.perception import Perceived, perceive

        done: list[Perceived] = []
        try:
            done.extend(perceive(images))
        except KeyboardInterrupt as stop:
            self.stop = stop
        return done + [Perceived("perception was interrupted")] * (len(images) - len(done))


def _is_molecule(atoms: ase.Atoms) -> bool:
    return bool((abs(atoms.positions) < FARTHEST).all())


def _not_judged(indices: Sequence[int], seeds: Sequence[int], drawn: dict[int, ase.Atoms]) -> list[Generated]:
    """Molecules whose bonds are not known yet; `drawn` by their places."""
    from atomsml.generative.molecules.metrics.perception import Perceived

    why = "not judged: the run was killed before"
    return [
        Generated(indices[place], seeds[place], drawn[place], Perceived(why), why)
        for place in sorted(drawn)
        if _is_molecule(drawn[place])
    ]
