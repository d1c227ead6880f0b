"""Architectures by name: those that come with atomsml, and those that installed packages add.

A class is imported when its name is asked for, never before, so that a list of names needs no torch, and a package that
does not work disturbs nobody who leaves it alone. A package adds an architecture by a line of its pyproject.toml:

    [project.entry-points."atomsml.potentials"]
    schnet = "my_package.schnet:SchNet"
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

Model = TypeVar("Model")


class Architectures(MutableMapping[str, type[Model]]):
    """A dict of name -> model class.

    `base` and the values of `built_in` are places of classes, as "module:Class". `group` is that of the entry points.

    Raises:
        ValueError: at the first use, if two packages claim the same name.
    """

    def __init__(self, base: str, group: str, built_in: Mapping[str, str]) -> None:
        self.base, self.group, self.built_in = base, group, built_in

    @cached_property
    def _entries(self) -> dict[str, EntryPoint | type[Model]]:
        found: dict[str, EntryPoint | type[Model]] = {
            name: EntryPoint(name, place, self.group) for name, place in self.built_in.items()
        }
        owner = dict.fromkeys(found, "atomsml")
        for entry in sorted(entry_points(group=self.group)):
            package = _package(entry)
            if entry.name in found:
                raise ValueError(
                    f"the package {package} adds {entry.name!r} to {self.group}, a name that {owner[entry.name]} has "
                    f"already; uninstall {package}, or ask its authors for another name"
                )
            found[entry.name], owner[entry.name] = entry, package
        return found

    def __getitem__(self, name: str) -> type[Model]:
        """Raises KeyError for an unknown name, and ValueError for one whose package does not work."""
        entry = self._entries[name]
        return self._load(entry) if isinstance(entry, EntryPoint) else entry

    def __setitem__(self, name: str, model_class: type[Model]) -> None:
        """Add an architecture for this process, as a script or a test does."""
        self._entries[name] = model_class

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __contains__(self, name: object) -> bool:  # that of Mapping would import the class
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<{self.group}: {', '.join(self)}>"

    def package(self, name: str) -> str | None:
        """The installed package that adds an architecture; None for one of atomsml, or of this process."""
        entry = self._entries[name]
        return _package(entry) if isinstance(entry, EntryPoint) and entry.dist is not None else None

    def name_of(self, model_class: type[Any]) -> str:
        """The name of a class. No others are imported: whoever has the class has imported the module of its entry.

        Raises:
            ValueError: it has none.
        """
        for name, entry in self._entries.items():
            if (not isinstance(entry, EntryPoint) or entry.module in sys.modules) and self[name] is model_class:
                return name
        raise ValueError(
            f"model files are loaded by the name of their architecture, and a {model_class.__name__} has none; there "
            f"are {', '.join(self)}, and an entry point of the group {self.group} adds others"
        )

    def _load(self, entry: EntryPoint) -> type[Model]:
        try:
            found = entry.load()
        except Exception as error:  # whatever the code of others raises
            if entry.dist is None:
                raise
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise ValueError(f"{entry.name!r} of the package {_package(entry)} cannot be imported: {reason}") from error
        base = EntryPoint("base", self.base, self.group).load()
        if not (isinstance(found, type) and issubclass(found, base)):
            raise ValueError(f"{entry.name!r} of the package {_package(entry)} is no subclass of {self.base}")
        model_class: type[Model] = found
        return model_class


def _package(entry: EntryPoint) -> str:
    return "atomsml" if entry.dist is None else entry.dist.name
