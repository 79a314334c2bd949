"""The stages of a run, from data to the table of results."""
