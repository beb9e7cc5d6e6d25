"""Judges: how probable is it that an answer is true, and that it is informative?"""
