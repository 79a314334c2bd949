"""Evaluation of logits: accuracy by class and by group of classes, calibration, bootstrap intervals, and class priors."""
