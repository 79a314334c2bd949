"""One direction of imports: each layer imports from those above it in `LAYERS`, and the library knows nothing of the application."""

import ast
import importlib
import subprocess
import sys

import pytest
from conftest import ROOT

LIBRARY = [
    "errors",
    "types",
    "defaults",
    "rng",
    "machine",
    "devices",
    "data",
    "linear",
    "evaluation",
    "metamodelnet",
    "methods",
    "contrib",
    "estimator",
]
APPLICATION = ["config", "store", "vision", "pipeline", "report", "cli", "predict"]
LAYERS = [*LIBRARY, *APPLICATION]
FORBIDDEN = {"orbax", "ml_collections", "absl", "tqdm", "matplotlib", "tensorboardX", "argparse"}  # in the library
PACKAGE = ROOT / "mmn_jax"


def names(path):
    """The dotted name of a module inside mmn_jax, and its layer."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__"), parts[0]


MODULES = {names(path)[0]: path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"}


def imported(tree):
    """The full names of everything that a module imports, inside functions, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def faults(source, layer):
    """What the text of a module in this layer must not do."""
    tree, found = ast.parse(source), []
    for name in imported(tree):
        top, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if top == "mmn_jax" and other in LAYERS and LAYERS.index(other) > LAYERS.index(layer):
            found.append(f"imports {name}")
        if layer in LIBRARY and top in FORBIDDEN:
            found.append(f"imports {name}")
    if layer in LIBRARY:
        texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        found += [f"speaks of {word}" for word in ("--config", "--workdir", "--stage", "workdir") for text in texts if word in text]
    return found


def test_every_module_has_its_layer():
    assert {names(path)[1].removesuffix(".py") for path in MODULES.values()} == set(LAYERS)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name):
    assert not faults(MODULES[name].read_text(), name.partition(".")[0])


@pytest.mark.parametrize(
    ("layer", "source", "fault"),
    [
        ("linear", "from mmn_jax.methods.tasks import Task", "imports mmn_jax.methods.tasks.Task"),
        ("methods", "def f():\n    from mmn_jax.store import artifacts", "imports mmn_jax.store.artifacts"),
        ("metamodelnet", "import orbax.checkpoint as ocp", "imports orbax.checkpoint"),
        ("estimator", "from tqdm import tqdm", "imports tqdm.tqdm"),
        ("data", "raise ValueError('--config.data.path: no such file')", "speaks of --config"),
        ("store", "from mmn_jax.cli.command import Parser", "imports mmn_jax.cli.command.Parser"),
    ],
)
def test_a_forbidden_import_is_found(layer, source, fault):
    assert faults(source, layer) == [fault]


def test_the_package_alone_loads_nothing_heavy_and_lists_its_names():
    script = (
        "import sys, time; began = time.perf_counter(); import mmn_jax; took = time.perf_counter() - began\n"
        "assert not {'jax', 'numpy', 'sklearn', 'flax'} & set(sys.modules), 'heavy'\n"
        "assert {'TailClassifier', 'fit_head', 'fit_bank', 'fit_metamodelnet', 'transfer_rows', 'weighting'} <= set(dir(mmn_jax))\n"
        "print(took)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "package", ["mmn_jax", "mmn_jax.linear", "mmn_jax.evaluation", "mmn_jax.data", "mmn_jax.methods", "mmn_jax.contrib"]
)
def test_every_public_name_exists_and_is_documented(package):
    module = importlib.import_module(package)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name).__doc__, f"{package}.{name}"
