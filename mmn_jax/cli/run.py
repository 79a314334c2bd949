"""From features to the table of results: --stage=meta [--config=FILE.py] [--config.KEY=VALUE ..] [--workdir=DIR]."""

import re
import traceback
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from mmn_jax import devices
from mmn_jax.cli import reference, startup
from mmn_jax.cli.command import Abandoned, exit_code, show_text
from mmn_jax.errors import BadInput
from mmn_jax.pipeline import glyphs_recipe, results, stages
from mmn_jax.store import artifacts, metrics_log
from mmn_jax.store.terminal import make_terminal

PLAIN_WORDS = {  # what Python says, and what it means
    r"invalid literal for int\(\) with base 10: .*": "must be an integer",
    r"could not convert string to float: .*": "must be a number",
    r"module '\w+' has no attribute 'get_config'": "has no function get_config()",
}


def define() -> flags.FlagValues:
    """The flags, but for the recipe's, with their defaults."""
    values = flags.FlagValues()
    stage = "What to run, after what it needs; meta also prints the table."
    coordinator = "HOST:PORT of process 0 of several that run together; auto: JAX finds it out (TPU pods, Slurm)."
    workdir = "Where artefacts and results go (default: runs/NAME of the recipe; without one, of the data)."
    flags.DEFINE_bool("help", False, "This text.", values)
    flags.DEFINE_enum("stage", "meta", stages.STAGES, stage, values)
    flags.DEFINE_string("coordinator", "", coordinator, values)
    flags.DEFINE_integer("processes", None, "How many processes there are.", flag_values=values)
    flags.DEFINE_integer("process", None, "The index of this process, from 0.", flag_values=values)
    flags.DEFINE_string("workdir", "", workdir, values)
    return values


def _line(error, recipe):
    """The line of the recipe that the error comes from, None where it comes from elsewhere."""
    line = None
    while error is not None:
        line = next((frame.lineno for frame in reversed(traceback.extract_tb(error.__traceback__)) if frame.filename == recipe), line)
        error = error.__context__  # absl tells of a ValueError by another
    return line


def _reason(error, argv):
    """Why a recipe, or a setting of one, was refused, in one line."""
    text, recipe = str(error).strip(), next((word.removeprefix("--config=") for word in argv[:0:-1] if word.endswith(".py")), None)
    if recipe and ":" in recipe and isinstance(error, OSError):
        return f"--config={recipe}: a recipe's path can't hold a colon, where its name would end; move the file"
    line = _line(error, recipe)
    place = "--config" + (f"={recipe}" if recipe else "") + (f": line {line}" if line else "")
    unknown = re.match(r"""['"\\]+(?:Key ")?(\w+)""", text) if isinstance(error, (AttributeError, KeyError)) else None
    if unknown is None:
        text = (text or repr(error)).splitlines()[-1]
        for said, meant in PLAIN_WORDS.items():
            text = re.sub(said, meant, text)
        return text.removeprefix("flag ") if text.startswith("flag --") and not line else f"{place}: {text}"
    name, similar = unknown[1], re.search(r'Did you mean "(\w+)"', text)  # as ml_collections says it
    keys = [word.partition("=")[0] for word in argv if name in word.partition("=")[0].split(".")]
    key = keys[0] if keys and not line else f"{place}: {name}"
    hint = f", did you mean {similar[1]}" if similar else ""
    return f"{key}: no such setting{hint}; --help and docs/config.md list them all"


def parse(argv: list[str], recipes: Path | None = None) -> tuple[ConfigDict, flags.FlagValues, Path]:
    """Config, flags and workdir of a command line, whose first word is the program; recipes: a folder that a message may point to.

    Raises:
      BadInput: for every way they can be wrong.
    """
    values = define()
    try:
        argv = sorted(argv, key=lambda word: "=" in word and word.lstrip("-").startswith("config."))  # settings after their recipe
        text = "The recipe; settings by --config.KEY=VALUE."
        config_flags.DEFINE_config_file("config", glyphs_recipe.__file__, text, values, sys_argv=argv)
        rest = values(argv)
        name = config_flags.get_config_filename(values["config"])
        config = values.config.copy_and_resolve_references() if Path(name).is_file() else None
    except flags.UnrecognizedFlagError as error:
        raise BadInput(f"--{error.flagname}: no such flag; --help lists them all") from error
    except Exception as error:  # a recipe is Python and may fail in any way
        raise BadInput(_reason(error, argv)) from error
    if config is None:
        where = f"recipes are in {recipes}" if recipes else "a recipe is a Python file with get_config()"
        raise BadInput(f"--config={name}: no such file; {where}")
    if len(rest) > 1:
        raise BadInput(f"{rest[1]}: not a flag; settings are given as --config.KEY=VALUE")
    if name == glyphs_recipe.__file__:  # no recipe, perhaps data
        name = config.data.path or "glyphs"
    data = Path(name)
    return config, values, Path(values.workdir or Path("runs") / (data.name if data.is_dir() else data.stem))


def show(config: ConfigDict, values: flags.FlagValues, workdir: Path) -> None:
    """Runs the stage and prints what it gave."""
    startup.join(values.coordinator, values.processes, values.process)
    devices.start()
    compiling = startup.compile_clock()
    with artifacts.occupied(workdir) as workdir, metrics_log.written(workdir) as log:
        terminal = make_terminal(devices.first_process(), log)
        if artifacts.begun_by_other_code(workdir):
            terminal.say(
                f"{workdir} was begun by other code of mmn_jax and may keep what that made; another --workdir makes all of it anew"
            )
        seeds = stages.run_seeds(config, workdir, terminal, values.stage)
        if seeds:
            table = results.collect(seeds, config)
            results.write(workdir, table, seeds)
            terminal.say(f"\n{table['dataset']}: mean per-class test accuracy in percent, seeds {table['seeds']}\n{results.as_text(table)}")
        if seeds:
            programs, seconds = compiling()
            terminal.say(f"{seconds:.0f} s went into compiling {programs} programs")
        terminal.say(f"artefacts{', results.json and classifier.npz' if seeds else ''}: {workdir}")
        if values.stage in ("report", "all"):
            from mmn_jax.report import page  # with matplotlib, slow to import

            terminal.say(f"report: {page.write(workdir, seeds)}")


def describe() -> str:
    """The text of --help."""
    recipe = f"  --config: The recipe, a Python file with get_config().\n    (default: '{glyphs_recipe.__name__}', the embedded glyphs)"
    return f"{__doc__}\n{define().module_help(__name__)}\n{recipe}\n\nSettings, given as --config.KEY=VALUE:\n{reference.as_text()}"


def main(argv: list[str], recipes: Path | None = None) -> int:
    """The exit code of a command line as `parse` takes it."""
    startup.keep_programs()
    if {"-h", "-help", "--help", "--help=true"} & set(argv):
        return exit_code(lambda: show_text(describe()))

    def work():
        try:
            show(*parse(argv, recipes))
        except jax.errors.JaxRuntimeError as error:
            if devices.out_of_memory(error):
                told = "a device's memory is full; what is finished is saved. Lower --config.kshot.memory_mb or --config.meta.memory_mb"
                raise Abandoned(f"{told}, or train on fewer examples: {str(error).splitlines()[0]}") from error
            if jax.process_count() == 1:
                raise
            told = "the processes cannot go on together; start all of them again, what is finished is saved"
            raise Abandoned(f"{told}: {str(error).splitlines()[0]}") from error

    return exit_code(work, "interrupted; finished artefacts are saved, the same command goes on from there")
