"""Where claims come from: one heuristic per file, each giving a Claim; null.py draws what they are compared with."""

from locus.claims.claim import Claim
from locus.claims.given import given, is_heuristic

__all__ = ["Claim", "given", "is_heuristic"]
