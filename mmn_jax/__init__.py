"""MetaModelNet in JAX: long-tailed recognition over frozen features.

    from mmn_jax import TailClassifier                                      # arrays in, predictions out
    from mmn_jax import fit_bank, fit_metamodelnet, transfer_rows           # the paper's method as functions
    from mmn_jax import fit_head, HeadProblem                               # the solver alone

Names are loaded when they are first used: `import mmn_jax` by itself loads neither JAX nor scikit-learn. `__init__.pyi` lists them.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
