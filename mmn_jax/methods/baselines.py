"""The paper's baselines: one head, its examples weighted in four ways (Wang et al. 2017, section 4; `linear/weighting.py`)."""

from mmn_jax.linear import weighting
from mmn_jax.methods.contract import Method
from mmn_jax.methods.head_methods import head_axes, solved


def methods(grid: tuple[float, ...]) -> dict[str, Method]:
    """Returns the four baselines by name, their ridges searched over `grid`."""
    rules = {
        "plain": weighting.plain,
        "over_sampling": weighting.over_sampling,
        "under_sampling": weighting.under_sampling,
        "cost_sensitive": weighting.cost_sensitive,
    }
    return {name: Method("paper", head_axes(grid), solved(lambda rule=rule: rule)) for name, rule in rules.items()}
