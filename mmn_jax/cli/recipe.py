"""Loads a recipe, a Python file with get_config(), and reports what is wrong with it in one line."""

import importlib.machinery
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from ml_collections import ConfigDict
from ml_collections.config_dict import config_dict

from mmn_jax.config import FUNCTIONS, SETTINGS
from mmn_jax.errors import BadInput, did_you_mean


def load_recipe(path: str, recipes: Path | None) -> ConfigDict:
    """Runs a recipe and returns its config.

    Args:
      path: of the recipe.
      recipes: a folder that the message for a missing recipe points to.

    Raises:
      BadInput: there is no such file or function, it fails, or it returns something else.
    """
    if not Path(path).is_file():
        where = f"recipes are in {recipes}" if recipes else "a recipe is a Python file with get_config()"
        raise BadInput(f"--config={path}: no such file; {where}")
    loader = importlib.machinery.SourceFileLoader("mmn_jax_recipe", path)
    spec = importlib.util.spec_from_file_location(loader.name, path, loader=loader)
    assert spec is not None  # as the loader is given
    module = sys.modules[loader.name] = importlib.util.module_from_spec(spec)
    try:
        loader.exec_module(module)
        make = getattr(module, "get_config", None)
        config = make() if make else None
    except Exception as error:  # a recipe is Python and may fail in any way
        raise BadInput(_why_recipe_failed(error, path)) from error
    if make is None:
        raise BadInput(f"--config={path}: has no function get_config()")
    if not isinstance(config, ConfigDict):
        raise BadInput(f"--config={path}: get_config() must return mmn_jax.config.default(), changed as needed")
    return config


def _why_recipe_failed(error: Exception, path: str) -> str:
    """Returns the message for an exception that a recipe raised, with the recipe's line."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    place = f"--config={path}: line {lines[-1]}" if lines else f"--config={path}"
    if isinstance(error, (AttributeError, KeyError)) and frames[-1].filename == config_dict.__file__:
        # ml_collections has no exception of its own for an unknown key: it is a KeyError, or an AttributeError of one, whose text alone
        # holds the key
        unknown = re.match(r"""['"\\]+(?:Key ")?(\w+)""", str(error))
        if unknown:
            names = {part: None for setting in SETTINGS for part in setting.key.split(".")}
            return _no_such_setting(f"{place}: {unknown[1]}", unknown[1], names)
    text = str(error).strip().partition("\n")[0] or repr(error)
    return f"{place}: {text}" if isinstance(error, SyntaxError) or not str(error) else f"{place}: {type(error).__name__}: {text}"


def _no_such_setting(where: str, name: str, names: Iterable[str]) -> str:
    """Returns the message for a setting that isn't among these names."""
    return f"{where}: no such setting{did_you_mean(name, names)}; --help and docs/config.md list them all"


def check_keys(argv: list[str], config: ConfigDict) -> None:
    """Checks the keys of the flags --config.KEY.

    Args:
      argv: the command line.
      config: the recipe's, before these flags are applied.

    Raises:
      BadInput: the config lacks a key, or its value has to be a function.
    """
    for word in argv[1:]:
        flag = word.partition("=")[0]
        if word.startswith("-") and flag.lstrip("-").startswith(("config.", "noconfig.")):
            place = config
            for part in flag.split(".")[1:]:
                if not isinstance(place, ConfigDict) or part not in place:
                    raise BadInput(_no_such_setting(flag, part, place if isinstance(place, ConfigDict) else ()))
                place = place[part]
            if flag.partition(".")[2] in FUNCTIONS:
                raise BadInput(f"{flag}: must be a function, given in the recipe")
