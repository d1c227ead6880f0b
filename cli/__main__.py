"""`python -m atomsml.cli` is `atomsml`."""

from atomsml.cli.main import main

main()
