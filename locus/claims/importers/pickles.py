"""pickle: what `torch.save`, `pickle` and `numpy.savez` write. A pickle runs code, so none is opened; the way around is said.

Source: the warning of https://docs.python.org/3/library/pickle.html.
"""

from locus.claims.importers.importer import Importer
from locus.claims.importers.source import Source
from locus.claims.published import Published
from locus.errors import UserError

RECIPES = {
    "torch": "python -c \"import numpy, torch; numpy.save('scores.npy', torch.load('FILE', weights_only=True).numpy())\"",
    "npz": "python -c \"import numpy; a = numpy.load('FILE'); numpy.save('scores.npy', a[a.files[0]])\"",
    "pickle": "python -c \"import json, pickle; json.dump(pickle.load(open('FILE', 'rb')), open('scores.json', 'w'))\"",
}


def _read(source: Source) -> Published:
    suffix = source.path.suffix.lower()
    recipe = RECIPES["npz" if suffix == ".npz" else "torch" if suffix in (".pt", ".pth", ".bin", ".ckpt") else "pickle"]
    raise UserError(
        "a claim as JSON, .npy, a table or safetensors",
        f"{str(source.path)!r}, a pickle or an archive: to open it could run its code",
        f"If you trust it, convert it: {recipe}",
    )


IMPORTER = Importer("pickle", "nothing: a pickle is not opened", lambda source: source.kind == "pickle", _read)
