"""Flags to pipeline: python bin/run.py --stage=meta [--config=configs/NAME.py] [--workdir=DIR]."""

import os
import signal
import sys
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags
from tqdm import tqdm

from mmn_jax import artifacts, pipeline, report, results
from mmn_jax.types import BadInput

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FLAGS = flags.FLAGS
flags.DEFINE_bool("help", False, "This text.")
flags.DEFINE_enum("stage", "meta", pipeline.STAGES, "What to run, after what it needs; meta also prints the table.")
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
    workdir = artifacts.writable_directory(workdir)
    terminal = pipeline.Terminal(lambda line: print(line, flush=True), lambda items, name: tqdm(items, name, leave=False, disable=None))
    seeds = pipeline.run_seeds(config, workdir, terminal, stage)
    if seeds:
        table = results.collect(seeds, config)
        results.write(workdir, table, seeds)
        print(f"\n{table['dataset']}: mean per-class test accuracy in percent, seeds {table['seeds']}\n{results.as_text(table)}")
    print(f"artefacts{', results.json and classifier.npz' if seeds else ''}: {workdir}")
    if stage in ("report", "all"):
        print(f"report: {report.write(workdir)}")


def main(argv):
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C
    if jax.config.jax_compilation_cache_dir is None:  # compiled programs are kept between runs
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmn_jax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    try:
        if {"-h", "-help", "--help", "--help=true"} & set(argv):
            print(f"{__doc__}\n{FLAGS.main_module_help()}")
        else:
            show(*parse(argv))
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; finished artefacts are saved, the same command goes on from there", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
