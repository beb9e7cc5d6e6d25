"""Which importer reads a source: the one that is named, or the only one that recognises it; None where none does."""

from dataclasses import replace

from locus import registry
from locus.claims.importers.importer import Importer
from locus.claims.importers.source import Source
from locus.claims.published import Published, renamed
from locus.errors import UserError

NAME_IT = "Name the importer: NAME:PATH. `locus list importers` shows them."


def get(name: str) -> Importer:
    """An importer by name.

    Raises:
        UserError: if there is none of the name, suggesting the nearest.
    """
    return registry.one_of("importers", name, Importer)


def fitting(source: Source) -> Importer | None:
    """The importer whose shape a source has; None where no importer knows it.

    Raises:
        UserError: if several know it.
    """
    known = [one for one in map(get, registry.entries("importers")) if one.recognises(source)]
    if len(known) > 1:
        names = " and ".join(one.name for one in known)
        raise UserError("a claim that one importer knows", f"{str(source.path)!r}, of the shape of {names}", NAME_IT)
    return known[0] if known else None


def read(importer: Importer, source: Source) -> Published:
    """What a source says, by an importer.

    Raises:
        UserError: if it is of another shape, or wrong.
    """
    expected = f"{importer.name}: {importer.expected}"
    if not importer.recognises(source):
        raise UserError(expected, f"{str(source.path)!r}, of another shape", "Choose the importer of this shape.")
    try:
        found = importer.read(source)
    except ValueError as error:
        raise UserError(expected, f"{str(source.path)!r}: {str(error)[:300]}", "Mend the file.") from error
    return replace(renamed(found, source.path.stem or source.path.resolve().name), importer=importer.name)
