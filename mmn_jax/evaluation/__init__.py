"""Scores of predictions: accuracy, calibration, bootstrap intervals, and the prior of the labels."""
