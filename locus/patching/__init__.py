"""Activation patching: corruptions x metrics x sites, with effects kept by example and detection against a null."""
