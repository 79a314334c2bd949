"""What a run keeps on disk and shows: artefacts, banks, logs, the classifier, the terminal."""
