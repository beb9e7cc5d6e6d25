"""Conclude: what follows from the scores of a plan. Nothing here looks at a model, so anyone can conclude again."""
