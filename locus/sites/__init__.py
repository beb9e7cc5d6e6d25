"""Sites: where an edit may act. One kind a file; the flow asks a kind's space and never which kind it is."""

from locus.sites.kind import SiteKind, kind_of, kinds
from locus.sites.site import Location, Site
from locus.sites.space import Match, SiteSpace, space_of

__all__ = ["Location", "Match", "Site", "SiteKind", "SiteSpace", "kind_of", "kinds", "space_of"]
