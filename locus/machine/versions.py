"""Versions of what computes the numbers: of the packages, and of this one's own source."""

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from locus import __version__

PACKAGES = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "safetensors")


def versions() -> dict[str, str]:
    """Versions of what computed the numbers."""
    known = {"locus": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            known[package] = "absent"
    return known


@cache
def source() -> str:
    """A hash of this package's own source, by which two copies of one version are told apart."""
    digest, package = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]
