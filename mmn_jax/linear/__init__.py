"""Linear softmax heads: the convex problem, its solvers, the weightings of examples, and the Gaussian model of classes.

Annotations name axes by letters, here and in `mmn_jax.evaluation`: n examples, d dimensions of a feature, C classes, p = d + 1 numbers in a
row θ_c of a head (weights w_c, then the bias b_c), r coordinates that a solver works in, q = r + 1 coefficients of a row in them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
