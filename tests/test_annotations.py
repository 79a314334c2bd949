"""Public functions are annotated, and while the tests run, calls that break an annotation are errors (conftest.py)."""

import ast
import importlib
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import CHECKED, ROOT
from jaxtyping import TypeCheckError

from mmn_jax import rng
from mmn_jax.evaluation.metrics import per_class_accuracy, shot_groups
from mmn_jax.linear.algebra import row_products
from mmn_jax.linear.class_model import class_means
from mmn_jax.linear.coordinates import coordinates
from mmn_jax.linear.frame import featureframe
from mmn_jax.linear.problem import HeadProblem, padded
from mmn_jax.linear.rows import predict_logits
from mmn_jax.linear.solve import fit_head, fit_one
from mmn_jax.linear.weighting import inverse_frequency
from mmn_jax.machine import one_thread

X, Y = np.ones((6, 4), np.float32), np.zeros(6, np.int32)


def wrong_start():
    problem = HeadProblem(jnp.ones((6, 4)), jnp.asarray(Y), jnp.ones(6), jnp.zeros(3), jnp.float32(1.0))
    return fit_one(problem, jnp.zeros(5))


WRONG = {
    "an axis too few": lambda: predict_logits(np.ones((3, 5)), X[0]),
    "an axis too many": lambda: coordinates(np.ones((2, 2, 2), np.float32)),
    "axes of one name and two lengths": lambda: per_class_accuracy(X, Y[:5]),
    "floats for labels": lambda: class_means(X, X[:, 0], 1),
    "a float for an int": lambda: shot_groups(np.array([1, 2]), 1.5, 2),
    "a key of the old kind": lambda: rng.uniform(jax.random.PRNGKey(0), 3),
    "in a context manager": lambda: one_thread("4"),
    "in a method": lambda: coordinates(np.ones(4, np.float32)).features(X[0]),
    "under jit": wrong_start,
    "under vmap": lambda: jax.vmap(row_products)(jnp.ones((2, 3, 4)), jnp.ones((2, 3, 5))),
    "what isn't a named tuple": lambda: featureframe((X, Y)),
    "a list for an array": lambda: fit_head(HeadProblem(X, Y, X[:, 0], X[0], 1.0), [0.0]),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_a_call_that_breaks_an_annotation_is_an_error(call):
    with pytest.raises(TypeCheckError, match="Type-check error whilst checking the parameters of mmn_jax"):
        call()


def test_an_int_stands_for_a_float_and_numbers_of_numpy_for_python_s():
    for power in (1, np.float32(1), np.int64(1)):
        np.testing.assert_array_equal(inverse_frequency(power)(rng.stream(0), Y, np.array([6])).weight, np.ones(6))
    assert padded(np.int64(1)) == 128


def functions(path):
    """Yields the public functions of a module and of its public classes, and the annotations of each."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module) or (isinstance(node, ast.ClassDef) and not node.name.startswith("_")):
            for one in node.body:
                if isinstance(one, ast.FunctionDef) and not one.name.startswith("_"):
                    args = [arg for arg in (*one.args.posonlyargs, *one.args.args, *one.args.kwonlyargs) if arg.arg != "self"]
                    yield one.name, [arg.annotation for arg in args] + [one.returns]


def files(package):
    found = Path(importlib.import_module(package).__file__)
    return found.parent.rglob("*.py") if found.name == "__init__.py" else [found]


@pytest.mark.parametrize("package", CHECKED)
def test_public_functions_say_which_arrays_they_take_and_return(package):
    for path in files(package):
        for name, annotations in functions(path):
            place = f"{path.relative_to(ROOT)}: {name}"
            assert all(annotations), f"{place} lacks an annotation"
            for text in map(ast.unparse, annotations):
                bare = re.sub(r"\w+\[[\w. |]+, '[^']*'\]|(dict|Mapping)\[str, np\.ndarray\]", "", text)  # named arrays have any shape
                assert not re.search(r"rray\b", bare), f"{place}: {text} doesn't say which shape"
