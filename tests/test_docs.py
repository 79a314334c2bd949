"""What the README promises exists: its commands, files, recipes and settings."""

import functools
import importlib.util
import re
import subprocess
from pathlib import Path

import jax
import numpy as np
from conftest import blobs

from mmn_jax.config import default
from mmn_jax.types import Examples

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_ci_runs_the_readme_s_own_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in script and "pytest" not in script
    extracted = subprocess.run(
        ["awk", "/<!-- test -->/ {found = 1; next} found && /^```/ {if (inside) exit; inside = 1; next} inside", str(ROOT / "README.md")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "venv" in extracted and "pip install" in extracted and "pytest" in extracted


def test_every_setting_named_in_the_docs_exists():
    settings = default()
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "configs").glob("*.py")):
        for key in re.findall(r"--config\.([a-z0-9_.]+)=", page.read_text()):
            value = settings
            for part in key.split("."):
                assert part in value, f"{page.name} names --config.{key}"
                value = value[part]


def test_every_file_named_in_the_readme_exists():
    for name in re.findall(r"`((?:mmn_jax|configs|bin|tests|docs)/[\w./]*)`", README):
        assert (ROOT / name).exists(), name


def test_nothing_is_left_to_fill_in():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        assert not re.search(r"@@|TODO|<!-- \w+ -->\n<!-- end -->", page.read_text()), page


def test_every_module_says_what_it_is_for():
    for path in (*(ROOT / "mmn_jax").rglob("*.py"), *(ROOT / "configs").glob("*.py")):
        assert path.read_text().lstrip().startswith('"""'), path


@functools.cache
def leaderboard():
    spec = importlib.util.spec_from_file_location("leaderboard", ROOT / "benchmarks" / "leaderboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_classifier_of_the_readme_fits_predicts_and_grows():
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    x, y = blobs(0, [30, 20, 10, 5, 3, 2], 6, spread=1.5)
    names = {"X": x[y < 5], "y": np.array(list("abcde"))[y[y < 5]], "X_new": x, "X_few": x[y == 5]}
    exec(block, names)
    assert names["probabilities"].shape == (len(x), 5) and set(names["labels"]) <= set("abcde")
    assert "okapi" in names["model"].set_params(prior="uniform").predict(x[y == 5])


def test_tables_go_between_their_markers_and_nowhere_else():
    page = "a\n<!-- x -->\nold\n<!-- end -->\nb\n<!-- y -->\nkept\n<!-- end -->\n"
    assert leaderboard().fill(page, "x", "new") == page.replace("old", "\nnew\n")
    for name in ("glyphs", "clinc150", "cifar100", "folds"):
        assert f"<!-- {name} -->\n" in (ROOT / "docs" / "leaderboard.md").read_text()


def test_the_loss_by_folds_is_over_the_seeds_that_both_runs_have():
    def table(seeds, accuracies):
        return {"seeds": seeds, "methods": {"plain": {"accuracy_per_seed": accuracies}}}

    lines = leaderboard().loss_by_folds(table([0, 1, 2], [50.0, 60.0, 90.0]), table([1, 0], [58.0, 48.0])).splitlines()
    assert lines[-1] == "| plain | 55.0 | 53.0 | -2.0 |" and "[1, 0]" in lines[0]


def test_the_regressor_of_the_docs_trains_and_moves_rows():
    page = (ROOT / "docs" / "extend_the_regressor.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    assert len(blocks[0].strip().splitlines()) <= 20
    train = Examples(*blobs(0, [40] * 8 + [12] * 8 + [3] * 4, 6, spread=2.0))
    names = {"train": train, "theta": np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32)}
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam itself mixes dtypes
        exec("\n".join(blocks), names)
    assert names["moved"].shape == (20, 7) and np.isfinite(names["moved"]).all()
    assert np.abs(names["variables"]["params"]["pull"]).max() > 0 or np.array_equal(names["moved"], names["theta"])
