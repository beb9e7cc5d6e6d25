"""The plan: configuration, preconditions, trials, and what they are run on; all fixed before the first result."""
