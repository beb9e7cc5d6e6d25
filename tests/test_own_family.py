"""A family that nobody has seen, with names of its own and the usual parts, needs no line in the package."""

import json

import pytest
import torch
from torch import nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

import locus
from locus.behaviours.prompts import prompt_format
from locus.engine.activations import base_pass
from locus.engine.checks import run_checks
from locus.engine.generate import Speech, generate
from locus.engine.trie import build_trie
from locus.errors import UserError
from locus.models.inputs import attention_input
from locus.models.model import Model
from locus.sites.site import Location
from locus.sites.space import SiteSpace
from studies.models.compare import gradient_gap, logits_gap
from tests.families import QUESTIONS, byte_tokenizer


class ZebraConfig(PretrainedConfig):
    """Sizes under other names than anybody's."""

    model_type = "zebra"

    def __init__(self, stripes=3, manes=4, hair=10, girth=24, sways=(), louder=1.0, **rest):
        self.stripes, self.manes, self.hair, self.girth = stripes, manes, hair, girth
        self.sways, self.louder = list(sways), louder
        super().__init__(**rest)


class Mane(nn.Module):
    """Attention of heads whose matrices are one, in an order of its own (values, queries, keys)."""

    def __init__(self, config, place):
        super().__init__()
        self.place, self.shape = place, (config.manes, config.hair)
        self.combed = nn.Linear(config.girth, 3 * config.manes * config.hair)
        self.braid = nn.Linear(config.manes * config.hair, config.girth, bias=False)

    def forward(self, grass, shade, eaten):
        rows, length, _ = grass.shape
        value, query, key = (part.view(rows, length, *self.shape).transpose(1, 2) for part in self.combed(grass).chunk(3, dim=-1))
        if eaten is not None:
            key, value = eaten.update(key, value, self.place)
        told = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=shade)
        return self.braid(told.transpose(1, 2).reshape(rows, length, -1))


class Sway(nn.Module):
    """A mixer without heads that keeps a state across tokens."""

    def __init__(self, config):
        super().__init__()
        self.step = nn.Linear(config.girth, config.girth)

    def forward(self, grass):
        return self.step(grass).cumsum(dim=1) / 8


class Stripe(nn.Module):
    """One layer, called with keywords alone."""

    def __init__(self, config, place):
        super().__init__()
        self.swaying = place in config.sways
        self.body = Sway(config) if self.swaying else Mane(config, place)
        self.calm, self.calmer = nn.LayerNorm(config.girth), nn.LayerNorm(config.girth)
        self.hooves = nn.Sequential(nn.Linear(config.girth, 40), nn.GELU(), nn.Linear(40, config.girth))

    def forward(self, grass, shade=None, eaten=None):
        calm = self.calm(grass)
        grass = grass + (self.body(calm) if self.swaying else self.body(calm, shade, eaten))
        return grass + self.hooves(self.calmer(grass))


class ZebraBody(PreTrainedModel):
    config_class, base_model_prefix, _supports_sdpa = ZebraConfig, "herd", True

    def __init__(self, config):
        super().__init__(config)
        self.plain, self.where = nn.Embedding(300, config.girth), nn.Embedding(256, config.girth)
        self.stripes = nn.ModuleList(Stripe(config, place) for place in range(config.stripes))
        self.horizon = nn.LayerNorm(config.girth)
        self.post_init()

    def get_input_embeddings(self):
        return self.plain

    def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None):
        before = 0 if past_key_values is None else past_key_values.get_seq_length()
        length = input_ids.shape[1]
        at = torch.arange(before, before + length)[None] if position_ids is None else position_ids
        shade = attention_mask
        if shade is None or shade.ndim == 2:
            allowed = torch.ones(before + length, before + length, dtype=torch.bool).tril()[before:]
            seen = True if shade is None else shade[:, None, None, : before + length].bool()
            shade = torch.zeros(1, 1, length, before + length).masked_fill(~(allowed & seen), torch.finfo(torch.float32).min)
        grass = self.plain(input_ids) + self.where(at)
        for stripe in self.stripes:
            grass = stripe(grass=grass, shade=shade, eaten=past_key_values)
        return self.horizon(grass)


class Zebra(PreTrainedModel, GenerationMixin):
    config_class, base_model_prefix, _supports_sdpa = ZebraConfig, "herd", True

    def __init__(self, config):
        super().__init__(config)
        self.herd, self.call = ZebraBody(config), nn.Linear(config.girth, 300, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.herd.plain

    def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None, **rest):
        from transformers.cache_utils import DynamicCache

        past = DynamicCache() if use_cache and past_key_values is None else past_key_values
        loud = self.call(self.herd(input_ids, attention_mask, position_ids, past)) * self.config.louder
        return CausalLMOutputWithPast(logits=20 * torch.tanh(loud / 20), past_key_values=past)


def zebra(**settings) -> Model:
    torch.manual_seed(0)
    hf = Zebra(ZebraConfig(**settings))
    with torch.no_grad():
        for parameter in hf.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.4)
    return Model(hf, byte_tokenizer(), "zebra")


def test_it_is_complete_and_gives_what_it_gives_by_itself():
    model = zebra(louder=0.25)
    assert str(model.layout) == "3 layers of 4 heads of 10" and model.layout.shape == "herd.stripes.*.body.braid"
    assert (model.parts.stream, model.parts.past, model.scale, model.softcap) == ("grass", "eaten", 0.25, 20.0)
    checks = run_checks(model, prompt_format(model.tokenizer, "qa"))
    assert all(one.passed for one in checks) and not model.off and len(checks) == 13
    assert logits_gap(model) <= 1e-4 and gradient_gap(model) <= 1e-3


def test_its_queries_keys_and_values_are_found_in_one_matrix():
    model = zebra()
    for place, kind in enumerate(("value", "query", "key")):
        module, slices = attention_input(model, kind, 1)
        assert module is model.layers[1].body.combed
        assert [one.start for one in slices] == [40 * place + 10 * head for head in range(4)]


def test_with_a_state_across_tokens_it_is_read_row_by_row_and_has_sites_where_it_has_heads():
    model = zebra(sways=[1])
    assert model.layout.heads == (4, 0, 4) and "state across tokens in layers 1" in model.off["trees"]
    assert len(SiteSpace.of("head", model.layout).everywhere) == 8
    with pytest.raises(UserError, match=r"0\.0 to 2\.3.*1\.0"):
        SiteSpace.of("head", model.layout).check(Location.parse("1.0"))
    assert all(one.passed for one in run_checks(model, prompt_format(model.tokenizer, "qa")))
    assert gradient_gap(model) <= 1e-3
    found = base_pass(
        model,
        build_trie(model.tokenizer, prompt_format(model.tokenizer, "qa"), QUESTIONS[:2]),
        features=SiteSpace.of("head", model.layout),
    )
    assert found.features is not None and not found.features[:, 1].any() and found.features[:, [0, 2]].all()
    with pytest.raises(UserError, match="of every head of layer 1"):
        attention_input(model, "query", 1)


def test_it_speaks_the_same_by_slots_and_a_prompt_at_a_time():
    by_slots, alone = zebra(), zebra()
    alone.do_without("speech", "to compare")
    text = prompt_format(by_slots.tokenizer, "qa")
    prompts = [text.prompt(item.question) for item in QUESTIONS[:2]]
    said = [generate(model, prompts, [], text, Speech(max_new_tokens=5)) for model in (by_slots, alone)]
    assert said[0] == said[1] and all(one.tokens for one in said[0][0])


def test_a_model_that_looks_ahead_is_refused():
    hf = zebra().hf
    hf.herd.forward = lambda ids, *rest: ZebraBody.forward(hf.herd, ids, torch.zeros(1, 1, ids.shape[1], ids.shape[1]))
    with pytest.raises(UserError, match="no decoder"):
        Model(hf, byte_tokenizer(), "zebra")


def test_an_audit_of_it_says_what_it_was_run_without(tmp_path):
    model = zebra(sways=[1])
    asked = [(f"{turn}. {one.question}", one) for turn in range(3) for one in QUESTIONS]
    rows = [{"question": text, "true": list(one.wanted), "false": list(one.unwanted)} for text, one in asked]
    few = {"random": 3, "alpha": 0.3, "text_passages": 0, "search": "newton", "rounds": 3, "lengths": ()}
    run = locus.audit(model, locus.behaviour(rows), "0.1", out=tmp_path / "run", preset="quick", **few)
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert plan["model"]["anatomy"]["layers"] == [[4, 4, 10], [0, 0, 0], [4, 4, 10]]
    assert "state across tokens" in plan["model"]["without"]["trees"]
    places = {head for trial in plan["trials"] for head in trial["location"]}
    assert places == {f"{layer}.{head}" for layer in (0, 2) for head in range(4)}
    assert len(run.verdict.claims) == 1
    assert "does not allow every shortcut" in (tmp_path / "run" / "report.html").read_text()
