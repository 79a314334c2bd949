"""Linear softmax heads: the convex problem, its solvers, the ways of weighting examples, and the Gaussian model of classes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
