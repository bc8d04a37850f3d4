"""Kills real work at named and at random points and checks what is left: `python -m tests.faults`."""
