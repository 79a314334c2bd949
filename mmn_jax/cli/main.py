"""The console script: mmn-jax COMMAND ..; each command's module is loaded when it is asked for."""

import sys
from importlib import import_module
from typing import NoReturn

from mmn_jax import __version__

USAGE = """mmn-jax: classes with a long tail over frozen features

  mmn-jax run --stage=meta [--config=FILE.py] [--config.KEY=VALUE ..] [--workdir=DIR]    from features to the table of results
  mmn-jax predict --model=WORKDIR --features=FILE.npz [--out=FILE.csv]                   classes of new features
  mmn-jax diagnose --features=FILE.npz                                                   does it help my data?
  mmn-jax export --model=WORKDIR [--out=DIR]                                             files to deploy, and a model card
  mmn-jax report [the flags of run]                                                      the page of a run, after what it needs

mmn-jax COMMAND --help tells more, mmn-jax --version which version it is. Exit codes: 0 done, 1 an error in the program, or the other
processes of the run are gone, 2 bad input, 130 interrupted.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs the command that the first word names."""
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
    if command in ("predict", "diagnose", "export"):
        return import_module(f"mmn_jax.cli.{command}").main(rest)
    print(f"{command}: no such command; mmn-jax --help lists them", file=sys.stderr)
    return 2


def script() -> NoReturn:
    """The program `mmn-jax`."""
    from mmn_jax.cli.command import leave, stop_on_signals

    stop_on_signals()
    leave(main)
