"""What the processes of test_tensor_parallel do, which torchrun begins by `-m tests.lockstep FOLDER`, and again where they fail.

In the first three attempts a metric gets one of them, or both, into trouble when it is asked for a value: each attempt goes on
with what the one before has left, and the last by the command line.
"""

import json
import os
import signal
import sqlite3
import sys
from functools import partial
from pathlib import Path

import torch

import locus
import locus.cli.app
from locus.metrics.base import Answers, Metric

RANK = os.environ.get("RANK", "0")
FAMILIES = (
    "llama",
    "qwen3",
    "gemma2",
    "gpt_neox",
)  # heads that share keys, norms of heads, soft caps, heads side by side in one map
TROUBLE = {"what": "", "who": "", "when": 0, "asked": 0}


def lead(answers: Answers) -> float:
    """By how much a wanted answer leads; not so where there is trouble."""
    TROUBLE["asked"] += 1
    if TROUBLE["asked"] == TROUBLE["when"] and RANK in TROUBLE["who"]:
        if TROUBLE["what"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if TROUBLE["what"] == "raise":
            raise locus.UserError("a dictionary", "none on this machine", "Fetch it.")
        return 1e3
    return float(answers.wanted.max() - answers.unwanted.max())


locus.registry.register("metrics", "lead", Metric("lead", "Lead", "nats", "lead of the best wanted answer", "answers", lead))


def audit(folder: Path, name: str, config: str, **settings):
    """An audit in all processes."""
    return locus.audit(config=folder / config, out=folder / name, tp_plan="auto", sign=False, **settings)


def in_trouble(folder: Path, what: str, who: str, when: int, name: str = "troubled") -> None:
    """An audit of which some processes get into trouble at the so-manieth value that is asked for."""
    TROUBLE.update(what=what, who=who, when=when, asked=0)
    audit(folder, name, "adamw.toml", metrics=["lead"])


def said(act) -> str:
    """What an act is refused with."""
    try:
        act()
    except locus.UserError as error:
        return str(error)
    return ""


def model_of(folder: Path, family: str, dtype: str = "float32") -> dict:
    """What a model in slices is, and how far what it says is from what it says whole."""
    from locus.behaviours.prompts import prompt_format
    from locus.engine.checks import run_checks, standing
    from locus.models.load import load

    whole, sliced = (load(str(folder / family), dtype=dtype, tp_plan=plan) for plan in (None, "auto"))
    tokens, held = torch.arange(3, 16)[None], sum(one.to_local().numel() for one in sliced.layers[0].mlp.parameters())
    checks = run_checks(sliced, prompt_format(sliced.tokenizer, "qa"))
    bottom, top = (gradient(one) for one in (whole, sliced))
    with torch.no_grad():
        gap = whole.hf(input_ids=tokens).logits - sliced.hf(input_ids=tokens).logits
    return {
        "layout": sliced.layout == whole.layout and sliced.layout.points == whole.layout.points,
        "parts": sliced.parts == whole.parts,
        "fingerprint": sliced.fingerprint == whole.fingerprint,
        "map": torch.equal(sliced.weight(1, "post"), whole.weight(1, "post")),
        "share": held / sum(one.numel() for one in whole.layers[0].mlp.parameters()),
        "standing": standing(sliced, checks),
        "failed": [str(one) for one in checks if not one.passed],
        "off": sliced.off,
        "gap": float(gap.abs().max()),
        "gradient": float((bottom - top).norm() / bottom.norm()),
        "bits": top.float().double().sum().item(),
    }


def gradient(model) -> torch.Tensor:
    """Of a sum of logits with respect to what edits change: heads and neurons of the first layer, side by side."""
    changes = [torch.zeros(model.layout.width(point, 0), requires_grad=True) for point in ("z", "post")]
    handles = [
        model.attach(point, 0, lambda x, add=add: x + add.to(x)) for point, add in zip(("z", "post"), changes, strict=True)
    ]
    torch.set_grad_enabled(True)
    logits = model.hf(input_ids=torch.arange(3, 16)[None]).logits
    (logits * torch.linspace(-1, 1, logits.shape[-1])).sum().backward()
    for handle in handles:
        handle.remove()
    return torch.cat([one.grad for one in changes])


def first(folder: Path) -> None:
    """Models of several families, whole audits, refusals, and processes that are no longer in step."""
    from locus.machine.ranks import together
    from locus.models import sliced
    from locus.models.load import load

    found: dict = {}
    with together(folder / "nothing"):
        found["models"] = {family: model_of(folder, family) for family in FAMILIES}
        found["short"] = model_of(folder, "llama", "bfloat16")
        found["refused"] = {name: said(partial(load, str(folder / name), tp_plan="auto")) for name in ("llama-mqa", "gpt2")}
        found["refused"]["both"] = said(partial(load, str(folder / "llama"), tp_plan="auto", device_map="auto"))
        tested, sliced.TESTED = sliced.TESTED, "4.2"
        found["refused"]["version"] = said(partial(load, str(folder / "llama"), tp_plan="auto"))
        sliced.TESTED = tested
    found["runs"] = {name: str(audit(folder, name, f"{name}.toml").folder) for name in ("adamw", "newton")}
    found["apart"] = said(lambda: in_trouble(folder, "differ", "1", 20, "apart"))
    (folder / f"found-{RANK}.json").write_text(json.dumps(found))
    in_trouble(folder, "raise", "1", 20)


def last(folder: Path) -> None:
    """What is left, by the command line."""
    asked = ["audit", "--config", str(folder / "adamw.toml"), "--out", str(folder / "troubled"), "--no-sign"]
    sys.argv = ["locus", *asked, "--set", "tp_plan=auto", "--set", "metrics=['lead']"]
    locus.cli.app.main()


if __name__ == "__main__":
    place, attempt = Path(sys.argv[1]), os.environ["TORCHELASTIC_RESTART_COUNT"]
    trials = place / "troubled" / "trials.sqlite"
    if RANK == "0" and trials.exists():
        with sqlite3.connect(trials) as db:
            finished = db.execute("SELECT count(*) FROM trials WHERE state = 'done'").fetchone()[0]
        (place / f"finished-{attempt}").write_text(str(finished))
    if attempt == "0":
        first(place)
    elif attempt == "1":
        in_trouble(place, "kill", "1", 14)
    elif attempt == "2":
        in_trouble(place, "kill", "01", 10)
    else:
        last(place)
