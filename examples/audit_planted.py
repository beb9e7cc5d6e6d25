"""Audit two claims about a model whose true location is known: the planted head, and another one.

Run: python examples/audit_planted.py FOLDER
"""

import sys
from pathlib import Path

from locus.audit import audit
from locus.models.planted.named import planted_named
from locus.plan.config import resolve


def main(out: Path) -> dict[str, str]:
    """Audit both claims and print what follows; gives claim -> sentence."""
    planted = planted_named("planted:localized:7")
    heads = {name: ",".join(f"{layer}.{head}" for layer, head in claim.sites) for name, claim in planted.claims.items()}
    said = {}
    for name, where in heads.items():
        config = resolve("quick", model="planted:localized:7", claims=(where,), epochs=5)  # a planted model needs no more
        verdict = audit(config, out / name)
        said[name] = verdict.sentence
        print(f"{name} ({where}), {verdict.drawn.random} random Locations drawn: {said[name]}")
    return said


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples"))
