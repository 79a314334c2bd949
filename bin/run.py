"""Flags to pipeline: python bin/run.py --stage=meta [--config=configs/NAME.py] [--workdir=DIR]; all of it is mmn_jax/job.py."""

import sys

from mmn_jax.job import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
