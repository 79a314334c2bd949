"""The console script, mmn-jax COMMAND ..; it imports a command's module only when that command is called."""

import sys
from importlib import import_module
from typing import NoReturn

from mmn_jax import __version__

USAGE = """mmn-jax: long-tailed recognition on frozen features

  mmn-jax run --stage=meta [--config=FILE.py] [--config.KEY=VALUE ..] [--workdir=DIR]    features to a table of results
  mmn-jax fit --features=FILE.npz --out=DIR                                              a classifier, and nothing else
  mmn-jax predict --model=WORKDIR --features=FILE.npz [--out=FILE.csv]                   classify new features
  mmn-jax diagnose --features=FILE.npz                                                   does it help my data?
  mmn-jax export --model=WORKDIR [--out=DIR]                                             files to deploy and a model card
  mmn-jax report [the flags of run]                                                      the report of a run, after the stages it needs

mmn-jax COMMAND --help describes a command, mmn-jax --version prints the version. Exit codes: 0 done, 1 an error in the program, or the
other processes of the run are gone, 2 bad input, 130 interrupted.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs the command that the first word names and returns its exit code."""
    command, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if command == "--version":
        print(f"mmn-jax {__version__}")
        return 0
    if command in ("run", "report"):
        stage = ["--stage=report"] if command == "report" else []
        return import_module("mmn_jax.cli.run").main([f"mmn-jax {command}", *rest, *stage])
    if command in ("fit", "predict", "diagnose", "export"):
        return import_module(f"mmn_jax.cli.{command}").main(rest)
    print(f"{command}: no such command; mmn-jax --help lists them", file=sys.stderr)
    return 2


def script() -> NoReturn:
    """Runs the program `mmn-jax` on the words of the command line."""
    from mmn_jax.cli.command import leave, stop_on_signals

    stop_on_signals()
    leave(main)
