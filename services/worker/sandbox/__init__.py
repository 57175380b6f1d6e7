"""Runs processor calls in confined child processes: see ``sandbox.py``. Empty, for the zygote's sake."""
