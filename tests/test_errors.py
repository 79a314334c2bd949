"""Messages name arguments in the library, and what they are called by whoever calls it: flags on the command line."""

import pickle
import re

import numpy as np
import pytest
from conftest import ROOT

from mmn_jax.data import feature_files, longtail, manifest, synthetic
from mmn_jax.data.parquet_files import MissingColumn
from mmn_jax.errors import BadInput, renamed


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("rate: must be above 0", "--rate: must be above 0"),
        ("rate of a step: must be above 0", "rate of a step: must be above 0"),
        ("epochs: not with rate: 0", "epochs: not with rate: 0"),
        ("a: b: is missing", "--file=a: b: is missing"),
        ("tab\tname: is missing", "--file=tab: is missing"),
        ("no name", "no name"),
    ],
)
def test_the_name_before_the_first_colon_is_replaced_and_nothing_else(message, expected):
    with pytest.raises(BadInput) as caught, renamed({"rate": "--rate", "a: b": "--file=a: b", "tab\tname": "--file=tab"}):
        raise BadInput(message)
    assert str(caught.value) == expected


def test_other_errors_pass_and_a_subclass_that_isnt_renamed_stays_one():
    with pytest.raises(KeyError), renamed({"rate": "--rate"}):
        raise KeyError("rate: ")
    with pytest.raises(MissingColumn, match=r"name it by columns\.label, or rename it$") as caught, renamed({"rate": "--rate"}):
        raise MissingColumn("a.parquet: column y is missing", "label")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.role) == (MissingColumn, str(caught.value), "label")


def made():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 6)
    return feature_files.from_arrays(rng.normal(size=(18, 2)), y, rng.normal(size=(18, 2)), y)


CASES = {
    "imbalance: must be a positive number, it is -1": lambda path: longtail.long_tail_split(made(), 0, imbalance=-1),
    "max_per_class: must be at least 1, it is 0": lambda path: longtail.long_tail_split(made(), 0, max_per_class=0),
    "val_per_class: must be at least 1 where there is no val_x, it is 0": lambda path: longtail.long_tail_split(made(), 0, val_per_class=0),
    "PATH: cannot be read as text": lambda path: longtail.read_indices(path, made()),
    "PATH: cannot be read (No such file or directory)": lambda path: manifest.read(path, made()),
    "name: needs classes from 2, dim and test_per_class from 1, largest >= median >= least >= 1, scatter above 0": lambda path: (
        synthetic.make("name", 2, 1, 1, 2, 1)
    ),
}


@pytest.mark.parametrize("message", CASES)
def test_functions_of_the_library_name_their_arguments(tmp_path, message):
    with pytest.raises(BadInput) as caught:
        CASES[message](tmp_path / "file")
    assert str(caught.value) == message.replace("PATH", str(tmp_path / "file"))


def test_no_flag_is_named_in_the_library():
    text = "".join(path.read_text() for path in (ROOT / "mmn_jax" / "data").glob("*.py"))
    assert text and not re.search(r"--[a-z]", text)
