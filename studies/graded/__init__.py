"""Audits of graded planted models."""
