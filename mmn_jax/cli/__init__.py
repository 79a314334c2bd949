"""The application: one module for each command, and `main`, which runs the one that is asked for."""
