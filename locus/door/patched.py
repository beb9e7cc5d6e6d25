"""A patching run as an object: its claim, and its components as a data frame."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from locus.claims.claim import Claim
from locus.records.base import JsonObject
from locus.records.patch import MapSetting, PatchRecord

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Patched:
    """What activation patching found.

    Attributes:
        folder: of the run, for `--claim patch:DIR`.
        record: what it measured, typed.
    """

    folder: Path
    record: PatchRecord

    @cached_property
    def document(self) -> JsonObject:
        """All of patch.json."""
        return self.record.to_json()

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
            {**{name: getattr(one, name) for name in MapSetting.model_fields}, **component.to_json()}
            for one in self.record.maps
            for component in one.components
        ]
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        sentences = "\n".join(f"  {one}" for one in self.record.sentences)
        return f"Patching of {self.record.config['task']} in {self.folder}\n{sentences}".rstrip()
