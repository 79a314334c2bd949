"""Runs the pipeline: python bin/run.py --stage=meta [--config=configs/NAME.py] [--workdir=DIR]; the command is mmn_jax/cli/run.py."""

import sys
from pathlib import Path

from mmn_jax.cli import run
from mmn_jax.cli.command import leave, stop_on_signals

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def main(argv: list[str]) -> int:
    return run.main(argv, CONFIGS)


if __name__ == "__main__":
    stop_on_signals()
    leave(lambda: main(sys.argv))
