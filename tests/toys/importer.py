"""A toy importer: heads with stars, a line each, `9.6 ***`; a star is a point."""

from locus.claims.importers.importer import Importer
from locus.claims.published import Published


def read(source):
    """The stars of every head."""
    lines = [line.split() for line in source.bytes.decode().splitlines()]
    return Published(scores={head: float(len(stars)) for head, stars in lines})


IMPORTER = Importer("stars", "a head and its stars a line", lambda source: source.path.suffix == ".stars", read)
