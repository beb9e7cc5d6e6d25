"""Models: found, checked, loaded whole, and their parts known by name."""
