"""Run: the trials of a plan, bank by bank."""
