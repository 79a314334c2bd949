"""Says which methods a run fits: those of its stage, or those that the setting `methods` names."""

from ml_collections import ConfigDict

from mmn_jax.errors import BadInput, did_you_mean
from mmn_jax.methods import baselines, informed_rivals, metamodelnet, mmn, rivals
from mmn_jax.methods.contract import Method, linear_logits
from mmn_jax.types import Knowledge

FIRST_RIVAL = "logit_adjustment"  # in the first table, too: the simple method that a reader would use otherwise
GIVEN_BY = {"descriptions": "class_embeddings or names of the classes", "unlabelled": "unlabelled_x"}  # fields of `Knowledge`
ON_REQUEST = ("mmn_rows",)  # fitted only where `methods` names them
REPORTED = ("plain", "metamodelnet", "mmn")  # the report shows their rows


def _known(config: ConfigDict) -> dict[str, dict[str, Method]]:
    """Returns all methods by name, by the first stage that fits them."""
    grid = config.heads.l2
    return {
        "heads": baselines.methods(grid),
        "meta": metamodelnet.methods(grid) | mmn.methods(grid) | {FIRST_RIVAL: rivals.methods(grid)[FIRST_RIVAL]},
        "eval": {name: one for name, one in rivals.methods(grid).items() if name != FIRST_RIVAL} | informed_rivals.methods(grid),
    }


def with_what_they_need(config: ConfigDict, chosen: dict[str, Method], knowledge: Knowledge, same_space: bool) -> dict[str, Method]:
    """Returns the methods that have what they need of the data set.

    Args:
      config: the settings.
      chosen: the methods.
      knowledge: what is known of the classes.
      same_space: whether the descriptions may lie in the space of the features.

    Raises:
      BadInput: `methods` names one that hasn't.
    """
    for name, method in chosen.items():
        missing = [GIVEN_BY[need] for need in method.missing(knowledge)]
        if missing and config.methods:
            raise BadInput(f"--config.methods: {name} needs {' and '.join(missing)}; add that to the features, or leave {name} out")
        if method.same_space and not same_space and config.methods:
            raise BadInput(f"--config.methods: {name} needs class_embeddings with as many dimensions as the features; leave {name} out")
    return {name: one for name, one in chosen.items() if one.applies(knowledge) and (same_space or not one.same_space)}


def selected(config: ConfigDict, last: str) -> dict[str, Method]:
    """Returns the methods that a run fits, in the order of the table.

    Args:
      config: the settings.
      last: the last stage of the run.

    Raises:
      BadInput: `methods` names one that doesn't exist, or leaves out what the stage can't do without.
    """
    known, stages = _known(config), {"heads": ("heads",), "kshot": ("heads",), "meta": ("heads", "meta")}
    every = {name: method for methods in known.values() for name, method in methods.items()}
    asked = [name.strip() for names in config.methods for name in names.split(",")]
    if not asked:
        return {name: method for stage in stages.get(last, known) for name, method in known[stage].items() if name not in ON_REQUEST}
    for name in asked:
        if name not in every:
            raise BadInput(
                f"--config.methods: {name or 'an empty name'} is no method{did_you_mean(name, every)}; there are {', '.join(every)}"
            )
    if not any(every[name].logits is linear_logits for name in asked):
        raise BadInput(f"--config.methods: {', '.join(asked)} has no rows for classifier.npz to hold; add another, such as mmn")
    missing = [name for name in REPORTED if name not in asked]
    if last in ("report", "all") and missing:
        raise BadInput(f"--config.methods: the report shows {', '.join(REPORTED)}; add {', '.join(missing)}, or run --stage=eval")
    return {name: every[name] for name in every if name in asked}
