"""Every method by its name: the paper's baselines, the rivals of later years, and `mmn`. metamodelnet, which learns from banks, is not one
of them (`metamodelnet.py`)."""

from mmn_jax import mmn, rivals
from mmn_jax.methods import Method


def every_method(grid: tuple[float, ...]) -> dict[str, Method]:
    """All of them, ridges searched over `grid`."""
    return {**rivals.methods(grid), "mmn": mmn.method(mmn.default_members(grid), grid)}


def of_kind(kind: str, grid: tuple[float, ...]) -> dict[str, Method]:
    """Those of one kind: "paper" (its baselines), "rival" or "ours"."""
    return {name: method for name, method in every_method(grid).items() if method.kind == kind}
