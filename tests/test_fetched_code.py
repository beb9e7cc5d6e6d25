"""A model's configuration never makes code be fetched from the hub, whatever packages that would do so are installed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from locus.errors import UserError
from locus.models import own_code
from locus.models.checkpoint import read_config

ROOT = Path(__file__).parents[1]
# What transformers asks of the package `kernels`, which leaves a mark where it would fetch and run something.
KERNELS = """
from pathlib import Path

__version__ = "0.18.2"

def get_kernel(*given, **more):
    Path({mark!r}).write_text(repr(given))
    raise RuntimeError("there is no network here")

class _Any:
    def __init__(self, *given, **more): pass
    def __call__(self, *given, **more): return given[0] if given else None

def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return _Any
"""
LOADED = """
import sys
from pathlib import Path
from transformers.utils import is_kernels_available
from locus.errors import UserError
from locus.models.load import load

assert is_kernels_available(), "the package is seen"
for folder in sys.argv[1:]:
    try:
        print(Path(folder).name, type(load(folder).hf).__name__)
    except UserError as error:
        print(Path(folder).name, "refused", error)
"""
STRANGE = "somebody/flash-attn"
REFUSED = {
    "bare": {"_attn_implementation": STRANGE},
    "public": {"attn_implementation": STRANGE},
    "internal": {"_attn_implementation_internal": STRANGE},
    "fallback": {"_attn_implementation": "flash_attention_2"},
    "unknown": {"attn_implementation": "flash_attention_9"},
    "paged": {"attn_implementation": f"paged|{STRANGE}"},
    "by-part": {"attn_implementation": {"": "sdpa", "text_config": STRANGE}},
    "in-a-part": {"vision_config": {"_attn_implementation": STRANGE}},
    "in-a-list": {"parts": [{"attn_implementation": STRANGE}]},
    "experts": {"_experts_implementation": STRANGE},
    "kernels": {"use_kernels": True},
}
HARMLESS = {
    "nothing": {},
    "ours": {"_attn_implementation": "eager", "attn_implementation": "sdpa"},
    "null": {"_attn_implementation": None, "use_kernels": False},
    "overruled": {"attn_implementation": "flash_attention_2"},
    "autoset": {"_attn_implementation_autoset": True},
}


def model(source, folder: Path, more: dict) -> str:
    shutil.copytree(source, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    return str(folder)


def test_no_configuration_has_code_fetched(tmp_path, llama_folder):
    package = tmp_path / "site" / "kernels"
    (package / "layer").mkdir(parents=True)
    mark = tmp_path / "fetched"
    for file in (package / "__init__.py", package / "layer" / "__init__.py", package / "layer" / "mode.py"):
        file.write_text(KERNELS.format(mark=str(mark)))
    told = tmp_path / "site" / "kernels-0.18.2.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: kernels\nVersion: 0.18.2\n")
    folders = [model(llama_folder, tmp_path / name, more) for name, more in {**REFUSED, **HARMLESS}.items()]
    path = f"{tmp_path / 'site'}{os.pathsep}{ROOT}"
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *folders],
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not mark.exists(), mark.read_text()
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert said.keys() == REFUSED.keys() | HARMLESS.keys(), done.stderr[-2000:]
    assert {name for name, answer in said.items() if answer.startswith("refused")} == REFUSED.keys(), said
    assert all("config.json" in said[name] and "leaves it to locus" in said[name] for name in REFUSED)


def test_what_a_checked_configuration_would_still_fetch_is_stopped(llama_folder):
    """Architectures ask for kernels by themselves, too; none is fetched while a model is loaded."""
    from transformers.integrations import hub_kernels

    before = hub_kernels.get_kernel
    with pytest.raises(PermissionError, match="never fetched"), own_code.refused("x", str(llama_folder)):
        hub_kernels.get_kernel("kernels-community/rwkv", version=1)
    assert hub_kernels.get_kernel is before


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_seen_before_anything_is_loaded(tmp_path, llama_folder, name):
    folder = model(llama_folder, tmp_path / name, REFUSED[name])
    with pytest.raises(UserError, match="leaves it to locus"):
        read_config(Path(folder) / "config.json")
