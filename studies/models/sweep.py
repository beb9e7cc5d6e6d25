"""Try every family: build it tiny, find its parts, hold every shortcut against the plain path, train an edit, take it off.

Each family has a process of its own with a limit on its time, so that none can stop or change another.
"""

import json
import os
import signal
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from locus.behaviours.prompts import prompt_format
from locus.edits import Rank1
from locus.engine.activations import base_pass
from locus.engine.bank import Bank
from locus.engine.checks import run_checks, standing
from locus.engine.train import TrainingRecipe, TrainingSet, train
from locus.engine.trie import build_trie
from locus.errors import UserError
from locus.models.model import Model
from locus.sites.site import Location
from studies.models.build import LENGTH, NotBuilt, build
from studies.models.compare import gradient_gap, logits_gap
from tests.families import QUESTIONS, byte_tokenizer

SECONDS = 300
Row = dict[str, Any]


def tried(family: str) -> Row:
    """What is found of one family: `result` is complete, in part, row by row, refused, not built, or a fault of ours."""
    try:
        hf = build(family)
    except NotBuilt as error:
        return {"result": "not built", "why": str(error)[:300]}
    row, model = seen(hf, family)
    return row if model is None else {**row, "logits": logits_gap(model), "gradient": gradient_gap(model), **_trained(model)}


def seen(hf: Any, family: str) -> tuple[Row, Model | None]:
    """What the checks find of a model, and the model if it passes them."""
    row: Row = {"class": type(hf).__name__}
    try:
        model = Model(hf, byte_tokenizer(), family)
        checks = run_checks(model, prompt_format(model.tokenizer, "qa"))
    except UserError as error:
        return {**row, "result": "refused", "why": error.received.partition("): ")[2] or error.received}, None
    failed = [str(one) for one in checks if not one.passed]
    if failed:
        why = f"row by row, it says something else than in plain rows: {failed[0]}"[:300]
        return {**row, "result": "refused", "why": why}, None
    largest = max(one.difference for one in checks)
    found = {
        "result": standing(model, checks),
        "layout": str(model.layout),
        "without": model.off,
        "checks": len(checks),
        "largest": largest,
    }
    return {**row, **found}, model


def _trained(model: Model) -> Row:
    """Train an edit for some steps; see that it changes the model while it is attached, and not a bit afterwards."""
    text, tokens = prompt_format(model.tokenizer, "qa"), torch.arange(1, LENGTH)[None]
    with torch.no_grad():
        before = model.hf(input_ids=tokens, use_cache=False).logits
    trie = build_trie(model.tokenizer, text, QUESTIONS[:4])
    base = base_pass(model, trie, layers=range(model.layout.n_layers), features=True)
    edit = Rank1(model.layout, Location.parse(f"{model.layout.headed[-1]}.0"))
    on = TrainingSet(model, trie, QUESTIONS[:4], base.logprobs, base.residuals)
    (fit,) = train(on, [edit], [TrainingRecipe(tau=0.5, lr=0.02, epochs=4)])
    with torch.no_grad():
        with Bank([fit.edit]).attach(model):
            during = model.hf(input_ids=tokens, use_cache=False).logits
        after = model.hf(input_ids=tokens, use_cache=False).logits
    moved = float((during - before).abs().max())
    return {"loss": [float(fit.losses[0]), float(fit.losses[-1])], "moved": moved, "restored": bool(torch.equal(before, after))}


def sweep(families: Sequence[str], folder: Path, workers: int = 2) -> dict[str, Row]:
    """Try families, each in a process of its own; what is found lies in a folder by family."""
    folder.mkdir(parents=True, exist_ok=True)
    live: dict[int, str] = {}
    waiting, rows = list(families), dict[str, Row]()
    while waiting or live:
        while waiting and len(live) < workers:
            family = waiting.pop(0)
            live[_begun(family, folder / f"{family}.json")] = family
        process, status = os.waitpid(-1, 0)
        family = live.pop(process)
        place = folder / f"{family}.json"
        if status:
            place.write_text(json.dumps({"result": "not built", "why": f"it took more than {SECONDS} seconds"}))
        rows[family] = json.loads(place.read_text())
        print(f"{len(rows):4d} {family}: {rows[family]['result']} {rows[family].get('why', '')}"[:160], flush=True)
    return rows


def _begun(family: str, place: Path) -> int:
    """The process that tries a family and writes down what it finds."""
    if process := os.fork():
        return process
    signal.alarm(SECONDS)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    torch.set_num_threads(1)
    try:
        row = tried(family)
    except BaseException:
        row = {"result": "fault", "why": traceback.format_exc()[-900:]}
    place.write_text(json.dumps(row))
    os._exit(0)
