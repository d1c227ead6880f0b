"""Bond orders and formal charges of a molecule from who is bonded to whom and the total charge, as an integer program.

Each atom i takes one state s of its element: a valence v_s (the sum of its bond orders), a formal charge q_s and a cost
c_s. With z_is = 1 for the state that is taken and the order x_ij >= 1 of each bond,

    minimise    sum_is c_is z_is - sum_ij d_ij p_ij
    so that     sum_j x_ij = sum_s v_s z_is  and  sum_s z_is = 1  for every atom,    sum_is q_s z_is = total charge,

where p_ij = 1 if opposite charges are neighbours. No state has unpaired electrons: radicals have no solution. The costs
(STATES) are an order of merit, not energies. Where charges could be in several equal places, RDKit's canonical order of
the atoms decides, so that neither the order of a file nor the geometry does. A second program distributes the multiple
bonds that the valences leave open (Kekule structures), short bonds first. HiGHS solves both (Huangfu & Hall, Math.
Program. Comput. 10, 119 (2018)).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols, covalent_radii

TIME_LIMIT = 10.0  # s for one molecule; those that make sense take milliseconds


class State(NamedTuple):
    """What an atom of an element may be."""

    valence: int
    charge: int
    cost: float


_PNICTOGEN = (State(3, 0, 0), State(5, 0, 2), State(4, 1, 11), State(2, -1, 20), State(6, -1, 10))
_CHALCOGEN = (State(2, 0, 0), State(4, 0, 3), State(6, 0, 3), State(1, -1, 11), State(3, 1, 14), State(5, 1, 17))
_HALOGEN = (State(1, 0, 0), State(0, -1, 10), State(3, 0, 6), State(5, 0, 6), State(7, 0, 6), State(2, 1, 15))
# Octets first; then hypervalent P, S and halogens, as in sulfones, which chemists write without charges; then charges,
# the cheaper the more the element likes them. Carbon without an octet is the last resort.
STATES: Mapping[int, Sequence[State]] = {
    1: (State(1, 0, 0),),
    5: (State(3, 0, 0), State(4, -1, 5)),
    6: (State(4, 0, 0), State(3, -1, 25), State(3, 1, 28)),
    7: (State(3, 0, 0), State(4, 1, 10), State(2, -1, 9)),
    8: (State(2, 0, 0), State(1, -1, 10), State(3, 1, 22)),
    9: (State(1, 0, 0), State(0, -1, 10)),
    13: (State(3, 0, 0), State(4, -1, 5)),
    14: (State(4, 0, 0),),
    15: _PNICTOGEN,
    16: _CHALCOGEN,
    17: _HALOGEN,
    33: _PNICTOGEN,
    34: _CHALCOGEN,
    35: _HALOGEN,
    53: (*_HALOGEN, State(2, -1, 15)),
}
YLIDE = 40.0  # added to hypervalent S or Se whose double bonds are to carbon: sulfonium ylides are written with charges
TERMINAL_NITRIDE = 2.5  # added to N- with one neighbour: cyanate is [O-]C#N, thiocyanate [S-]C#N
PROTONATED, IN_RING = 0.5, 0.25  # taken off N+ with a hydrogen, and in a ring: methylimidazolium is Cn1cc[nH+]c1
TIE = 0.1  # taken off at most for the place in the canonical order
OPPOSITE = 3.0  # taken off for a pair of neighbours of opposite charge
# where the negative one has no other neighbour, by its element: N-oxides, nitro groups, azides, isocyanides
OPPOSITE_TERMINAL: Mapping[int, float] = {6: 5.0, 7: 7.0, 8: 5.0, 16: 5.0, 34: 5.0}


def bond_orders(
    numbers: Sequence[int],
    pairs: Sequence[tuple[int, int]],
    charge: int = 0,
    lengths: Sequence[float] | None = None,
    time_limit: float = TIME_LIMIT,
) -> tuple[np.ndarray, np.ndarray]:
    """(bonds,) order of each bond, 1 to 3, and (atoms,) formal charges, of a molecule without unpaired electrons.

        >>> from atomsml.io.bond_orders import bond_orders
        >>> orders, charges = bond_orders([7, 7, 8], [(0, 1), (1, 2)])
        >>> orders.tolist(), charges.tolist()  # nitrous oxide, [N-]=[N+]=O
        ([2, 2], [-1, 1, 0])

    Args:
        numbers: atomic numbers, of hydrogens as well.
        pairs: the two atoms of each bond.
        charge: total charge, in e.
        lengths: of the bonds, in Angstrom: of several Kekule structures the one with the shortest double bonds counts.
        time_limit: for each of the two programs, in s.

    Raises:
        ValueError: an element without known valences, an atom with too many or too few neighbours, or no bond orders
            that add up to the charge; says which.
        TimeoutError: no solution within the time limit.
    """
    molecule = _Unsolved(np.asarray(numbers, np.int64), np.asarray(pairs, np.int64).reshape(-1, 2), time_limit)
    states = molecule.cheapest(charge)
    if states is None:
        raise ValueError(molecule.why_not(charge))
    surplus = np.array([state.valence for state in states], np.int64) - molecule.degree
    return 1 + molecule.multiple_bonds(surplus, lengths), np.array([state.charge for state in states], np.int64)


class _Program:
    """min costs . x over integers 0 <= x <= upper, subject to low <= A x <= high, filled one by one."""

    def __init__(self) -> None:
        self._costs: list[float] = []
        self._upper: list[int] = []
        self._entries: list[tuple[int, int, int]] = []  # row, column, value
        self._limits: list[tuple[float, float]] = []

    def add(self, cost: float, upper: int = 1) -> int:
        """A variable; returns its column."""
        self._costs.append(cost)
        self._upper.append(upper)
        return len(self._costs) - 1

    def constrain(self, row: Mapping[int, int], low: float, high: float) -> None:
        self._entries += [(len(self._limits), column, value) for column, value in row.items()]
        self._limits.append((low, high))

    def solve(self, time_limit: float) -> np.ndarray | None:
        """(variables,) the minimum; None if nothing obeys the constraints."""
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        row, column, value = np.array(self._entries).T
        matrix = csr_array((value.astype(float), (row, column)), (len(self._limits), len(self._costs)))
        result = milp(
            np.array(self._costs),
            integrality=np.ones(len(self._costs)),
            bounds=Bounds(0, np.array(self._upper)),
            constraints=LinearConstraint(matrix, *np.array(self._limits).T),
            options={"time_limit": time_limit, "mip_rel_gap": 0.0},
        )
        if result.status == 1:
            raise TimeoutError(f"bond orders took more than {time_limit:g} s")
        return None if result.x is None else np.rint(result.x).astype(np.int64)


class _Unsolved:
    """A molecule whose bonds have no orders yet."""

    def __init__(self, numbers: np.ndarray, pairs: np.ndarray, time_limit: float) -> None:
        self.numbers, self.pairs, self.time_limit = numbers, pairs, time_limit
        self.degree = np.bincount(pairs.ravel(), minlength=len(numbers))
        self.neighbours: list[list[int]] = [[] for _ in numbers]
        for first, second in pairs.tolist():
            self.neighbours[first].append(second)
            self.neighbours[second].append(first)
        self.options = [self._possible(atom) for atom in range(len(numbers))]
        self.room = self._close_saturated()

    def _possible(self, atom: int) -> list[State]:
        """The states of the element that have as many valences as the atom has neighbours, or more."""
        number, degree = int(self.numbers[atom]), int(self.degree[atom])
        if number not in STATES:
            raise ValueError(f"no valences are known of {chemical_symbols[number]} (atom {atom})")
        found = [state for state in STATES[number] if state.valence >= degree]
        if not found:
            raise ValueError(f"atom {atom} ({chemical_symbols[number]}) has {degree} neighbours, which are too many")
        return found

    def _close_saturated(self) -> np.ndarray:
        """(bonds,) how far each may go beyond a single bond; states that the neighbours do not allow are dropped."""
        while True:
            free = np.array([max(s.valence for s in states) for states in self.options], np.int64) - self.degree
            room = np.minimum(free[self.pairs].min(axis=1, initial=2), 2)
            most = self.degree + np.bincount(self.pairs.ravel(), np.repeat(room, 2), len(self.numbers)).astype(int)
            kept = [[s for s in states if s.valence <= top] for states, top in zip(self.options, most, strict=True)]
            if [] in kept:
                atom = kept.index([])
                symbol, degree = chemical_symbols[self.numbers[atom]], self.degree[atom]
                few = "no neighbours" if degree == 0 else f"too few neighbours ({degree})"
                raise ValueError(f"atom {atom} ({symbol}) has {few}, and no multiple bond can make up for it")
            if kept == self.options:
                return room
            self.options = kept

    def cheapest(self, charge: int | None) -> list[State] | None:
        """The cheapest state of each atom with this total charge, or with any; None if there are none."""
        bonds = np.flatnonzero(self.room)
        # saturated parts stay out of the program
        inside = {i for i, states in enumerate(self.options) if len(states) > 1}
        inside |= set(self.pairs[bonds].ravel().tolist())
        chosen = [states[0] for states in self.options]
        fixed = sum(state.charge for i, state in enumerate(chosen) if i not in inside)
        if not inside:
            return chosen if charge in (None, fixed) else None
        program, cost = _Program(), self._cost()
        taken = {i: {program.add(cost(i, state)): state for state in self.options[i]} for i in sorted(inside)}
        balance = {i: {c: int(self.degree[i]) - s.valence for c, s in states.items()} for i, states in taken.items()}
        for bond in bonds.tolist():
            column = program.add(0.0, int(self.room[bond]))
            for i in self.pairs[bond].tolist():
                balance[i][column] = 1
        for i, states in taken.items():
            program.constrain(dict.fromkeys(states, 1), 1, 1)
            program.constrain(balance[i], 0, 0)
        self._favour_opposite_neighbours(program, taken)
        if charge is not None:
            charges = {column: state.charge for states in taken.values() for column, state in states.items()}
            program.constrain(charges, charge - fixed, charge - fixed)
        solution = program.solve(self.time_limit)
        if solution is None:
            return None
        for i, states in taken.items():
            chosen[i] = next(state for column, state in states.items() if solution[column])
        return chosen

    def _favour_opposite_neighbours(self, program: _Program, taken: Mapping[int, Mapping[int, State]]) -> None:
        """Variables p_ij; a charge is balanced by one neighbour at most."""
        partners: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)  # (atom, sign) -> its p
        for i, j in (*self.pairs.tolist(), *self.pairs[:, ::-1].tolist()):
            plus, minus = ((s.charge for s in self.options[k]) for k in (i, j))
            if max(plus) > 0 and min(minus) < 0 and (i in taken or j in taken):
                terminal = self.degree[j] == 1
                favour = OPPOSITE_TERMINAL.get(int(self.numbers[j]), OPPOSITE) if terminal else OPPOSITE
                column = program.add(-favour)
                partners[i, 1][column] = partners[j, -1][column] = 1
        for (i, sign), row in partners.items():
            states = taken.get(i, {})
            charged = {column: -1 for column, state in states.items() if sign * state.charge > 0}
            program.constrain(row | charged, -np.inf, 0 if states else 1)

    def _cost(self) -> Callable[[int, State], float]:
        """What a state of an atom costs where it is."""
        from rdkit import Chem

        skeleton = Chem.RWMol()
        for number in self.numbers.tolist():
            atom = Chem.Atom(number)
            atom.SetNoImplicit(True)
            skeleton.AddAtom(atom)
        for first, second in self.pairs.tolist():
            skeleton.AddBond(first, second, Chem.BondType.SINGLE)
        Chem.FastFindRings(skeleton)
        ranks = list(Chem.CanonicalRankAtoms(skeleton))

        def cost(atom: int, state: State) -> float:
            number, neighbours = int(self.numbers[atom]), self.numbers[self.neighbours[atom]]
            value = state.cost
            if number == 7 and state.charge < 0 and len(neighbours) == 1:
                value += TERMINAL_NITRIDE
            if number == 7 and state.charge > 0:
                value -= PROTONATED * (1 in neighbours) + IN_RING * skeleton.GetAtomWithIdx(atom).IsInRing()
            if number in (16, 34) and state.charge == 0 and state.valence > 2:
                multiple = state.valence - len(neighbours)
                value += YLIDE * (multiple > np.isin(neighbours, (7, 8, 15, 16, 34)).sum())
            return value + TIE * ranks[atom] / len(ranks) * (state.charge != 0)

        return cost

    def multiple_bonds(self, surplus: np.ndarray, lengths: Sequence[float] | None) -> np.ndarray:
        """(bonds,) order beyond a single bond, from what the valence of each atom leaves beyond its neighbours."""
        open_ = np.flatnonzero(np.minimum(self.room, surplus[self.pairs].min(axis=1, initial=2)))
        first, second = self.pairs[open_].T
        relative = np.ones(len(open_))
        if lengths is not None:
            relative = np.asarray(lengths)[open_] / (covalent_radii[self.numbers[[first, second]]].sum(axis=0))
        found = np.zeros(len(self.pairs), np.int64)
        if len(open_):
            program = _Program()
            rows: dict[int, dict[int, int]] = defaultdict(dict)
            for bond, length in zip(open_.tolist(), relative.tolist(), strict=True):
                column = program.add(length, int(self.room[bond]))
                for i in self.pairs[bond].tolist():
                    rows[i][column] = 1
            for i, row in rows.items():
                program.constrain(row, surplus[i], surplus[i])
            solution = program.solve(self.time_limit)
            assert solution is not None  # the first program has found one
            found[open_] = solution
        return found

    def why_not(self, charge: int) -> str:
        """Why no states have this total charge."""
        electrons = int(self.numbers.sum()) - charge
        if electrons % 2:
            return f"{electrons} electrons, an odd number: one is unpaired"
        other = self.cheapest(None)
        if other is None:
            return "the valences of the atoms leave an unpaired electron"
        return f"the valences of the atoms add up to {sum(state.charge for state in other):+d}"
