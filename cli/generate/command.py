"""`atomsml generate KIND`: molecules, graphs and backbones with all their options, and whatever else is generated."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from atomsml.cli.generate import backbones, graphs, molecules, next_atom, samples

ANY_KIND = "KIND"


class Kinds(TyperGroup):
    """A word that is no command of its own is a kind: which there are, only the models say."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or super().get_command(ctx, ANY_KIND)


app = typer.Typer(cls=Kinds, help="Draw samples from a generator.", no_args_is_help=True, rich_markup_mode=None)
app.command("molecules")(molecules.molecules)
app.command("graphs")(graphs.graphs)
app.command("backbones")(backbones.backbones)
app.command("next-atom")(next_atom.next_atom)
app.command(ANY_KIND)(samples.samples)
