"""Stores of runs that survive their process: ``sqlite`` for one machine, ``postgres`` for many."""
