"""Paths between minima: elastic bands (`neb.py`), transition states (`ts.py`), the ways down from these (`irc.py`)."""
