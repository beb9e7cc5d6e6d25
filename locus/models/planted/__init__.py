"""Models whose true location is known by construction: drawn from a seed, checked, saved and loaded like any other."""

from locus.models.planted.build import Planted, build
from locus.models.planted.certificate import certify
from locus.models.planted.folder import load_planted, save_planted
from locus.models.planted.graded import GRADED
from locus.models.planted.kinds import COMPACT, KINDS, KnownClaim

__all__ = ["COMPACT", "GRADED", "KINDS", "KnownClaim", "Planted", "build", "certify", "load_planted", "save_planted"]
