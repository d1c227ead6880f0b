"""Random numbers of a simulation: pure functions of the seed, the system, its step and the atom.

Philox4x32 of 10 rounds (Salmon et al., Supercomputing 2011, Art. 16) turns a counter of four 32-bit words and a key of
two into four random words. The key is the seed, the counter (number of the atom within its system, step, index of the
system, stream). So there is no random state to be stored, and the noise of a system is the same whatever else is in
the batch and on any device.
"""

from __future__ import annotations

import math
from enum import IntEnum

import torch
from torch import Tensor

from atomsml.codegen.checks import address
from atomsml.codegen.loops import Ints, compiled
from atomsml.simulate.state import State

FACTOR_0, FACTOR_1 = 0xD2511F53, 0xCD9E8D57
KEY_STEP_0, KEY_STEP_1 = 0x9E3779B9, 0xBB67AE85
WORD = 0xFFFFFFFF
ROUNDS = 10


class Stream(IntEnum):
    """What random numbers are for: each use has its own."""

    VELOCITIES = 0
    LANGEVIN = 1
    RESCALING = 2
    BAROSTAT = 3
    EXCHANGE = 4


def atom_normals(state: State, seed: int, stream: Stream) -> Tensor:
    """(atoms, 3) independent standard normal numbers, float64."""
    if state.device.type == "cpu":
        counters = torch.empty(state.num_atoms, 4, dtype=torch.int64)
        inputs = [x.contiguous() for x in (state.batch, state.step, state.index)]
        count_on_host(*(address(x) for x in inputs), int(stream), state.num_atoms, address(counters))
    else:
        counters = _counters(places(state), state.step[state.batch], state.index[state.batch], stream)
    return normals(counters, seed)[:, :3]


def places(state: State) -> Tensor:
    """(atoms,) number of each atom within its system."""
    return torch.arange(state.num_atoms, device=state.device) - torch.searchsorted(state.batch, state.batch)


def system_matrices(state: State, seed: int, stream: Stream) -> Tensor:
    """(systems, 3, 3) independent standard normal numbers, float64."""
    place = torch.arange(3, device=state.device).repeat(state.num_systems)
    step, index = state.step.repeat_interleave(3), state.index.repeat_interleave(3)
    return normals(_counters(place, step, index, stream), seed)[:, :3].view(-1, 3, 3)


def system_uniforms(state: State, seed: int, stream: Stream) -> Tensor:
    """(systems, 4) independent numbers, uniform between 0 and 1, neither of which occurs, float64."""
    return uniforms(_counters(torch.zeros_like(state.step), state.step, state.index, stream), seed)


def _counters(place: Tensor, step: Tensor, index: Tensor, stream: Stream) -> Tensor:
    return torch.stack([place, step, index, torch.full_like(place, stream)], dim=1)


def normals(counters: Tensor, seed: int) -> Tensor:
    """(rows, 4) standard normal numbers by Box and Muller (Ann. Math. Stat. 29, 610 (1958)); none is beyond 6.8."""
    u = uniforms(counters, seed)
    radius, angle = (-2 * u[:, :2].log()).sqrt(), 2 * math.pi * u[:, 2:]
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)


def uniforms(counters: Tensor, seed: int) -> Tensor:
    """(rows, 4) numbers (k + 1/2) / 2^32."""
    return (philox(counters, seed).double() + 0.5) * 2.0**-32


def philox(counters: Tensor, seed: int) -> Tensor:
    """(rows, 4) random words of these counters (rows, 4), both int64 from 0 to 2^32 - 1; of the seed 64 bits count."""
    if counters.device.type != "cpu":
        return philox_anywhere(counters, seed)
    counters = counters.contiguous()
    words = torch.empty_like(counters)
    philox_on_host(address(counters), len(counters), seed & WORD, seed >> 32 & WORD, address(words))
    return words


def philox_anywhere(counters: Tensor, seed: int) -> Tensor:
    """The same in torch."""
    factors = _pair(FACTOR_0, FACTOR_1, counters.device)
    key_steps = _pair(KEY_STEP_0, KEY_STEP_1, counters.device)
    keys = _pair(seed & WORD, seed >> 32 & WORD, counters.device)
    even, odd = counters[:, ::2], counters[:, 1::2]
    for i in range(ROUNDS):
        product = even * factors  # of 64 bits, which wrap
        high, low = product >> 32 & WORD, product & WORD
        even, odd = high.flip(1) ^ odd ^ (keys + i * key_steps & WORD), low.flip(1)
    return torch.stack([even, odd], dim=2).flatten(1)


def _pair(first: int, second: int, device: torch.device) -> Tensor:
    """(2,) made on the device: a copy would wait for it."""
    return torch.stack([torch.full((), x, device=device) for x in (first, second)])


@compiled
def philox_on_host(counters: Ints, rows: int, low_key: int, high_key: int, words: Ints) -> None:
    for row in range(rows):
        a, b, c, d = counters[4 * row], counters[4 * row + 1], counters[4 * row + 2], counters[4 * row + 3]
        k, l = low_key, high_key
        for _ in range(ROUNDS):
            p, q = a * FACTOR_0, c * FACTOR_1
            a, b, c, d = ((q >> 32) & WORD) ^ b ^ k, q & WORD, ((p >> 32) & WORD) ^ d ^ l, p & WORD
            k, l = (k + KEY_STEP_0) & WORD, (l + KEY_STEP_1) & WORD
        words[4 * row], words[4 * row + 1], words[4 * row + 2], words[4 * row + 3] = a, b, c, d


@compiled
def count_on_host(batch: Ints, step: Ints, index: Ints, stream: int, atoms: int, counters: Ints) -> None:
    """Counters of all atoms."""
    place = 0
    for i in range(atoms):
        s = batch[i]
        place = place + 1 if i > 0 and batch[max(i - 1, 0)] == s else 0
        counters[4 * i], counters[4 * i + 1] = place, step[s]
        counters[4 * i + 2], counters[4 * i + 3] = index[s], stream
