"""A tokenizer that would take all memory, never end, or open files elsewhere is refused in one sentence, and quickly."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from locus.errors import UserError
from locus.models import tokens
from locus.models.load import load


@pytest.fixture
def folder(tmp_path, llama_folder):
    return Path(shutil.copytree(llama_folder, tmp_path / "model"))


def edit(folder: Path, name: str, **changes) -> None:
    path = folder / name
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | changes))


def replacing(pattern: dict, content: str) -> dict:
    return {"type": "Replace", "pattern": pattern, "content": content}


def pipe(path: Path) -> str:
    os.mkfifo(path)
    return str(path)


def sparse(folder: Path, name: str, nbytes: int) -> None:
    with (folder / name).open("wb") as stream:
        stream.truncate(nbytes)


def hidden(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    pipe(folder / "additional_chat_templates" / "x.jinja")


def sequence(*parts: dict) -> dict:
    return {"type": "Sequence", "normalizers": list(parts)}


ANY = replacing({"Regex": "."}, "ab" * 9)
ONE = replacing({"String": "e"}, "e" * 100)
HOSTILE = {
    "a letter that becomes 10^16": lambda at: edit(
        at, "tokenizer.json", normalizer={"type": "Sequence", "normalizers": [ONE] * 8}
    ),
    "sequences in sequences": lambda at: edit(at, "tokenizer.json", normalizer=sequence(sequence(*[ANY] * 2))),
    "a decoder that grows": lambda at: edit(at, "tokenizer.json", decoder={"type": "Sequence", "decoders": [ONE]}),
    "a search without end": lambda at: edit(
        at, "tokenizer.json", normalizer=replacing({"Regex": "((([a-zA-Z ,.?']*)*)*)*$!"}, "x")
    ),
    "a file elsewhere": lambda at: edit(at, "tokenizer_config.json", fast_tokenizer_files=["../../tokenizer.4.0.json"]),
    "a pipe as its vocabulary": lambda at: edit(at, "tokenizer_config.json", vocab_file=pipe(at.parent / "pipe")),
    "files by name elsewhere": lambda at: edit(at, "tokenizer_config.json", other_files={"a": "/etc/passwd"}),
    "a pipe among its templates": hidden,
    "2 GiB of settings of generation": lambda at: sparse(at, "generation_config.json", 2 << 30),
    "2 GiB of special tokens": lambda at: sparse(at, "special_tokens_map.json", 2 << 30),
    "2 GiB of tokenizer": lambda at: sparse(at, "tokenizer.json", 2 << 30),
    "2 GiB of template": lambda at: sparse(at, "chat_template.jinja", 2 << 30),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_it_is_refused_before_it_does_harm(folder, kind, capfd):
    HOSTILE[kind](folder)
    started = time.monotonic()
    with pytest.raises(UserError, match=r"tokenizer|model"):
        load(str(folder))
    assert time.monotonic() - started < 40  # of which the try-out may take 10, and more where others work
    assert "panicked" not in capfd.readouterr().err


def test_what_tokenizers_do_is_let_be(folder):
    blanks = replacing({"String": " "}, "\u2581"), replacing({"Regex": " {2,}"}, " ")
    edit(folder, "tokenizer.json", normalizer=sequence({"type": "NFKC"}, *blanks, {"type": "Prepend", "prepend": "x"}))
    edit(folder, "tokenizer_config.json", tokenizer_file="/home/somebody/tokenizer.json", vocab_file=None, merges_file="m.txt")
    tokens.check_files(folder)


def test_a_tokenizer_that_makes_many_tokens_of_a_letter_is_refused(llama):
    class Babbling:
        def __call__(self, text):
            return {"input_ids": [1] * (len(text) * 100)}

        def decode(self, ids):
            return ""

    tokens.try_out(llama.tokenizer, "tiny")
    with pytest.raises(UserError, match="100 tokens of a letter"):
        tokens.try_out(Babbling(), "babbling")
