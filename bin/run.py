"""Flags to pipeline: python bin/run.py --stage=meta [--config=configs/NAME.py] [--workdir=DIR]."""

import signal
import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from mmn_jax import artifacts, mesh, metrics, pipeline, report, results
from mmn_jax.command import exit_code
from mmn_jax.run import make_terminal
from mmn_jax.types import BadInput

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FLAGS = flags.FLAGS
flags.DEFINE_bool("help", False, "This text.")
flags.DEFINE_enum("stage", "meta", pipeline.STAGES, "What to run, after what it needs; meta also prints the table.")
flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0 of several that run together; auto: JAX finds it out (TPU pods, Slurm).")
flags.DEFINE_integer("processes", None, "How many there are.")
flags.DEFINE_integer("process", None, "Which of them this is, from 0.")
flags.DEFINE_string("workdir", "", "Where artefacts and results go (default: runs/NAME of the config).")


def parse(argv):
    """Config, stage and workdir, with every way they can be wrong turned into one line."""
    try:
        argv = sorted(argv, key=lambda word: "=" in word and word.lstrip("-").startswith("config."))  # settings after their recipe
        text = "The recipe; settings by --config.KEY=VALUE."
        config_flags.DEFINE_config_file("config", str(CONFIGS / "glyphs.py"), text, sys_argv=argv)
        rest = FLAGS(argv)
        name = config_flags.get_config_filename(FLAGS["config"])
        config = FLAGS.config.copy_and_resolve_references() if Path(name).is_file() else None
    except AttributeError as error:  # how ml_collections reports a key that the recipe lacks
        raise BadInput(f"--config: no such setting {error}; mmn_jax/config.py lists them all") from error
    except Exception as error:  # a recipe is Python and may fail in any way
        raise BadInput(f"--config: {' '.join(str(error).split())}") from error
    if config is None:
        raise BadInput(f"--config={name}: no such file; recipes are in {CONFIGS}")
    if len(rest) > 1:
        raise BadInput(f"{rest[1]}: not a flag; settings are given as --config.KEY=VALUE")
    return config, FLAGS.stage, Path(FLAGS.workdir or Path("runs") / Path(name).stem)


def show(config, stage, workdir):
    """Runs the stage and prints what it gave."""
    mesh.join(FLAGS.coordinator, FLAGS.processes, FLAGS.process)
    compiling = mesh.compile_clock()
    with artifacts.occupied(workdir) as workdir, metrics.written(workdir) as log:
        terminal = make_terminal(mesh.first_process(), log)
        seeds = pipeline.run_seeds(config, workdir, terminal, stage)
        if seeds:
            table = results.collect(seeds, config)
            results.write(workdir, table, seeds)
            terminal.say(f"\n{table['dataset']}: mean per-class test accuracy in percent, seeds {table['seeds']}\n{results.as_text(table)}")
        terminal.say(f"{compiling():.0f} s went into compiling")
        terminal.say(f"artefacts{', results.json and classifier.npz' if seeds else ''}: {workdir}")
        if stage in ("report", "all"):
            terminal.say(f"report: {report.write(workdir, seeds)}")


def main(argv):
    for stop in (signal.SIGINT, signal.SIGTERM):  # SIGINT, too: it is ignored in what a script starts in the background
        signal.signal(stop, signal.default_int_handler)
    mesh.keep_programs()
    if {"-h", "-help", "--help", "--help=true"} & set(argv):
        print(f"{__doc__}\n{FLAGS.main_module_help()}")
        return 0
    return exit_code(lambda: show(*parse(argv)), "interrupted; finished artefacts are saved, the same command goes on from there")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
