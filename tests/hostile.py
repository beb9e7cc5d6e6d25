"""Run folders that a stranger made to harm whoever opens them: everything they name is a trap, and all their hashes hold.

A trap is a pipe that nobody writes to, a model folder whose Python leaves a mark when it is imported, an address on loopback
that records who comes, and names that only a hub could know. `watched` runs commands in a process that notes every connection,
every process and every opened path.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from locus.behaviours.items import content_hash
from locus.conclude import derive as conclude
from locus.conclude import rule as verdict
from locus.plan.config import AuditConfig
from locus.records.store import Store
from locus.report import page, receipt

ROOT = Path(__file__).parents[1]
HUB = "somebody/some-model"
CODE = """
from pathlib import Path
Path({mark!r}).touch()
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

class TrapConfig(LlamaConfig):
    model_type = "trap"

class TrapForCausalLM(LlamaForCausalLM):
    config_class = TrapConfig

class TrapTokenizer(PreTrainedTokenizerFast):
    pass
"""
NOTES = """
import os, sys

handle = os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
KINDS = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pty.spawn")

def note(event, args):
    if event in KINDS and not (event == "subprocess.Popen" and str(args[0]).endswith("git")):
        os.write(handle, f"{event} {args!r}\\n".encode())
    elif event == "open" and "/trap" in str(args[0]):
        os.write(handle, f"open {args[0]!r}\\n".encode())

sys.addaudithook(note)
"""
# Every command in a child of its own, so that torch is imported once; a child that hangs is ended.
DRIVER = """
import io, json, os, signal, sys, traceback
import torch, transformers, locus.report.rerun, locus.report.export, locus.reproduce, matplotlib.pyplot
from locus.cli import app as cli

done = []
for number, (command, limit) in enumerate(json.loads(sys.argv[1])):
    if not (child := os.fork()):
        signal.alarm(limit)
        for standard in (1, 2):
            os.dup2(os.open(f"{sys.argv[2]}/{number}.{standard}", os.O_WRONLY | os.O_CREAT), standard)
        sys.argv = ["locus", *command]
        status = 1
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(os.environ["WATCHED"]) as notes:
        touched = notes.read()
    os.truncate(os.environ["WATCHED"], 0)
    done.append((status, touched + ("marked" if os.path.exists(sys.argv[3]) else "")))
print(json.dumps(done))
"""


def trap_model(folder: Path, source: str, mark: Path) -> Path:
    """A copy of a model that only its own Python can load, which leaves a mark."""
    shutil.copytree(source, folder)
    for name, parts in {
        "config.json": {
            "model_type": "trap",
            "architectures": ["TrapForCausalLM"],
            "auto_map": {"AutoConfig": "trap.TrapConfig", "AutoModelForCausalLM": "trap.TrapForCausalLM"},
        },
        "tokenizer_config.json": {
            "tokenizer_class": "TrapTokenizer",
            "auto_map": {"AutoTokenizer": ["trap.TrapTokenizer", "trap.TrapTokenizer"]},
        },
    }.items():
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **parts}))
    (folder / "trap.py").write_text(CODE.format(mark=str(mark)))
    return folder


def pipe(path: Path) -> str:
    """A pipe that nobody writes to: who opens it waits for ever."""
    os.mkfifo(path)
    return str(path)


def forge(run: Path, judged: bool = False, **settings) -> Path:
    """Change what a run's plan says of its settings, and hash and sign everything again, with a key of the forger's own."""
    plan = json.loads((run / "plan.json").read_text())
    plan["config"] |= settings
    plan["model"]["name"] = plan["config"]["model"]
    if judged:
        name = plan["config"]["judge"]
        plan["judge"] = {"name": name, "fingerprint": "0" * 64, "confusion": {}, "seen": None}
    plan["rule"] = verdict.rule(AuditConfig.recorded(plan["config"]))
    plan["rule_sha256"] = content_hash(plan["rule"])
    plan["sha256"] = content_hash({name: part for name, part in plan.items() if name != "sha256"})
    (run / "plan.json").write_text(json.dumps(plan, indent=1, sort_keys=True) + "\n")
    store = Store(run / "trials.sqlite")
    store.db.execute("UPDATE meta SET value = ? || substr(value, 65) WHERE key = 'plan_fixed'", (plan["sha256"],))
    if (run / "verdict.json").exists():
        conclude.write(run, store, 0.0)
        receipt.write(run, store)
        page.write(run, figures=False)
    store.close()
    return run


def environment(notes: Path, **more: str) -> dict[str, str]:
    """An environment with keys to steal, in which the hub may be asked, and whose every process takes notes."""
    place = notes.parent / "site"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(NOTES)
    kept = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "OPENAI_BASE_URL")}
    keys = {"OPENAI_API_KEY": "sk-secret", "LOCUS_JUDGE_KEY": "sk-secret"}
    path = f"{place}{os.pathsep}{ROOT}"
    return {**kept, **keys, "PYTHONPATH": path, "WATCHED": str(notes), "HF_HOME": str(notes.parent / "hf"), **more}


def locus(arguments: list[str], notes: Path, limit: float = 100, **more: str) -> subprocess.CompletedProcess:
    """One command as its own process, with nobody at the terminal."""
    command = [sys.executable, "-m", "locus", *arguments]
    told = {"env": environment(notes, **more), "stdin": subprocess.DEVNULL, "cwd": notes.parent, "timeout": limit}
    return subprocess.run(command, capture_output=True, text=True, check=False, **told)


def watched(commands: list[list[str]], notes: Path, mark: Path, limit: int = 60) -> list[tuple[int, str, str]]:
    """Several commands, each in a child of one process; the status of each, what it said, and what it touched."""
    told = notes.parent / "told"
    told.mkdir(exist_ok=True)
    listed = json.dumps([(command, limit) for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, listed, str(told), str(mark)],
        env=environment(notes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        cwd=notes.parent,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    said = ["".join((told / f"{number}.{standard}").read_text() for standard in (1, 2)) for number in range(len(found))]
    return [(status, text, touched) for (status, touched), text in zip(found, said, strict=True)]
