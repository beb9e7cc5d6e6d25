"""Sites: where an edit may act."""

from locus.sites.site import Location, Site

__all__ = ["Location", "Site"]
