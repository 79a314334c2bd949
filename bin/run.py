"""Flags to pipeline: python bin/run.py --stage=meta [--config=configs/NAME.py] [--workdir=DIR]."""

import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from mmn_jax import artifacts, mesh, pipeline, report, results
from mmn_jax.command import exit_code, stop_on_signals
from mmn_jax.run import make_terminal
from mmn_jax.types import BadInput

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FLAGS = flags.FlagValues()  # its own: nothing else that is imported can add to them
flags.DEFINE_bool("help", False, "This text.", FLAGS)
flags.DEFINE_enum("stage", "meta", pipeline.STAGES, "What to run, after what it needs; meta also prints the table.", FLAGS)
flags.DEFINE_string(
    "coordinator", "", "HOST:PORT of process 0 of several that run together; auto: JAX finds it out (TPU pods, Slurm).", FLAGS
)
flags.DEFINE_integer("processes", None, "How many there are.", flag_values=FLAGS)
flags.DEFINE_integer("process", None, "Which of them this is, from 0.", flag_values=FLAGS)
flags.DEFINE_string("workdir", "", "Where artefacts and results go (default: runs/NAME of the config).", FLAGS)


def parse(argv):
    """Config, stage and workdir, with every way they can be wrong turned into one line."""
    try:
        argv = sorted(argv, key=lambda word: "=" in word and word.lstrip("-").startswith("config."))  # settings after their recipe
        text = "The recipe; settings by --config.KEY=VALUE."
        config_flags.DEFINE_config_file("config", str(CONFIGS / "glyphs.py"), text, flag_values=FLAGS, sys_argv=argv)
        rest = FLAGS(argv)
        name = config_flags.get_config_filename(FLAGS["config"])
        config = FLAGS.config.copy_and_resolve_references() if Path(name).is_file() else None
    except AttributeError as error:  # how ml_collections reports a key that the recipe lacks
        raise BadInput(f"--config: no such setting {error}; mmn_jax/config.py lists them all") from error
    except Exception as error:  # a recipe is Python and may fail in any way
        raise BadInput(f"--config: {str(error).strip().splitlines()[-1]}") from error
    if config is None:
        raise BadInput(f"--config={name}: no such file; recipes are in {CONFIGS}")
    if len(rest) > 1:
        raise BadInput(f"{rest[1]}: not a flag; settings are given as --config.KEY=VALUE")
    return config, FLAGS.stage, Path(FLAGS.workdir or Path("runs") / Path(name).stem)


def show(config, stage, workdir):
    """Runs the stage and prints what it gave."""
    mesh.join(FLAGS.coordinator, FLAGS.processes, FLAGS.process)
    compiling, terminal = mesh.compile_clock(), make_terminal(mesh.first_process())
    with artifacts.occupied(workdir) as workdir:
        seeds = pipeline.run_seeds(config, workdir, terminal, stage)
        if seeds:
            table = results.collect(seeds, config)
            results.write(workdir, table, seeds)
            terminal.say(f"\n{table['dataset']}: mean per-class test accuracy in percent, seeds {table['seeds']}\n{results.as_text(table)}")
        terminal.say(f"{compiling():.0f} s went into compiling")
        terminal.say(f"artefacts{', results.json and classifier.npz' if seeds else ''}: {workdir}")
        if stage in ("report", "all"):
            terminal.say(f"report: {report.write(workdir)}")


def main(argv):
    mesh.keep_programs()
    if {"-h", "-help", "--help", "--help=true"} & set(argv):
        print(f"{__doc__}\n{FLAGS.get_help()}")
        return 0
    return exit_code(lambda: show(*parse(argv)), "interrupted; finished artefacts are saved, the same command goes on from there")


if __name__ == "__main__":
    stop_on_signals()
    sys.exit(main(sys.argv))
