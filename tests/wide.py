"""A model of a few layers, wide enough to be worth several threads, and an audit of it that takes a second."""

import json
import random
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tests.families import ENDS, byte_tokenizer

WORDS = "sun moon cat dog tree rock fish bird lake hill rain snow".split()
SIZES = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4}


def save_model(folder: Path) -> str:
    """Write a random Llama in hub layout; a layer of it has 655,360 entries. Its path."""
    torch.manual_seed(3)
    config = LlamaConfig(vocab_size=384, max_position_embeddings=512, **SIZES, **ENDS)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").float()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.06, generator=generator)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


def save_questions(path: Path) -> str:
    """Write thirty questions of a word and a number, with answers of one or two words. Their path."""
    draw, rows = random.Random(0), []
    for number in range(30):
        asked, right, wrong = draw.sample(WORDS, 3)
        row = {"id": f"q{number}", "question": f"{asked} {number}?", "true": [right], "false": [wrong, f"{wrong} {asked}"]}
        rows.append(json.dumps({**row, "group": f"g{number}"}) + "\n")
    path.write_text("".join(rows), encoding="utf-8")
    return str(path)


def settings(folder: Path, **others: Any) -> dict[str, Any]:
    """Settings of an audit of them, which are written into a folder; its last bank is of one edit."""
    small = {"train": 8, "validation": 2, "test": 4, "epochs": 1, "batch": 4, "random": 4, "alpha": 0.25, "sequential": False}
    if others.get("search") == "newton":
        del small["epochs"], small["batch"]  # of small steps
    none = {"text_passages": 0, "iti_strengths": (), "shift_random": 0, "prompt": "bare", "claims": ("0.1,2.3",)}
    folder.mkdir(parents=True, exist_ok=True)
    made = {"model": save_model(folder / "model"), "data": save_questions(folder / "questions.jsonl")}
    return {**made, **small, **none, **others}
