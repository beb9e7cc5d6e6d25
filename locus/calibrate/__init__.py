"""Calibrate: many audits of models whose truth is known, counted; and what an audit of a given size can find."""
