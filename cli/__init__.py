"""The command line: one file per command. Heavy libraries are imported inside the commands, so that --help is fast."""
