"""Claims that others published, one shape a file; `opening` says which importer reads what, `published` what comes of it."""
