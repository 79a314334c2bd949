"""Does mmn help my data? The command that answers it from training data alone:

mmn-jax diagnose --features=FILE.npz [--cuts=5] [--seed=0]

Where FILE has descriptions of the classes, names that describe them, or examples without labels, it says what these add, too.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial

from mmn_jax.cli.command import Parser, exit_code, stop_on_signals
from mmn_jax.data.descriptions import describe_names
from mmn_jax.data.feature_files import load_to_fit
from mmn_jax.devices import start
from mmn_jax.errors import BadInput
from mmn_jax.methods.diagnosis import describe, diagnose
from mmn_jax.methods.progress import Step
from mmn_jax.pipeline.column_flags import add_column_flags, column_flags, columns_of
from mmn_jax.store.terminal import make_terminal, never_silent, print_line, warn


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parses the flags."""
    parser = Parser("mmn-jax diagnose", description="Does mmn help my data? From training data alone.")
    parser.add_argument(
        "--features", required=True, help="features with train_x [n, d] and train_y [n], in any form of docs/your_own_features.md"
    )
    add_column_flags(parser)
    parser.add_argument("--cuts", type=int, default=5, help="long tails to make, at least 2")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def _show(show: Callable[[str], None], what: str, step: Step) -> None:
    show(f"{what}, {step}")


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""

    def work():
        arguments = parse(argv)
        if arguments.cuts < 2:
            raise BadInput(f"--cuts: must be at least 2 for an interval, it is {arguments.cuts}")
        if not 0 <= arguments.seed < 2**31:
            raise BadInput(f"--seed: must be from 0 to 2^31 - 1, it is {arguments.seed}")
        start()
        with column_flags():
            _, train, _, _, names, known = load_to_fit(arguments.features, columns_of(arguments), warn)
        if known.descriptions is None:
            known = known._replace(descriptions=describe_names(names))
        print(f"{len(train.y)} examples; mmn and logit adjustment are tuned on each of {arguments.cuts} long-tailed subsamples", flush=True)
        progress = make_terminal(True)._replace(say=partial(print_line, error=True))
        try:
            with never_silent(progress) as terminal, terminal.doing("diagnosis") as show:
                told = partial(_show, show)
                found = diagnose(train, arguments.seed, arguments.cuts, names, terminal.say, known, told)
        except BadInput as error:
            raise BadInput(f"{arguments.features}: {error}") from error
        print(describe(found))

    return exit_code(work)


if __name__ == "__main__":
    stop_on_signals()
    sys.exit(main())
