"""MetaModelNet in JAX: long-tailed recognition over frozen features.

A functional core (`heads`, `kshot`, `regressor`, `stagewise`, `transfer`) from arrays to
arrays, `pipeline`, which runs it on a data set, and `TailClassifier`, its scikit-learn face.
"""

__version__ = "0.1.0"


def __getattr__(name: str):
    if name != "TailClassifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mmn_jax.estimator import TailClassifier  # JAX and scikit-learn are loaded when it is asked for, not before

    return TailClassifier
