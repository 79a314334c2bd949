"""Runs the pipeline from features to the table of results: --stage=meta [--config=FILE.py] [--config.KEY=VALUE ..] [--workdir=DIR]."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from mmn_jax import devices
from mmn_jax.cli import reference, startup
from mmn_jax.cli.command import Abandoned, exit_code, show_text
from mmn_jax.cli.recipe import check_keys, load_recipe
from mmn_jax.config import default
from mmn_jax.errors import BadInput
from mmn_jax.pipeline import results, stages, table_formats
from mmn_jax.store import artifacts, metrics_log
from mmn_jax.store.terminal import make_terminal, never_silent


class _Integer(flags.IntegerParser):
    """Parses an integer and names what isn't one in plain words."""

    def parse(self, argument):
        try:
            return super().parse(argument)
        except ValueError as error:
            raise ValueError("must be an integer") from error


class _Number(flags.FloatParser):
    """Parses a number and names what isn't one in plain words."""

    def parse(self, argument):
        try:
            return super().parse(argument)
        except ValueError as error:
            raise ValueError("must be a number") from error


config_flags.register_flag_parser_for_type(int, _Integer())
config_flags.register_flag_parser_for_type(float, _Number())


def define() -> flags.FlagValues:
    """Defines every flag but --config and its settings, each with its default."""
    values = flags.FlagValues()
    stage = "Last stage to run, after those it needs; meta also prints the table."
    coordinator = "HOST:PORT of process 0, if several processes share the run; auto: JAX finds it (TPU pods, Slurm)."
    workdir = "Folder for artefacts and results (default: runs/ and the name of the recipe, or of the data if there is none)."
    flags.DEFINE_bool("help", False, "Prints this text.", values)
    flags.DEFINE_enum("stage", "meta", stages.STAGES, stage, values)
    flags.DEFINE_string("coordinator", "", coordinator, values)
    flags.DEFINE(_Integer(), "processes", None, "Number of processes that share the run.", values)
    flags.DEFINE(_Integer(), "process", None, "Index of this process, from 0.", values)
    flags.DEFINE_string("workdir", "", workdir, values)
    return values


def _recipe_of(argv: list[str]) -> tuple[str, list[str]]:
    """Returns the file that --config names, empty without one, and the command line without that flag."""
    values = flags.FlagValues()
    flags.DEFINE_string("config", "", None, values)
    values.set_gnu_getopt(True)  # the flag may stand behind a word that belongs to another
    rest = values(argv, known_only=True)
    return values.config, rest


@contextlib.contextmanager
def _wrong_flags() -> Iterator[None]:
    """Turns what absl and ml_collections raise for wrong flags into BadInput."""
    try:
        yield
    except flags.UnrecognizedFlagError as error:
        raise BadInput(f"--{error.flagname}: no such flag; --help lists them all") from error
    except flags.IllegalFlagValueError as error:  # which names its flag in its text alone
        raise BadInput(str(error).removeprefix("flag ")) from error
    except (flags.Error, ValueError, TypeError) as error:
        raise BadInput(f"{error}; see --help") from error


def parse(argv: list[str], recipes: Path | None = None) -> tuple[ConfigDict, flags.FlagValues, Path]:
    """Parses a command line.

    Args:
      argv: the program and its flags.
      recipes: a folder that the message for a missing recipe points to.

    Returns:
      The recipe with the settings of the command line, the other flags, and the workdir.

    Raises:
      BadInput: a flag, the recipe or a setting is wrong.
    """
    with _wrong_flags():
        recipe, argv = _recipe_of(argv)
    config = load_recipe(recipe, recipes) if recipe else default()
    check_keys(argv, config)
    values = define()
    with _wrong_flags():
        config_flags.DEFINE_config_dict("config", config, "The recipe.", values, sys_argv=argv)
        rest = values(argv)
    if len(rest) > 1:
        raise BadInput(f"{rest[1]}: not a flag; settings are given as --config.KEY=VALUE")
    config = values.config.copy_and_resolve_references()
    data = Path(recipe or config.data.path or "glyphs")
    return config, values, Path(values.workdir or Path("runs") / (data.name if data.is_dir() else data.stem))


def show(config: ConfigDict, values: flags.FlagValues, workdir: Path) -> None:
    """Runs the stage and prints its results.

    Args:
      config: every setting.
      values: the other flags.
      workdir: where artefacts and results go.

    Raises:
      BadInput: the settings don't fit the data, or another run is at work in the workdir.
    """
    startup.join(values.coordinator, values.processes, values.process)
    devices.start()
    compiling = startup.compile_clock()
    with (
        artifacts.occupied(workdir) as workdir,
        metrics_log.written(workdir) as log,
        never_silent(make_terminal(devices.first_process(), log)) as terminal,
    ):
        if artifacts.begun_by_other_code(workdir):
            terminal.say(f"{workdir} was created by a different version of mmn_jax; cached results may be stale. Use a new --workdir.")
        if changed := results.other_settings(workdir, config):
            again = "what depends on them is fitted again, as the forecast lists"
            terminal.say(f"the results in {workdir} are of other settings ({'; '.join(changed)}): {again}")
        seeds = stages.run_seeds(config, workdir, terminal, values.stage)
        if seeds:
            table = results.collect(seeds, config)
            results.write(workdir, table, seeds)
            terminal.say(f"\n{table_formats.as_text(table)}")
        if seeds:
            programs, seconds = compiling()
            terminal.say(f"{seconds:.0f} s went into compiling {programs} programs")
        holds = f", results.json and classifier.npz ({table['classifier']})" if seeds else ""
        terminal.say(f"artefacts{holds}: {workdir}")
        if values.stage in ("report", "all"):
            from mmn_jax.report import page  # with matplotlib, slow to import

            terminal.say(f"report: {page.write(workdir, seeds)}")


def describe() -> str:
    """Returns the text of --help."""
    recipe = "  --config: Recipe, a Python file with get_config().\n    (default: '', the embedded glyphs)"
    return f"{__doc__}\n{define().module_help(__name__)}\n{recipe}\n\nSettings, given as --config.KEY=VALUE:\n{reference.as_text()}"


def main(argv: list[str], recipes: Path | None = None) -> int:
    """Runs a command line (see `parse`) and returns its exit code."""
    startup.keep_programs()
    if {"-h", "-help", "--help", "--help=true"} & set(argv):
        return exit_code(lambda: show_text(describe()))

    def work():
        try:
            show(*parse(argv, recipes))
        except jax.errors.JaxRuntimeError as error:
            if devices.out_of_memory(error):
                full = "a device ran out of memory; finished artefacts are saved. Lower --config.kshot.memory_mb or --config.meta.memory_mb"
                raise Abandoned(f"{full}, or train on fewer examples: {str(error).splitlines()[0]}") from error
            if jax.process_count() == 1:
                raise
            lost = "the processes lost each other; finished artefacts are saved, start all processes again to continue"
            raise Abandoned(f"{lost}: {str(error).splitlines()[0]}") from error

    return exit_code(work, "interrupted; finished artefacts are saved, the same command continues from there")
