"""MetaModelNet in JAX: long-tailed recognition over frozen features.

A functional core (`heads`, `kshot`, `regressor`, `stagewise`, `transfer`) from arrays to
arrays, and `pipeline`, which runs it on a data set.
"""

__version__ = "0.1.0"
