"""Every method by its name: the paper's baselines and MetaModelNet, the rivals of later years, and `mmn`."""

from mmn_jax.methods import baselines, informed_rivals, metamodelnet, mmn, rivals
from mmn_jax.methods.contract import Method


def every_method(grid: tuple[float, ...]) -> dict[str, Method]:
    """Returns all methods, their ridges searched over `grid`."""
    return baselines.methods(grid) | metamodelnet.methods(grid) | rivals.methods(grid) | informed_rivals.methods(grid) | mmn.methods(grid)
