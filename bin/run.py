"""Flags to pipeline: python bin/run.py --stage=meta [--config=configs/NAME.py] [--workdir=DIR]."""

import signal
import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags
from tqdm import tqdm

from mmn_jax import artifacts, pipeline, report, results
from mmn_jax.types import BadInput

ROOT = Path(__file__).resolve().parents[1]
STAGES = (*pipeline.STAGES, "all")

flags.DEFINE_enum("stage", "meta", STAGES, "The stage to run, with what comes before it where it is missing; meta also prints the table.")
flags.DEFINE_string("workdir", "", "Where artefacts and results go (default: runs/NAME of the config).")


def parse(argv):
    """Config, stage and workdir, with every way they can be wrong turned into one line."""
    try:
        config_flags.DEFINE_config_file("config", str(ROOT / "configs" / "glyphs.py"), "The recipe; settings by --config.KEY=VALUE.")
        rest = flags.FLAGS(argv)
        name = config_flags.get_config_filename(flags.FLAGS["config"])
        if not Path(name).is_file():
            raise BadInput(f"--config={name}: no such file; recipes are in {ROOT / 'configs'}")
        config = flags.FLAGS.config.copy_and_resolve_references()
    except BadInput:
        raise
    except AttributeError as error:  # how ml_collections reports a key that the recipe lacks
        raise BadInput(f"--config: no such setting {error}; mmn_jax/config.py lists them all") from error
    except Exception as error:  # a recipe is Python and may fail in any way
        raise BadInput(f"--config: {' '.join(str(error).split())}") from error
    if len(rest) > 1:
        raise BadInput(f"{rest[1]}: not a flag; settings are given as --config.KEY=VALUE")
    return config, flags.FLAGS.stage, Path(flags.FLAGS.workdir or Path("runs") / Path(name).stem)


def show(config, stage, workdir):
    """Runs the stage and prints what it gave."""
    workdir = artifacts.writable_directory(workdir)
    terminal = pipeline.Terminal(
        say=lambda line: print(line, flush=True), track=lambda items, name: tqdm(items, desc=name, leave=False, disable=None)
    )
    seeds = pipeline.run_seeds(config, workdir, terminal, stage)
    if not seeds:
        print(f"artefacts: {workdir}")
        return
    table = results.collect(seeds, config)
    results.write(workdir, table, seeds[0])
    print(f"\n{table['dataset']}: mean per-class test accuracy in percent, seeds {table['seeds']}\n{results.as_text(table)}")
    print(f"artefacts, results.json and classifier.npz: {workdir}")
    if stage in ("report", "all"):
        print(f"report: {report.write(workdir)}")


def stop(signum, frame):
    raise KeyboardInterrupt


def main(argv):
    signal.signal(signal.SIGTERM, stop)
    try:
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
