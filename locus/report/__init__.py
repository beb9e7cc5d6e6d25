"""Something to look at: one page without scripts, figures for a paper, and how to cite what was used."""
