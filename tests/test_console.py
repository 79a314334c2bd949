"""The console script: the same functions as the commands behind it, and nothing loaded before it is needed."""

import json
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import ROOT

from mmn_jax import __version__
from mmn_jax.cli import main, run
from mmn_jax.errors import BadInput
from mmn_jax.pipeline import stages
from mmn_jax.store.terminal import make_terminal

QUIET = make_terminal(False)


def test_it_tells_its_version(capsys):
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"mmn-jax {__version__}\n"


def test_the_script_is_declared():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["mmn-jax"].partition(":")
    assert getattr(import_module(module), name) is main.script


def test_help_and_predictions_load_no_jax(tmp_path):
    model = {"W": np.eye(3, dtype=np.float32), "b": np.zeros(3), "class_names": np.array(["a", "b", "c"])}
    np.savez(tmp_path / "classifier.npz", **model, mean=np.zeros(3), scale=np.ones(3), temperature=np.float32(1))
    np.save(tmp_path / "x.npy", np.eye(3)[[2, 0]])
    script = (
        "import sys\nfrom mmn_jax.cli import main\nassert main.main(['--help']) == 0\nassert 'numpy' not in sys.modules\n"
        f"assert main.main(['predict', '--model={tmp_path}', '--features={tmp_path / 'x.npy'}']) == 0\nassert 'jax' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(main.USAGE) and [line.split(",")[1] for line in done.stdout.splitlines()[-2:]] == ["c", "a"]


def test_help_names_every_command(capsys):
    assert main.main([]) == 0
    text = capsys.readouterr().out
    assert all(f"  mmn-jax {command} " in text for command in ("run", "fit", "predict", "diagnose", "export", "report"))


@pytest.mark.parametrize("command", ["run", "report", "fit", "predict", "diagnose", "export"])
def test_bad_input_is_one_line_and_exit_code_2(capsys, command):
    assert main.main([command, "--nope=1"]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1 and error.strip()


def test_a_command_that_is_none(capsys):
    assert main.main(["fly"]) == 2
    assert capsys.readouterr().err == "fly: no such command; mmn-jax --help lists them\n"


def test_report_is_the_last_stage_of_a_run(monkeypatch):
    seen = []
    monkeypatch.setattr(run, "main", lambda argv: seen.append(argv) or 0)
    assert main.main(["report", "--workdir=a"]) == main.main(["run", "--workdir=a"]) == 0
    assert seen == [["mmn-jax report", "--workdir=a", "--stage=report"], ["mmn-jax run", "--workdir=a"]]


def test_the_default_recipe_is_the_one_in_configs():
    config, flags, workdir = run.parse(["run"])
    same, _, beside = run.parse(["run", f"--config={ROOT / 'configs' / 'glyphs.py'}"])
    assert config == same and workdir == beside == Path("runs/glyphs") and flags.stage == "meta"
    changed = run.parse(["run", "--config.seeds=0,1", "--config.data.licence=CC0"])[0]
    assert changed.seeds == (0, 1) and changed.data.licence == "CC0"


def test_data_without_a_recipe_keep_their_counts_and_name_the_workdir(feature_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, _, workdir = run.parse(["run", "--stage=split", f"--config.data.path={feature_file}"])
    assert workdir == Path("runs") / feature_file.stem
    with jax.numpy_dtype_promotion("standard"):
        stages.run_seeds(config, workdir, QUIET, "split")
    manifest = json.loads((workdir / "seed-0" / "split.json").read_text())
    assert set(manifest["counts"]) == {60 - 20} and manifest["rule"]["imbalance"] is None


def test_a_folder_of_data_names_the_workdir_in_full(tmp_path):
    (tmp_path / "v1.2").mkdir()
    assert run.parse(["run", f"--config.data.path={tmp_path / 'v1.2'}"])[2] == Path("runs/v1.2")


def test_the_embedded_default_is_cut_to_its_own_tail(tmp_path):
    config, _, _ = run.parse(["run", "--config.data.longtail.max_per_class=50"])
    with jax.numpy_dtype_promotion("standard"):
        stages.run_seeds(config, tmp_path, QUIET, "split")
    manifest = json.loads((tmp_path / "seed-0" / "split.json").read_text())
    assert manifest["rule"]["imbalance"] == 100.0 and max(manifest["counts"]) == 50 and min(manifest["counts"]) == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("config.meta.stpes = 4", "stpes"),
        ("assert False", "AssertionError()"),
        ("import numpy as np; np.nothing_here", "nothing_here"),
    ],
)
def test_a_recipe_that_fails_is_one_line(tmp_path, line, expected):
    recipe = tmp_path / "mine.py"
    recipe.write_text(f"from mmn_jax.config import default\n\ndef get_config():\n    config = default()\n    {line}\n    return config\n")
    with pytest.raises(BadInput) as caught:
        run.parse(["run", f"--config={recipe}"])
    assert expected in str(caught.value) and "\n" not in str(caught.value)
