"""Models by hub id, against a hub of our own on loopback: same model as from the folder, pickles never fetched."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tests.test_broken_models import written

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's protocol as loading a model takes: repository info, file heads, file bodies."""

    folder: Path
    asked: list[str]

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body: bool):
        path = self.path.split("?")[0]
        self.asked.append(f"{self.command} {path}")
        if path.startswith("/api/models/someone/tiny"):
            names = sorted(file.name for file in self.folder.iterdir())
            if "/tree/" in path:
                content = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in names]
            else:
                content = {
                    "id": "someone/tiny",
                    "sha": COMMIT,
                    "siblings": [{"rfilename": name} for name in names],
                    "private": False,
                }
            return self._send(200, json.dumps(content).encode(), "application/json", body)
        if "/resolve/" in path and path.startswith("/someone/tiny/"):
            file = self.folder / path.rsplit("/", 1)[1]
            if file.is_file():
                return self._send(200, file.read_bytes(), "application/octet-stream", body)
        return self._send(404, b"{}", "application/json", body, {"X-Error-Code": "EntryNotFound"})

    def _send(self, status, content, kind, body, more=None):
        self.send_response(status)
        tag = hashlib.sha256(content).hexdigest()
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "ETag": f'"{tag}"',
            "X-Repo-Commit": COMMIT,
            **(more or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path):
    """A running hub with one repository, someone/tiny."""
    from tests.families import tiny

    folder = tmp_path / "repository"
    model = tiny("llama")
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    handler = type("Served", (Hub,), {"folder": folder, "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler, model.fingerprint
    server.shutdown()


def load_by_id(endpoint: str, home: Path, name: str = "someone/tiny") -> subprocess.CompletedProcess:
    return asked_of(endpoint, home, f"from locus.models.load import load; print(load({name!r}, dtype='float32').fingerprint)")


def asked_of(endpoint: str, home: Path, script: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_hub_id_gives_the_same_model_as_its_folder(hub, tmp_path):
    endpoint, handler, fingerprint = hub
    done = load_by_id(endpoint, tmp_path / "home")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == fingerprint
    assert any(path.endswith("model.safetensors") for path in handler.asked)


def test_pickled_weights_are_not_even_fetched(hub, tmp_path):
    endpoint, handler, _ = hub
    (handler.folder / "model.safetensors").rename(handler.folder / "pytorch_model.bin")
    done = load_by_id(endpoint, tmp_path / "home")
    assert done.returncode != 0 and "UserError" in done.stderr and "safetensors" in done.stderr
    assert not [asked for asked in handler.asked if asked.startswith("GET") and asked.endswith(".bin")]


def test_a_hub_model_is_looked_at_before_its_weights_are_fetched_and_held_to_the_same(hub, tmp_path):
    """Heads that are claimed, an adapter beside the weights: said with only the small files here; a gap, with the weights."""
    endpoint, handler, _ = hub
    (handler.folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    tensors = load_file(handler.folder / "model.safetensors")
    tensors.pop("lm_head.weight")
    save_file(tensors, handler.folder / "model.safetensors", {"format": "pt"})
    script = """
import os
from pathlib import Path
from locus.plan import preconditions
from locus.plan.config import resolve
from locus.errors import UserError
from locus.models.load import load
[wrong] = preconditions._model(resolve(model="someone/tiny", claims=("9.9",), adapter="none"))
print(wrong)
for adapter in (None, "none"):
    try:
        load("someone/tiny", adapter=adapter)
    except UserError as error:
        print(error, len(list(Path(os.environ["HF_HOME"]).rglob("*.safetensors"))))
"""
    done = asked_of(endpoint, tmp_path / "home", script)
    assert done.returncode == 0, done.stderr[-2000:]
    heads, choice, gap = done.stdout.strip().splitlines()
    assert "9.9" in heads and "--adapter none" in choice and choice.endswith(" 0")
    assert "1 missing (lm_head.weight)" in gap and gap.endswith(" 1")


def test_a_repository_that_is_not_there_is_said(hub, tmp_path):
    done = load_by_id(hub[0], tmp_path / "home", "someone/else")
    assert done.returncode != 0 and "UserError" in done.stderr and "someone/else" in done.stderr


def test_a_gguf_is_parsed_once_while_it_is_converted_and_as_ever_afterwards(tmp_path):
    import gguf

    from locus.models.locate import _parsed_once

    writer = gguf.GGUFWriter(str(tmp_path / "a.gguf"), "llama")
    writer.add_string("general.name", "a")
    writer.add_tensor("output.weight", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    plain, table = gguf.GGUFReader, gguf.get_tensor_name_map
    with _parsed_once():
        one = gguf.GGUFReader(tmp_path / "a.gguf")
        assert one is gguf.GGUFReader(tmp_path / "a.gguf")
        assert one.tensors[0].data.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == (plain, table)


def test_a_converted_model_is_at_hand_without_loading_anything(tmp_path, llama_folder):
    """In a process of its own: what has been converted is found by the file's content, and torch is not imported for it."""
    digest = hashlib.sha256(written(tmp_path / "some.gguf").read_bytes()).hexdigest()
    folder = tmp_path / "cache" / "models" / f"some-{digest[:16]}-whole"
    code = """
import sys
from pathlib import Path
from locus.models.locate import at_hand
name, folder, other = sys.argv[1:]
assert at_hand(other) == other
first = at_hand(name)
Path(folder).mkdir(parents=True)
(Path(folder) / "config.json").write_text("{}")
print(first, at_hand(name) == folder, "torch" in sys.modules)
"""
    environment = {**os.environ, "LOCUS_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code, str(tmp_path / "some.gguf"), str(folder), llama_folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "True", "False"]
