"""A public table of audits: rows that anybody can verify, statistics over all of them, and a page without a server."""
