"""Which of many runs explode, found without waiting for the device.

A system that explodes stands still, where it was last in order, until `lost` is asked, which waits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.codegen.checks import address
from atomsml.codegen.loops import Floats, compiled
from atomsml.simulate.state import Flat, PerAtom, PerSystem, State, total

# A: no integrator follows an atom that crosses a bond length in one step; at 1 fs this is hydrogen at 400,000 K
LARGEST_DISPLACEMENT = 1.0
REMEDY = "try a smaller time step, relax the start structure, or a model that was made for such atoms"


@dataclass(frozen=True)
class Lost:
    """A system whose run ended before its time."""

    index: int  # of the structures of the run
    step: int
    reason: str


@dataclass(eq=False)
class Watch(Flat):
    """What is known of runs that exploded.

    | field | shape | meaning |
    |---|---|---|
    | step | (systems,) | at which it exploded, -1 of one that did not |
    | moved | (atoms,) | A, how far each atom went in that step |
    """

    step: PerSystem
    moved: PerAtom

    @staticmethod
    def of(state: State) -> Watch:
        """A watch over systems that begin, of which those in which nothing can move are lost already."""
        stuck = state.degrees_of_freedom < 0.5
        return Watch(torch.where(stuck, state.step, -1), torch.zeros_like(state.masses))

    def check(self, state: State, memory: Flat, before: tuple[State, Flat]) -> None:
        """Look at a step of state and memory, before which they were as `before`: shallow copies."""
        stood = before[0].positions
        if state.device.type == "cpu" and is_sound_on_host(state, stood):  # a look is free there
            return
        moved = torch.linalg.vector_norm(state.positions - stood, dim=1)
        sound = moved + 0 * (state.forces.sum(dim=1) + state.energy[state.batch]) <= LARGEST_DISPLACEMENT
        broken = total((~sound).double(), state.batch, state.num_systems) > 0
        new = broken & (self.step < 0)
        self.step = torch.where(new, state.step, self.step)
        self.moved = torch.where(new[state.batch], moved, self.moved)
        systems = self.step >= 0
        stands = {"system": systems, "atom": systems[state.batch]}
        for now, then in zip((state, memory), before, strict=True):
            for name, level in now.levels.items():
                new_rows, old_rows = getattr(now, name), getattr(then, name)
                rows = stands[level].view(-1, *[1] * (new_rows.dim() - 1))
                setattr(now, name, torch.where(rows, old_rows, new_rows))
        state.velocities = state.velocities.masked_fill(stands["atom"][:, None], 0)
        state.forces = state.forces.masked_fill(stands["atom"][:, None], 0)

    def lost(self, state: State) -> tuple[Lost, ...]:
        """What exploded, and why."""
        systems = (self.step >= 0).nonzero().flatten().tolist()
        if not systems:
            return ()
        found = []
        stuck = (state.degrees_of_freedom < 0.5).tolist()
        for system in systems:
            step, moved = int(self.step[system]), self.moved[state.batch == system]
            atom = int(moved.argmax())
            if stuck[system] and len(moved) == 1:
                reason = "a single atom cannot move when its centre of mass is at rest; give at least two"
            elif stuck[system]:
                reason = "constraints hold all atoms; nothing can move"
            elif moved[atom] > LARGEST_DISPLACEMENT:
                reason = f"atom {atom} moved by {moved[atom]:.1f} A in step {step}; {REMEDY}"
            else:
                reason = f"energy or forces are not finite at step {step}; {REMEDY}"
            found.append(Lost(int(state.index[system]), step, reason))
        return tuple(found)

    def left(self, state: State) -> tuple[Tensor, Tensor]:
        """The atoms and the systems that did not explode, for `take`."""
        left = (self.step < 0).nonzero().flatten()
        return state.atoms_of(left), left


def is_sound_on_host(state: State, before: Tensor) -> bool:
    """Whether nothing explodes."""
    tensors = [x.contiguous() for x in (state.positions, before, state.forces, state.energy)]
    return bool(is_sound(*(address(x) for x in tensors), state.num_atoms, state.num_systems))


@compiled
def is_sound(positions: Floats, before: Floats, forces: Floats, energy: Floats, atoms: int, systems: int) -> bool:
    for i in range(atoms):
        square = 0.0
        for n in range(3 * i, 3 * i + 3):
            square += (positions[n] - before[n]) * (positions[n] - before[n]) + 0.0 * forces[n]  # which may be NaN
        if not square <= LARGEST_DISPLACEMENT * LARGEST_DISPLACEMENT:
            return False
    nothing = 0.0
    for s in range(systems):
        nothing += 0.0 * energy[s]
    return nothing == 0.0
