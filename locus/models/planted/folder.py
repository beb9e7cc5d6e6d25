"""Save a planted model as an ordinary model folder with its questions and its truth beside it, and load it again.

FOLDER/config.json, model.safetensors, tokenizer.json   what any loader of Hugging Face models reads
FOLDER/dataset.jsonl                                    one Item a line
FOLDER/truth.json                                       kind, seed, roles, claims, directions, certificate
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from transformers import AutoTokenizer

from locus.behaviours import lines
from locus.behaviours.items import Dataset, Item
from locus.boundary import incoming
from locus.errors import UserError, others
from locus.models.checkpoint import check_folder
from locus.models.planted.build import Planted
from locus.models.planted.directions import PlantedDirections
from locus.models.planted.kinds import KnownClaim, Place, PlantedPlan
from locus.models.weights import fill

FORMAT = 1


def save_planted(planted: Planted, folder: Path | str) -> None:
    """Write a planted model to a folder, made if it is not there; truth.json is written last.

    Args:
        planted: the model.
        folder: where to; files of the same names are overwritten.
    """
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    planted.model.save_pretrained(home)
    planted.tokenizer.save_pretrained(home)
    lines = [json.dumps(item.to_dict(), ensure_ascii=False) for item in planted.dataset.items]
    (home / "dataset.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    directions = {name: row.tolist() for name, row in zip(planted.directions.names, planted.directions.basis, strict=False)}
    truth = {
        "format": FORMAT,
        "kind": planted.kind,
        "seed": planted.seed,
        "shuffled": planted.shuffled,
        "dataset": {key: getattr(planted.dataset, key) for key in ("name", "licence", "origin", "sha256")},
        "truth": planted.truth,
        "expected": planted.expected,
        "claims": [asdict(claim) for claim in planted.claims.values()],
        "plan": asdict(planted.plan),
        "directions": directions,
        "free": planted.directions.free.tolist(),
        "certificate": planted.certificate,
        "vectors": {str(number): vector.tolist() for number, vector in planted.vectors.items()},
    }
    (home / "truth.json").write_text(json.dumps(truth, indent=1), encoding="utf-8")


def load_planted(folder: Path | str) -> Planted:
    """Read what `save` wrote.

    Raises:
        UserError: if the folder is not a planted model's, or its questions are not the ones that were saved.
    """
    home = Path(folder)
    expected = f"the folder of a planted model, with truth.json (format {FORMAT}) and dataset.jsonl"
    try:
        truth = incoming.read_json(home / "truth.json", expected, inside=home)
        about = truth["dataset"]
        if truth["format"] != FORMAT:
            raise ValueError(f"format {truth['format']}")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            expected, f"{home} ({type(error).__name__}: {error})", "Point to a folder that planted.save wrote."
        ) from error
    items = tuple(lines.read_lines(str(home / "dataset.jsonl"), lambda number, row: _item(row), expected, "question"))
    dataset = Dataset(about["name"], items, about["licence"], about["origin"])
    if dataset.sha256 != about["sha256"]:
        raise UserError(
            f"the questions whose hash is {about['sha256'][:12]}",
            f"questions whose hash is {dataset.sha256[:12]}",
            "Restore dataset.jsonl, or build the model again from its seed.",
        )
    check_folder(home)
    model = fill(str(home), str(home), dtype=torch.float32)
    with others("a planted model's tokenizer", str(home), "Build the model again from its seed."):
        tokenizer: Any = AutoTokenizer.from_pretrained(home, trust_remote_code=False)
    names = tuple(truth["directions"])
    basis = np.array([*truth["directions"].values(), *truth["free"]])
    return Planted(
        kind=truth["kind"],
        seed=truth["seed"],
        shuffled=truth["shuffled"],
        model=model.eval(),
        tokenizer=tokenizer,
        dataset=dataset,
        truth=_places(truth["truth"]),
        claims={claim["name"]: _CLAIM.validate_python(claim) for claim in truth["claims"]},
        plan=_PLAN.validate_python(truth["plan"]),
        directions=PlantedDirections(basis, names),
        certificate=truth["certificate"],
        vectors={int(number): np.array(vector, dtype=np.float32) for number, vector in truth.get("vectors", {}).items()},
    )


def _places(pairs: list[list[int]]) -> tuple[Place, ...]:
    return tuple((layer, head) for layer, head in pairs)


def _item(fields: Mapping[str, Any]) -> Item:
    try:
        return Item.from_dict(fields)
    except (KeyError, TypeError) as error:
        raise ValueError("not a question as planted.save writes it") from error


_CLAIM, _PLAN = TypeAdapter(KnownClaim), TypeAdapter(PlantedPlan)
