"""What every measured program has in common. It runs in other products' environments too: standard library only."""

from __future__ import annotations

import argparse
import logging


def arguments(**extra: int) -> argparse.Namespace:
    """Return ``--port`` and further numbers, each with its default. Nobody logs anything below an error."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    for name, default in extra.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()
