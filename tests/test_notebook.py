"""The notebook: its cells are sound, and, slow, it runs from top to bottom on a small default."""

import ast
import os
from pathlib import Path

import jax
import nbformat
import numpy as np
import pytest
from commands import STRICT
from conftest import blobs
from nbclient import NotebookClient

from mmn_jax.cli import run
from mmn_jax.estimator import TailClassifier

PATH = Path(__file__).resolve().parents[1] / "examples" / "colab.ipynb"
SMALL = [
    "--config.data.source=synthetic", "--config.data.synthetic.classes=20", "--config.data.synthetic.dim=10",
    "--config.data.synthetic.largest=40", "--config.data.synthetic.median=8", "--config.data.synthetic.test_per_class=5",
    "--config.heads.l2=1e-3,1e-4", "--config.kshot.subsets=4,3", "--config.kshot.top=1", "--config.meta.steps=20", "--config.meta.width=4",
    "--config.data.longtail.imbalance=20", "--config.data.longtail.max_per_class=40",
]  # fmt: skip


def read():
    return nbformat.read(PATH, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters(notebook):
    (cell,) = (cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", []))
    return cell


def test_it_is_sound_and_holds_no_output():
    notebook = read()
    nbformat.validate(notebook)
    for cell in code_cells(notebook):
        ast.parse(cell.source)
        assert cell.outputs == [] and cell.execution_count is None


def test_the_cells_before_the_runs_do_no_harm_and_the_flags_are_real(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    first = code_cells(read())[:3]
    for cell in first:
        exec(cell.source, names)
    assert names["REPOSITORY"] == "" and names["jax"].devices()
    assert names["numpy_stays"]() == ["-c", "keep.txt"] and Path("keep.txt").read_text() == f"numpy=={np.__version__}\n"
    assert run.parse(["run", *names["DEFAULT_RUN"]])[1].stage == "meta"
    run.parse(["run", *SMALL])
    (own,) = (cell.source for cell in code_cells(read()) if "OWN_RUN = " in cell.source)
    exec("\n".join(line for line in own.splitlines() if line.startswith("OWN_RUN")), names)
    assert run.parse(["run", *names["OWN_RUN"]])[0].data.longtail.max_per_class == 100


def test_the_cell_with_a_regressor_trains_it(capsys):
    X, y = blobs(0, [60, 40, 30, 20, 12, 8, 6, 4, 2], 6, spread=2.0)
    names = {"jax": jax, "np": np, "TailClassifier": TailClassifier, "X": X, "y": y, "tail": np.arange(len(y))}
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam itself mixes dtypes
        exec(code_cells(read())[-1].source, names)
    assert names["moved"].shape == (9, 7) and np.isfinite(names["moved"]).all()
    assert "largest movement of a row" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the Jupyter packages
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch):
    for name in STRICT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PATH.parents[1]), os.environ.get("PYTHONPATH", "")]))
    notebook = read()
    parameters(notebook).source = f"REPOSITORY = ACCELERATOR = ''\nDEFAULT_RUN = {['--stage=meta', *SMALL]}\nFOLDER = 'runs'"
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": tmp_path}}).execute()
    shown = [output for cell in code_cells(notebook) for output in cell.outputs]
    text = "".join(output.get("text", "") or output.get("data", {}).get("text/markdown", "") for output in shown)
    for part in (
        "(cpu), JAX",
        "mmn_unlabelled 0.",
        "| mmn |",
        "index,label,probability,runner_up",
        "## Data",
        "with all ten",
        "largest movement",
    ):
        assert part in text or any(part in str(output) for output in shown), part
    assert (tmp_path / "runs" / "deployed" / "classifier.stablehlo").is_file()
