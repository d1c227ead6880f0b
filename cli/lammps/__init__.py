"""`atomsml lammps ...`: a model inside LAMMPS."""

import typer

from atomsml.cli.lammps import check, run

app = typer.Typer(help="Run a model inside LAMMPS, over many processes.", no_args_is_help=True, rich_markup_mode=None)
app.command("run")(run.run)
app.command("check")(check.check)
