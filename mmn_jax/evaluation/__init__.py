"""Evaluation of logits: accuracy by class and by group of classes, calibration, bootstrap intervals, and class priors."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
