"""The report of a run: its page, its figures and the model card of its classifier."""
