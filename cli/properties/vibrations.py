"""`atomsml vibrations`: frequencies, infrared spectra and thermochemistry of molecules and adsorbates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from atomsml.cli.properties.command import PropertyCommand
from atomsml.cli.properties.options import RelaxOption, Shared, StepsOption, with_shared_options
from atomsml.cli.simulate.held import FixOption

if TYPE_CHECKING:
    import ase
    from matplotlib.figure import Figure

    from atomsml.properties.engine import Engine
    from atomsml.properties.task import Failure, Start
    from atomsml.properties.thermochemistry import Conditions
    from atomsml.properties.vibrations import Vibrations
    from atomsml.simulate.selection import Selection

LOW = 30.0  # cm^-1: lower ones hang on how far the relaxation went
WIDTH = 10.0  # cm^-1, of a line in the picture


@with_shared_options
def vibrations(
    context: typer.Context,
    shared: Shared,
    temperature: Annotated[float, typer.Option(help="Of the thermochemistry, K.")] = 298.15,
    pressure: Annotated[float, typer.Option(help="Of the ideal gas, bar.")] = 1.0,
    multiplicity: Annotated[int, typer.Option(help="2S + 1 of the spin S.")] = 1,
    symmetry_number: Annotated[
        int | None, typer.Option(help="Rotations that bring a molecule onto itself.  [default: found]")
    ] = None,
    fix: FixOption = None,
    relax: RelaxOption = True,
    fmax: Annotated[
        float, typer.Option(help="Relaxed when no force is larger, eV/A: low modes need small ones.")
    ] = 0.001,
    steps: StepsOption = 1000,
) -> None:
    """Vibrations: frequencies, normal modes, infrared intensities if the model has dipoles, thermochemistry.

    Of molecules in a gas; or of atoms on others that are held, which --fix or the file says.
    """
    from atomsml.cli.job import importing
    from atomsml.cli.properties.run import run

    with importing():
        from atomsml.properties.task import Start
        from atomsml.properties.thermochemistry import Conditions
        from atomsml.simulate.selection import Selection

    conditions = Conditions(temperature, pressure, multiplicity, symmetry_number)
    held = None if fix is None else Selection(fix)
    run(context, VibrationsCommand(Start(fmax, steps, relax=relax), conditions, held), shared)


class VibrationsCommand(PropertyCommand["Vibrations"]):
    name = "vibrations"
    columns: ClassVar[Mapping[str, str]] = {
        "lowest": "lowest cm^-1",
        "highest": "highest cm^-1",
        "zero_point_energy": "zero-point energy eV",
        "symmetry_number": "symmetry number",
        "enthalpy": "H eV",
        "entropy": "S meV/K",
        "free_energy": "G eV",
        "quasi_free_energy": "G, low modes as rotors eV",
    }

    def __init__(self, start: Start, conditions: Conditions, held: Selection | None) -> None:
        self.start, self.conditions, self.held = start, conditions, held

    def check(self, atoms: ase.Atoms) -> None:
        from atomsml.properties.vibrations import check

        if self.held is not None:
            self.held.hold(atoms)
        check(atoms)

    def find(self, structures: Sequence[ase.Atoms], engine: Engine) -> Iterable[tuple[int, Vibrations | Failure]]:
        from atomsml.properties.vibrations import vibrations

        return vibrations(structures, engine, self.start)

    def record(self, result: Vibrations) -> dict[str, Any]:
        from atomsml.properties.thermochemistry import thermochemistry

        told = thermochemistry(result, self.conditions)
        frequencies = result.frequencies
        notes = [f"not a minimum: mode {i} at {each:.0f}i cm^-1" for i, each in enumerate(result.imaginary)]
        notes += ["imaginary modes are left out of the thermochemistry"] if notes else []
        low = int(((frequencies >= 0) & (frequencies < LOW)).sum())
        if low:
            notes.append(f"{low} modes are below {LOW:.0f} cm^-1: their entropies are uncertain, and so is G")
        return {
            "lowest": frequencies[0] if len(frequencies) else None,
            "highest": frequencies[-1] if len(frequencies) else None,
            "zero_point_energy": result.zero_point_energy,
            "symmetry_number": told.symmetry_number,
            "enthalpy": told.enthalpy,
            "entropy": 1000 * told.entropy,
            "free_energy": told.free_energy,
            "quasi_free_energy": told.quasi_free_energy,
            "energy_eV": result.atoms.get_potential_energy(),
            "internal_energy_eV": told.internal_energy,
            "quasi_entropy_meV/K": None if told.quasi_entropy is None else 1000 * told.quasi_entropy,
            "temperature_K": self.conditions.temperature,
            "pressure_bar": self.conditions.pressure,
            "removed_modes": result.removed,
            "frequencies_cm^-1": frequencies,
            "intensities_km/mol": result.intensities,
            "notes": notes,
        }

    def structures(self, result: Vibrations) -> dict[str, Sequence[ase.Atoms]]:
        frames = []
        for frequency, mode in zip(result.frequencies, result.modes, strict=True):
            frame = result.atoms.copy()
            frame.info["frequency_cm^-1"] = float(frequency)
            frame.arrays["mode"] = mode
            frames.append(frame)
        found: dict[str, Sequence[ase.Atoms]] = {"-relaxed.extxyz": [result.atoms]}
        return {**found, "-modes.extxyz": frames} if frames else found

    def draw(self, record: Mapping[str, Any]) -> Figure | None:
        import numpy as np
        from matplotlib.figure import Figure

        frequencies = np.array(record["frequencies_cm^-1"])
        if not len(frequencies):
            return None
        known = record["intensities_km/mol"]
        heights = np.ones(len(frequencies)) if known is None else np.array(known)
        x = np.linspace(min(0.0, frequencies.min() - 100), frequencies.max() + 300, 2000)
        lines = heights * np.exp(-(((x[:, None] - frequencies) / WIDTH) ** 2) / 2)
        figure = Figure(figsize=(7, 3.5), layout="constrained")
        axes = figure.subplots()
        axes.plot(x, lines.sum(axis=1), linewidth=0.8)
        axes.set_xlabel("wavenumber, cm$^{-1}$; imaginary to the left of 0")
        axes.set_ylabel("modes" if known is None else "infrared intensity, km/mol")
        axes.set_title(f"{record['formula']}: {len(frequencies)} mode{'s' if len(frequencies) > 1 else ''}")
        axes.margins(x=0)
        axes.set_ylim(bottom=0)
        return figure
