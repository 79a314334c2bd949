"""Linear softmax heads: the convex problem, its solvers, the ways of weighting examples, and the Gaussian model of classes."""
