"""Runs `python -m mmn_jax.predict`; the command itself is mmn_jax/cli/predict.py."""

import sys

from mmn_jax.cli.command import stop_on_signals
from mmn_jax.cli.predict import main

if __name__ == "__main__":
    stop_on_signals()
    sys.exit(main())
