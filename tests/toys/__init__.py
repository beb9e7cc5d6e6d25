"""Toys: one of each kind that can be named, each in a file of its own, as somebody's package or script would have it."""
