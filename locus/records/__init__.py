"""Records: what is written down of a run, and how it is read again."""
