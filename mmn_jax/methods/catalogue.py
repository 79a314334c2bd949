"""Every method by its name: the paper's baselines, the rivals of later years, and `mmn`. metamodelnet, which learns from banks, is not one
of them (`pipeline/metamodelnet.py`)."""

from mmn_jax.methods import baselines, mmn, rivals
from mmn_jax.methods.contract import Method


def every_method(grid: tuple[float, ...]) -> dict[str, Method]:
    """All of them, ridges searched over `grid`."""
    return baselines.methods(grid) | rivals.methods(grid) | mmn.methods(grid)
