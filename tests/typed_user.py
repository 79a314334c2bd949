# mypy: warn-unused-ignores
"""What a type checker tells users of mmn_jax: where one of these mistakes is no error for mypy, test_static.py fails."""

import mmn_jax
from mmn_jax import fit_bank

misspelt = mmn_jax.fit_banks  # type: ignore[attr-defined]
not_public = mmn_jax.methods.partial  # type: ignore[attr-defined]
ladder: tuple[int, ...] = mmn_jax.shot_ladder(counts="a")  # type: ignore[arg-type]
bank: mmn_jax.Bank = fit_bank(0, [], [], 1)  # type: ignore[arg-type]
