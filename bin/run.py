"""Flags to pipeline: python bin/run.py --stage=meta [--config=configs/NAME.py] [--workdir=DIR]; all of it is in mmn_jax/job.py."""

import sys
from pathlib import Path

from mmn_jax import job
from mmn_jax.command import leave, stop_on_signals

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def main(argv: list[str]) -> int:
    return job.main(argv, CONFIGS)


if __name__ == "__main__":
    stop_on_signals()
    leave(lambda: main(sys.argv))
