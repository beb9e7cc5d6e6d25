"""The page and the figures of a patching run."""
