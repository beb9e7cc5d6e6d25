"""How many single flipped bits does `locus verify` let pass? `python -m studies.flips RUN... [--flips 3000] [--seed 0]`.

Bits are drawn over every file of every run folder, each kind of file alike often: most files are edits, most bytes the store's. A
copy of the folder is verified with that one bit changed. Nothing but *not verified* (status 3) is right. The table goes to
studies/flips/README.md with --write.
"""

import argparse
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from locus.errors import UserError, VerificationError
from locus.report.verify import verify

ANSWERS = ("3: not verified", "0: accepted", "2: the user's fault", "1: a bug of ours")


def answer(run: Path) -> str:
    """What the command would answer, by its exit status."""
    try:
        verify(run)
    except VerificationError:
        return ANSWERS[0]
    except UserError:
        return ANSWERS[2]
    except Exception:
        return ANSWERS[3]
    return ANSWERS[1]


def kind(name: str) -> str:
    """The kind of a file of a run folder."""
    return f"{Path(name).parent}/*{Path(name).suffix}" if "/" in name else name


def flips(run: Path, count: int, rng: np.random.Generator) -> Iterator[tuple[str, int, str]]:
    """Flip single bits of a run folder: file, bit, answer.

    Raises:
        VerificationError: if the untouched folder does not hold; nothing would be shown by it.
    """
    verify(run)
    names: dict[str, list[str]] = {}
    for path in sorted(run.rglob("*")):
        if path.is_file():
            names.setdefault(kind(path.relative_to(run).as_posix()), []).append(path.relative_to(run).as_posix())
    for number in range(count):
        alike = names[sorted(names)[number % len(names)]]
        path = run / alike[int(rng.integers(len(alike)))]
        kept = path.read_bytes()
        bit = int(rng.integers(8 * len(kept)))
        changed = bytearray(kept)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        yield path.relative_to(run).as_posix(), bit, answer(run)
        path.write_bytes(kept)
    verify(run)


def table(counted: Counter[tuple[str, str]]) -> str:
    """Answers by kind of file, as Markdown."""
    lines = ["| file | flips | " + " | ".join(ANSWERS) + " |", "| --- | " + " | ".join("---:" for _ in range(5)) + " |"]
    kinds = sorted({name for name, _ in counted})
    for name in [*kinds, "all"]:
        counts = [
            sum(count for (one, answer_given), count in counted.items() if name in (one, "all") and answer_given == answer)
            for answer in ANSWERS
        ]
        lines.append(f"| {name} | {sum(counts)} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the arguments, flip, print, and write the table if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--flips", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    counted: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as place:
        for number, run in enumerate(given.runs):
            copy = Path(shutil.copytree(run, Path(place) / str(number)))
            for name, bit, answer in flips(copy, given.flips // len(given.runs), rng):
                counted[kind(name), answer] += 1
                if answer != ANSWERS[0]:
                    print(f"{run.name}: bit {bit} of {name}: {answer}", flush=True)
    print(table(counted))
    if given.write:
        given.write.write_text(given.write.read_text().split("<!-- table -->")[0] + "<!-- table -->\n\n" + table(counted))


if __name__ == "__main__":
    main()
