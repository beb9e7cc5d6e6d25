"""`locus doctor` says of one model what docs/models.md says of families, and what a quick audit of it would take."""

import io
import json
from pathlib import Path

import pytest
import torch

import locus
from locus.boundary.terminal import Console
from locus.cli import doctor
from locus.door.examined import examine
from locus.door.planned import Planned
from locus.engine.activations import base_pass
from locus.engine.optimum import FirstOrder
from locus.engine.trie import build_trie
from locus.models.load import load
from locus.plan.config import resolve
from locus.plan.memory import weights_of
from studies.models import page
from studies.models.build import build
from tests.families import byte_tokenizer
from tests.small_run import SMALL

KEPT = json.loads(page.RESULTS.read_text())["families"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model of a family, in a folder."""

    def made(family):
        place = tmp_path_factory.mktemp(family)
        build(family).save_pretrained(place)
        byte_tokenizer().save_pretrained(place)
        return str(place)

    return made


def told(place):
    """What the command prints, and whether it is content."""
    heard = io.StringIO()
    content = doctor.examine(Console(file=heard, width=1000), place)
    return heard.getvalue(), content


@pytest.mark.parametrize("family", ["llama", "beam", "lfm2"])
def test_a_model_stands_as_the_page_has_its_family(folder, family):
    found = examine(folder(family))
    assert found.standing == KEPT[family]["result"]
    assert len(found.why) == len(KEPT[family]["without"]) and all(one.passed for one in found.checks)
    assert isinstance(found.quick, Planned) and found.quick.trials > 20 and found.quick.seconds > 0


def test_what_is_refused_says_why_and_nothing_of_an_audit(folder):
    place = folder("mamba")
    found = examine(place)
    assert found.standing == "refused" and found.quick is None and not found.checks
    assert len(found.why) == 1 and KEPT["mamba"]["why"] in found.why[0]
    said, content = told(place)
    assert not content and f"model {place}: refused" in said and KEPT["mamba"]["why"] in said


def test_the_command_prints_all_of_it(folder):
    said, content = told(folder("lfm2"))
    assert content and "row by row: verdicts are the same, and cost more" in said
    assert "every answer is read by itself, and the model is run whole (" in said
    assert "a quick audit on misconceptions: " in said and "memory of about" in said and "MB of weights" in said


def test_memory_counts_all_experts_and_time_those_that_a_token_is_sent_to(folder):
    """With as many experts again, of which as many are asked, memory grows and time does not."""
    found, larger = examine(folder("mixtral")), examine(_doubled(folder("mixtral")))
    assert "sends a token to 2 of 4 experts: time counts those, memory all" in found.about
    assert "sends a token to 2 of 8 experts: time counts those, memory all" in larger.about
    model = load(found.name, device="cpu")
    experts = [one for name, one in model.hf.named_parameters() if "expert" in name]
    assert larger.quick.memory.weights - found.quick.memory.weights >= sum(one.numel() * 4 for one in experts)
    assert larger.quick.macs == pytest.approx(found.quick.macs, rel=0.01)


def _doubled(place):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(place)
    config.num_local_experts *= 2
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(place)
    return place


def test_memory_is_what_an_audit_holds(llama_folder):
    """Reckoned from the plan; held against the very tensors."""
    settings = {"train": 12, "validation": 4, "test": 8, "text_passages": 0}
    told = locus.plan(llama_folder, claim="0.1,2.3", progress=False, **settings)
    model = load(llama_folder, device="cpu")
    assert told.memory.weights == sum(one.numel() * 4 for one in model.hf.parameters()) + sum(
        one.numel() * one.element_size() for one in model.hf.buffers()
    )
    tied = load(llama_folder, device="cpu")
    tied.hf.lm_head.weight = tied.hf.model.embed_tokens.weight
    assert weights_of(model) - weights_of(tied) == model.hf.lm_head.weight.numel() * 4
    tries = _tries(model, resolve("quick", model=llama_folder, claims=("0.1,2.3",), **settings))
    held = sum(base_pass(model, trie, layers=range(model.layout.n_layers)).residuals.nbytes for trie in tries.values())
    assert told.memory.residuals == held
    first = FirstOrder(model, tries["train"])
    sides = [one for part in first.parts for one in (*part.inputs.values(), *part.gradients.values())]
    nbytes = sum(one.numel() * one.element_size() for one in sides)  # answers are padded to the longest beside them
    assert nbytes / 1.5 <= told.memory.gradients <= nbytes
    longest = max(part.answers.tokens.numel() for part in first.parts)
    assert told.memory.training >= longest * model.layout.n_layers * model.layout.d_model * 4  # the stream alone, on the way back
    assert told.memory.total > told.memory.training and "MB of gradients" in repr(told)


def _tries(model, config):
    from locus import behaviours
    from locus.behaviours.prompts import prompt_format
    from locus.plan.context import choose

    dataset = behaviours.load(config.data)
    items = choose(dataset, behaviours.split(dataset.items, config.seed), config)
    return {name: build_trie(model.tokenizer, prompt_format(model.tokenizer), part) for name, part in items.items()}


def test_a_model_for_which_the_questions_are_too_long_is_complete_and_says_what_stands_in_the_way(folder):
    place = folder("llama")
    path = Path(place) / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "max_position_embeddings": 40}))
    found = examine(place)
    assert found.standing == "complete" and isinstance(found.quick, str) and "40" in found.quick
    assert "a quick audit: not possible (" in str(found)


def test_a_plan_of_a_model_that_is_read_row_by_row_counts_what_the_audit_then_runs(folder, tmp_path):
    rows = [{"question": f"{n} + 1 =", "wanted": [str(n + 1)], "unwanted": [str(n), str(n + 2)]} for n in range(30)]
    place, settings = folder("lfm2"), {**SMALL, "claims": None}
    claim = "1.1,3.2"
    told = locus.plan(place, rows, claim, progress=False, **settings)
    took = locus.audit(place, rows, claim, out=tmp_path / "RUN", progress=False, sign=False, **settings).verdict.cost
    assert told.macs == pytest.approx(took.total.macs) and told.memory.residuals == 0
