"""A patching run as an object: its claim, and its components as a data frame."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locus.claims.claim import Claim

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Patched:
    """What activation patching found.

    Attributes:
        folder: of the run, for `--claim patch:DIR`.
        document: all of patch.json.
    """

    folder: Path
    document: dict[str, Any]

    @cached_property
    def claim(self) -> Claim:
        """The heads that the first map finds, the strongest first.

        Raises:
            UserError: if it finds none.
        """
        from locus.claims.given import given

        return given(f"patch:{self.folder}")

    def components(self) -> "pandas.DataFrame":
        """Every component of every map: its setting, mean effect, p, and whether it counts as found."""
        import pandas

        rows = [
            {**{name: one.get(name) for name in ("tokens", "site", "width", "corruption", "metric")}, **component}
            for one in self.document["maps"]
            for component in one["components"]
        ]
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        sentences = self.document.get("sentences") or []
        said = "\n".join(f"  {one}" for one in sentences)
        return f"Patching of {self.document['config']['task']} in {self.folder}\n{said}".rstrip()
