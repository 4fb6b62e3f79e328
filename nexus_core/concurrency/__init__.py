"""Threads, processes, event loops and time limits: calling code that may block."""
