"""Audit a claim on your own questions: write them as JSON lines, name the heads, read the table.

Run: python examples/own_questions.py FOLDER [MODEL]
"""

import json
import sys
from pathlib import Path

from locus.audit import audit
from locus.plan.config import resolve

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Egypt": "Cairo", "Cuba": "Havana", "Norway": "Oslo",
    "Greece": "Athens", "Kenya": "Nairobi", "Peru": "Lima", "Chile": "Santiago", "Iran": "Tehran", "Iraq": "Baghdad",
    "Poland": "Warsaw", "Russia": "Moscow", "China": "Beijing", "Austria": "Vienna", "Hungary": "Budapest", "Ireland": "Dublin",
    "Portugal": "Lisbon", "Finland": "Helsinki", "Sweden": "Stockholm", "Denmark": "Copenhagen", "Belgium": "Brussels",
}  # fmt: skip


def questions() -> list[dict[str, object]]:
    """Each country with its capital as the true answer, and the next two countries' capitals as false ones."""
    cities = list(CAPITALS.values())
    return [
        {
            "question": f"What is the capital of {country}?",
            "true": [city],
            "false": [cities[(place + 1) % len(cities)], cities[(place + 2) % len(cities)]],
        }
        for place, (country, city) in enumerate(CAPITALS.items())
    ]


def main(out: Path, model: str) -> str:
    """Write the questions, audit two heads on them, print the sentence that follows."""
    out.mkdir(parents=True, exist_ok=True)
    data = out / "capitals.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in questions()), encoding="utf-8")
    config = resolve("quick", model=model, data=str(data), claims=("0.1,2.3",), train=12, validation=4, test=8)
    sentence = audit(config, out / "run").sentence
    print(f"{sentence}\n{out / 'run' / 'report.html'}")
    return sentence


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/own"), sys.argv[2] if len(sys.argv) > 2 else resolve().model)
