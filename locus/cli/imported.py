"""Files of the user's own that are imported before a command, so that it knows what they register.

Only who types this very command names them: no setting, plan, folder or variable of the environment can.
"""

import sys
from collections.abc import Sequence
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

from locus.errors import UserError, others

REMEDY = "Give a file of your own that registers something: locus --import FILE.py COMMAND (docs/extending.md)."


def import_files(paths: Sequence[Path]) -> None:
    """Run each file as a module of its own name, once.

    Raises:
        UserError: if it is no Python file, has the name of a module that is here already, or raises something.
    """
    for path in paths:
        name = path.stem
        if path.suffix != ".py" or not path.is_file():
            raise UserError("a Python file to import", repr(str(path)), REMEDY)
        taken = sys.modules.get(name) or find_spec(name)
        if (
            taken is not None
            and Path(str(getattr(taken, "origin", getattr(taken, "__file__", None)))).resolve() != path.resolve()
        ):
            raise UserError("a file that is not called as a module that is here already", repr(str(path)), "Rename it.")
        if name in sys.modules:
            continue
        spec = spec_from_file_location(name, path.resolve())
        if spec is None or spec.loader is None:
            raise UserError("a Python file to import", repr(str(path)), REMEDY)
        sys.modules[name] = module_from_spec(spec)
        with others("a Python file that can be imported", str(path), "Run it by itself to see where: python FILE."):
            spec.loader.exec_module(sys.modules[name])
