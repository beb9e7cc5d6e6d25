"""Examples in docstrings as the reference shows them, with prompts: the code says `Example:`, the parser `Examples:`."""

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Call a section of examples as the parser of Google's docstrings does."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """griffe: an object was read, and its docstring not yet."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
