"""Families of causal LMs, built tiny, give what transformers gives; the page that lists all of them is what is found of these."""

import ast
import json
import re
from pathlib import Path

import pytest
from transformers import CONFIG_MAPPING

from studies.models import page
from studies.models.build import build, families
from studies.models.compare import gradient_gap, logits_gap
from studies.models.sweep import seen

ROOT = Path(__file__).parents[1]
KEPT = json.loads(page.RESULTS.read_text())
# Each kind of arrangement: rotary, learned and linear positions, fused and transposed matrices, parallel blocks, windows and
# chunks, soft caps and scales of logits, sinks, norms of queries and keys, latent attention, experts, layers that are not alike,
# recurrences and convolutions, pairs of heads, tails of several modules, cross-attention that is not asked.
FAMILIES = (
    "bert bloom camembert codegen cohere deepseek_v3 diffllama falcon falcon_h1 gemma2 gemma4_text gpt2 gpt_bigcode gpt_neo "
    "gpt_neox gpt_oss gptj granite lfm2 llama llama4_text mistral mixtral mpt nanochat olmo2 opt qwen3_5_text smollm3 whisper"
).split()
# What paths inside the modules of some family look like.
PATH = re.compile(r"(\w+\.)*(self_attn|attn|[oc]_proj|c_attn|h|layers)(\.\w+)+|self_attn|[oc]_proj|c_attn")
REFUSED = ("mamba", "hrm_text", "jetmoe")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_gives_what_transformers_gives_and_is_on_the_page_as_it_is_found(family):
    row, model = seen(build(family), family)
    assert model is not None, row
    if row["result"] == "complete":
        assert logits_gap(model) <= 1e-4
    assert gradient_gap(model) <= 1e-3
    kept = KEPT["families"][family]
    stated = ("result", "layout", "class")
    assert [kept[name] for name in stated] == [row[name] for name in stated], "run: make models"
    assert set(kept["without"]) == set(row["without"]), "run: make models"


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_is_refused_in_one_sentence_that_says_what_was_seen(family):
    row, model = seen(build(family), family)
    assert model is None and row["result"] == "refused"
    assert "looked for" in row["why"] and "\n" not in row["why"]
    assert row["why"] == KEPT["families"][family]["why"], "run: make models"


def test_the_page_is_what_was_kept_and_names_every_family():
    text = page.PAGE.read_text()
    begin, end = text.index(page.BEGIN), text.index(page.END) + len(page.END)
    assert text[begin:end] == page.section(KEPT["families"], KEPT["versions"]), "run: make models"
    assert set(KEPT["families"]) == set(families())
    found = [row["result"] for row in KEPT["families"].values()]
    complete = found.count("complete")
    assert complete >= 95 and complete + found.count("in part") + found.count("row by row") >= 119 and "fault" not in found


def _compared(tree: ast.AST) -> list[ast.expr]:
    return [one for node in ast.walk(tree) if isinstance(node, ast.Compare) for one in (node.left, *node.comparators)]


def _names(part: ast.expr) -> set[str]:
    """Attributes that are read, and texts, within one side of a comparison."""
    read = {node.attr for node in ast.walk(part) if isinstance(node, ast.Attribute)}
    return read | {node.value for node in ast.walk(part) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_nothing_in_the_package_asks_for_the_name_of_an_architecture():
    """Outside planted models, which are made here, judges' own, which are known by name, and the names in what others publish."""
    known = {*CONFIG_MAPPING, *(name.replace("_", "-") for name in CONFIG_MAPPING)} - {"clip", "git", "blip", "sam", "bark"}
    files = [path for path in (ROOT / "locus").rglob("*.py") if not {"planted", "judges", "importers"} & set(path.parts)]
    assert len(files) > 150
    wrong = []
    for path in files:
        tree = ast.parse(path.read_text())
        wrong += [
            (path.name, ast.unparse(part))
            for part in _compared(tree)
            if _names(part) & {"architectures", "model_type"} or _names(part) & known
        ]
        tables = (node for node in ast.walk(tree) if isinstance(node, ast.Dict))
        keys = (key for table in tables for key in table.keys if isinstance(key, ast.Constant))
        wrong += [(path.name, key.value) for key in keys if key.value in known]
        texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
        wrong += [(path.name, text) for text in texts if PATH.fullmatch(text)]
    assert not wrong
