"""The plugin ``schedules``: starts workflows at given times, on every replica once."""
