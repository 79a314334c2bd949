"""Methods of long-tailed classification behind one contract: the paper's baselines, rivals, and `mmn`."""
