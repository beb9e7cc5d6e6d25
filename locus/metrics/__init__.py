"""One measure per file; every measure is per item, so that all differences are paired by question."""
