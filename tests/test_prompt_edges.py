"""Where prompts go wrong: tokens put behind a text, questions beyond the context, chat templates with a clock or a will."""

import io
import json
import shutil
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from rich.console import Console
from tokenizers import processors
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig
from transformers.utils import chat_template_utils

from locus.audit import audit
from locus.behaviours.items import Dataset
from locus.behaviours.prompts import PromptFormat, encode, prompt_format
from locus.claims.probe import plant_with_question
from locus.engine.generate import coded, end_tokens
from locus.engine.trie import build_trie
from locus.errors import PreconditionsError, UserError
from locus.judges.base import References
from locus.judges.lm import LmJudge
from locus.metrics.drift import DriftText, text_trie
from locus.models.model import Model
from locus.patching.pairs import aligned, load_pairs
from locus.plan.config import AuditConfig, resolve
from locus.plan.preconditions import early
from locus.run.setup import set_up
from tests.families import ENDS, QUESTIONS, SMALL, byte_tokenizer, configuration, tiny
from tests.small_run import SMALL as RUN

START, CLOSE, PAD = 257, 258, 256
PLAIN = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}|{% endif %}"
NAMES = [("<s>", START), ("</s>", CLOSE), ("<pad>", PAD)]
CLOSERS = {
    "a template's": processors.TemplateProcessing(single="<s> $A </s>", special_tokens=NAMES),
    "two": processors.TemplateProcessing(single="<s> $A </s> <pad>", special_tokens=NAMES),
    "Roberta's": processors.RobertaProcessing(("</s>", CLOSE), ("<s>", START), trim_offsets=False, add_prefix_space=False),
    "the last of several": processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<s> $A </s>", special_tokens=NAMES),
        ]
    ),
}


def closing(processor, named="<|im_end|>"):
    """Puts <s> before a text and </s> behind it, and calls another token its end."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processor
    tokenizer.add_special_tokens({"eos_token": named})
    return tokenizer


@pytest.fixture(params=CLOSERS)
def closer(request):
    return closing(CLOSERS[request.param])


@pytest.fixture(scope="module")
def closing_folder(llama_folder, tmp_path_factory):
    """The tiny model with such a tokenizer."""
    folder = tmp_path_factory.mktemp("closing") / "model"
    shutil.copytree(llama_folder, folder)
    closing(CLOSERS["a template's"]).save_pretrained(folder)
    return str(folder)


def questions(path: Path, **texts: str) -> str:
    """A file of questions by id, each in a group of its own, with easy ones to fill all parts."""
    rows = texts | {f"easy-{number}": f"Is {number} even?" for number in range(24)}
    lines = [{"id": name, "question": text, "true": ["yes"], "false": ["no"], "group": name} for name, text in rows.items()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def chat(source: str, **settings) -> PromptFormat:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = source
    return prompt_format(tokenizer, "chat", **settings)


# --- what a tokenizer puts behind a text


def test_a_closing_token_is_no_part_of_an_answer(closer):
    text = prompt_format(closer, "qa")
    found = encode(closer, text, "Why?", "So")
    # <s>, ten bytes of "Q: Why?\nA:", then the three of " So", the last of which is an "o".
    assert (found.ids[0], found.start, len(found.ids)) == (START, 11, 14)
    assert closer.decode(found.ids[11:]) == " So"
    plain = byte_tokenizer()
    assert build_trie(closer, text, QUESTIONS).sequences == build_trie(plain, text, QUESTIONS).sequences
    # What the text itself says is the text's, even where it is the very token that closes texts.
    assert encode(closer, text, "Why?", "So</s>").ids == (*found.ids, CLOSE)


def test_nor_of_a_prompt_a_probed_text_or_a_passage(closer, llama):
    plain, own = byte_tokenizer(), Model(llama.hf, closer, "closing")
    prompt = "Q: Why?\nA:"
    assert coded(own, prompt, prompt_format(closer, "qa")) == (START, *plain(prompt, add_special_tokens=False)["input_ids"])
    assert coded(own, "", prompt_format(closer, "bare")) == (START,)
    assert plant_with_question(closer, QUESTIONS, 0).sequences == plant_with_question(plain, QUESTIONS, 0).sequences
    passages = DriftText("short", ("Some words.", "And other ones."))
    assert [len(one.ids) for one in text_trie(own, passages, 99).sequences] == [1 + 11, 1 + 15]


def test_nor_of_a_patched_pair(closer):
    where = {"key": (0, 1)}
    pair = aligned(closer, ("ab is", "cb is"), (["x"], ["y"]), (where, where))
    assert len(pair) == 1 + 5 and pair.spans == {"key": (1,), "end": (5,)}
    assert (pair.answer, pair.other) == tuple((closer.convert_tokens_to_ids(one),) for one in "xy")


def test_nor_of_what_a_model_is_asked_as_judge(closer, llama):
    read = []

    class Judging(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.config = llama.hf, llama.hf.config

        def forward(self, input_ids, attention_mask):
            read.extend(ids[mask.bool()].tolist() for ids, mask in zip(input_ids, attention_mask, strict=True))
            return self.inner(input_ids=input_ids, attention_mask=attention_mask)

    class Worded:
        """Words of their own for yes and no, which a tokenizer of bytes lacks."""

        def encode(self, word, add_special_tokens):
            return [ord(word[1])]

        def __call__(self, *args, **settings):
            return closer(*args, **settings)

    LmJudge(Judging(), Worded()).judge(["Why?"], ["So</s>"], [References()])
    assert len(read) == 2 and sorted(closer.decode(ids) for ids in read) == [
        "<s>Q: Why?\nA: So</s>\nHelpful:",
        "<s>Q: Why?\nA: So</s>\nTrue:",
    ]
    # A judged text cannot close itself: its "</s>" is read as four letters.
    assert not any(CLOSE in ids or PAD in ids for ids in read)


def test_a_tokenizer_that_puts_nothing_behind_a_text_is_left_alone():
    text = prompt_format(byte_tokenizer(), "qa")
    for bos in (True, False):
        tokenizer = byte_tokenizer(bos=bos)
        whole = tuple(tokenizer("Q: Why?\nA: So", add_special_tokens=True)["input_ids"])
        assert encode(tokenizer, text, "Why?", "So").ids == whole
    twice = byte_tokenizer()
    twice.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<s> <s> $A", special_tokens=NAMES)
    assert encode(twice, text, "Why?", "So").ids == (START, *byte_tokenizer()("Q: Why?\nA: So")["input_ids"])


def test_the_base_model_scores_alike_under_both_tokenizers(closing_folder, llama_folder, tmp_path):
    data = questions(tmp_path / "some.jsonl")
    scores = []
    for folder in (llama_folder, closing_folder):
        config = resolve("quick", model=folder, data=data, **RUN)
        bench = set_up(config, locus_data(data), lambda what, share: None)
        scores.append({name: part.base.logprobs for name, part in bench.parts.items()})
    assert all(np.array_equal(scores[0][name], scores[1][name]) for name in scores[0])


def locus_data(path: str) -> Dataset:
    from locus import behaviours as datasets

    return datasets.load(path)


# --- questions as text


@pytest.mark.parametrize("prompt", ["qa", "primer"])
def test_a_question_that_would_close_its_own_turn_is_refused(llama_folder, tmp_path, prompt):
    data = questions(tmp_path / "some.jsonl", html="What does </s> mean in HTML?", plain="What does <b> mean?")
    config = resolve("quick", model=llama_folder, data=data, prompt=prompt, **{**RUN, **EVERY})
    with pytest.raises(UserError, match=r"special tokens.*html \(</s>\)") as told:
        set_up(config, locus_data(data), lambda what, share: None)
    assert "plain" not in told.value.received
    # In the format bare the question is the whole prompt, and a special token in it is meant.
    set_up(config.model_copy(update={"prompt": "bare"}), locus_data(data), lambda what, share: None)


# --- longer than the context


EVERY = {"train": None, "validation": None, "test": None}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Families that fail beyond 512 tokens, and that say something all the same; and with a weight missing."""
    made = {}
    for family in ("llama", "gpt2"):
        folder = tmp_path_factory.mktemp(family)
        tiny(family).hf.save_pretrained(folder)
        tiny(family).tokenizer.save_pretrained(folder)
        made[family] = str(folder)
    broken = tmp_path_factory.mktemp("broken") / "model"
    shutil.copytree(made["llama"], broken)
    weights = safetensors.torch.load_file(broken / "model.safetensors")
    del weights["model.norm.weight"]  # whole to look at, and refused once it is loaded
    safetensors.torch.save_file(weights, broken / "model.safetensors", {"format": "pt"})
    return made | {"broken": str(broken)}


@pytest.mark.parametrize("family", ["gpt2", "llama", "broken"])
def test_questions_beyond_the_context_are_named_before_weights_load(folders, tmp_path, family):
    # <s>, "Q: " (3), the question, "\nA:" (3) and " yes" (4): 11 beside the question, of which 501 letters fit and 502 do not.
    data = questions(tmp_path / "some.jsonl", fits="a" * 501, longer="a" * 502, longest="a" * 1500)
    config = resolve("quick", model=folders[family], data=data, prompt="qa", **{**RUN, **EVERY})
    with pytest.raises(UserError, match="at most 512 tokens") as told:
        set_up(config, locus_data(data), lambda what, share: None)
    assert told.value.received == "longer (513 tokens), longest (1,511 tokens)"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_question_that_just_fits_is_read(folders, tmp_path, family):
    data = questions(tmp_path / "some.jsonl", fits="a" * 501)
    config = resolve("quick", model=folders[family], data=data, prompt="qa", **{**RUN, **EVERY})
    bench = set_up(config, locus_data(data), lambda what, share: None)
    assert max(len(one.ids) for part in bench.parts.values() for one in part.trie.sequences) == 512
    assert all(np.isfinite(part.base.logprobs).all() for part in bench.parts.values())


def test_what_is_added_to_a_question_counts(folders, tmp_path):
    """A primer, another question behind the answer, room for what is said, passages of text: all are named together."""
    texts = {f"q{number:02}": f"{number:02}" + "a" * 398 for number in range(24)}
    data = tmp_path / "some.jsonl"
    lines = [{"id": name, "question": text, "true": ["yes"], "false": ["no"], "group": name} for name, text in texts.items()]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {**RUN, **EVERY, "text_tokens": 600, "judge": "blind", "max_new_tokens": 106, "features": "next_question"}
    config = resolve("quick", model=folders["gpt2"], data=str(data), prompt="qa", **settings)
    with pytest.raises(PreconditionsError) as told:
        set_up(config, locus_data(str(data)), lambda what, share: None)
    said, probed, text = told.value.errors
    # <s>Q: QUESTION\nA: has 407 tokens and leaves room for 105; the test questions speak, a fifth of 24.
    assert "106 new tokens" in said.expected and said.received.count("(513 tokens)") == 5
    # <s>Q: QUESTION A: yes Q: QUESTION: 1 + 3 + 400 + 7 + 4 + 400.
    assert "next_question" in probed.expected and "(815 tokens)" in probed.received and "and 9 more" in probed.received
    assert "text_tokens=512" in text.remedy and text.received == "600 tokens"
    primed = config.model_copy(update={"prompt": "primer", "judge": "none", "text_tokens": 16, "features": "answer"})
    with pytest.raises(UserError, match=r"with the prompt primer and an answer have at most 512 tokens.*and 14 more"):
        set_up(primed, locus_data(str(data)), lambda what, share: None)


def test_pairs_beyond_the_context_are_named(folders, tmp_path):
    from locus.patch import find
    from locus.patching.settings import PatchConfig

    rows = [{"clean": f"{one}[[b]] is", "corrupted": f"{one}[[c]] is", "answer": "x", "other": "y"} for one in ("a" * 600, "d")]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [len(pair) for pair in load_pairs(str(tmp_path / "pairs.jsonl"), byte_tokenizer())] == [605, 6]
    config = PatchConfig(task=str(tmp_path / "pairs.jsonl"), model=folders["gpt2"])
    with pytest.raises(UserError, match=r"at most 512 tokens.*'aaaaa.*\(605 tokens\)"):
        find(config, tmp_path / "OUT")


def test_a_judge_leaves_unscored_what_it_cannot_read_whole():
    class Worded:
        def __init__(self):
            self.inner = byte_tokenizer()

        def encode(self, word, add_special_tokens):
            return [ord(word[1])]

        def __call__(self, *args, **settings):
            return self.inner(*args, **settings)

    gpt2 = tiny("gpt2")
    judge = LmJudge(gpt2.hf, Worded(), min_mass=0.0)
    # "<s>Q: Why?\nA: " has 12 tokens, "\nHelpful:" 9: 491 letters are read, 492 are not.
    fits, longer = judge.judge(["Why?"] * 2, ["a" * 491, "a" * 492], [References()] * 2)
    assert fits.scored and not longer.scored
    assert "513 tokens" in longer.reason and "512" in longer.reason


def test_every_family_says_how_much_it_reads():
    from transformers import BloomConfig, MptConfig, OPTConfig

    from locus.models.layout import UNLIMITED, context

    assert [context(configuration(family)) for family in ("llama", "gpt2", "gpt_neox", "gemma3")] == [512] * 4
    assert context(GPT2Config(n_positions=64)) == context(OPTConfig(max_position_embeddings=64)) == 64
    assert context(MptConfig(max_seq_len=64)) == 64 and context(BloomConfig()) == UNLIMITED
    model = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=384, n_embd=32, n_layer=1, n_head=4, n_positions=64, **ENDS))
    assert Model(model, byte_tokenizer(), "short").context == 64
    assert context(LlamaConfig(**SMALL)) == 512


# --- chat templates


@pytest.fixture
def tomorrow(monkeypatch):
    """Transformers' templates read another day from the clock."""

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2031, 12, 24, 8, 30)

    return lambda: monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)


USUAL = (
    PLAIN,
    "{{ bos_token }}{% for m in messages %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endfor %}",
    "{%- set ns = namespace(n=0) -%}{% for m in messages %}{% set ns.n = ns.n + 1 %}<s>{{ m.role }}\n{{ m.content | trim }}</s>\n"
    "{% if ns.n > 3 %}{% break %}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}",
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}"
    "{{ m.content }}{% endif %}{% endfor %}{{ tools | tojson }}",
)


@pytest.mark.parametrize("source", USUAL)
def test_templates_without_a_date_are_rendered_as_transformers_does(source):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = source
    talk = [{"role": "user", "content": "{question}"}]
    text = prompt_format(tokenizer)
    assert text.template == tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert text == PromptFormat("chat", text.template, "", False) and not text.notices
    # What is hashed is what the first edition hashed.
    assert text.record == {"name": "chat", "template": text.template, "joint": "", "special_tokens": False}


def test_the_date_is_the_plans_on_every_day(tomorrow):
    source = "Today is {{ strftime_now('%A, %d %b %Y') }}. " + PLAIN
    text = chat(source)
    assert text.template == "Today is Friday, 26 Jul 2024. <s>{question}</s>|"
    (said,) = text.notices
    assert "writes a date" in said and "2024-07-26" in said
    tomorrow()
    assert chat(source).template == text.template
    assert chat(source, day=date(2025, 1, 2)).template == "Today is Thursday, 02 Jan 2025. <s>{question}</s>|"


@pytest.mark.parametrize(
    ("head", "usual", "other"),
    [
        # As Llama 3.1 and 3.2 have it: a default that is the date, or that is read from the clock.
        ("{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}", "26 Jul 2024", "02 Jan 2025"),
        (
            "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}",
            "26 Jul 2024",
            "02 Jan 2025",
        ),
        # A default that is no date, or none: nothing is written that the template would not write by itself.
        ("{% if not date_string is defined %}{% set date_string = 'long ago' %}{% endif %}", "long ago", "long ago"),
        ("", "", ""),
    ],
)
def test_a_date_that_is_a_variable_is_set_too(head, usual, other):
    source = head + "{% if date_string is defined %}{{ date_string }}{% endif %} " + PLAIN
    assert chat(source).template == f"{usual} <s>{{question}}</s>|"
    assert chat(source, day=date(2025, 1, 2)).template == f"{other} <s>{{question}}</s>|"
    assert bool(chat(source).notices) == (usual != other)
    assert chat(source, variables={"date_string": "never"}).template == "never <s>{question}</s>|"


@pytest.fixture(scope="module")
def dated(llama_folder, tmp_path_factory):
    """A model whose chat template writes the date, and its run."""
    folder = tmp_path_factory.mktemp("dated") / "model"
    shutil.copytree(llama_folder, folder)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }} " + PLAIN
    tokenizer.save_pretrained(folder)
    out = folder.parent / "RUN"
    config = resolve("quick", model=str(folder), **RUN)
    with pytest.warns(UserWarning, match="writes a date"):
        audit(config, out, sign=False)
    return config, out


def test_a_run_goes_on_the_next_day(dated, tomorrow, tmp_path):
    config, out = dated
    run = Path(shutil.copytree(out, tmp_path / "RUN"))
    plan = json.loads((run / "plan.json").read_text())
    assert plan["prompt"]["template"].startswith("26 Jul 2024 ") and plan["config"]["template_date"] == "2024-07-26"
    before = plan["sha256"]
    tomorrow()
    audit(config, run, sign=False)
    assert json.loads((run / "plan.json").read_text())["sha256"] == before
    with pytest.raises(UserError, match="template_date: '2024-07-26' there, '2025-01-02' now"):
        audit(config.model_copy(update={"template_date": date(2025, 1, 2)}), run, sign=False)


def test_a_run_of_the_first_edition_that_wrote_the_day_is_told_why_it_cannot_go_on(dated, tmp_path):
    config, out = dated
    run = Path(shutil.copytree(out, tmp_path / "RUN"))
    plan = json.loads((run / "plan.json").read_text())
    plan["schema"], plan["sha256"] = "locus-plan/1", "0" * 64
    del plan["config"]["template_date"], plan["config"]["template_variables"]
    plan["prompt"]["template"] = plan["prompt"]["template"].replace("26 Jul 2024", "05 Jan 2026")
    (run / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(UserError, match="another prompt than on the day the run was begun"):
        audit(config, run, sign=False)


SWITCHED = PLAIN + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
OPEN = PLAIN.replace("|", "|<think>\n")
DEFAULT_OFF = "{% if thinking %}Think in <think></think>. {% endif %}" + PLAIN
SET_FALSE = "template_variables={enable_thinking=false}"


@pytest.mark.parametrize(
    ("source", "variables", "wanted"),
    [
        (SWITCHED, {}, ["lets the model begin with a thought", SET_FALSE]),  # as Qwen 3
        (SWITCHED, {"enable_thinking": False}, []),
        (OPEN, {}, ["leaves a thought open", "no variable"]),  # as the newer R1
        (OPEN.replace("<think>\n", "{% if enable_thinking is not false %}<think>\n{% endif %}"), {}, ["open", SET_FALSE]),
        (PLAIN.replace("</s>", "</s>{# </think> #}"), {}, ["begin with a thought", "no variable"]),
        (PLAIN.replace("|", "<|channel|>analysis").replace("analysis", "{{ 'final' or '<|channel|>analysis' }}"), {}, ["begin"]),
        (DEFAULT_OFF, {}, []),  # as Granite
        (DEFAULT_OFF, {"thinking": True}, []),  # asked for
        (OPEN.replace("<think>", "[THINK]"), {}, ["leaves a thought open"]),
        (PLAIN, {}, []),
    ],
)
def test_a_template_that_leaves_a_thought_open_is_told_of(source, variables, wanted):
    said = chat(source, variables=variables).notices
    assert len(said) == bool(wanted)
    assert all(part in said[0] for part in wanted)


def test_template_variables_are_what_the_template_reads():
    assert chat(SWITCHED, variables={"enable_thinking": False}).template == "<s>{question}</s>|<think>\n\n</think>\n\n"
    (said,) = chat(SWITCHED, variables={"enable_thinking": True}).notices
    assert said == "The template variable enable_thinking changes nothing of the prompt."
    for name in ("enable_thinkin", "messages", "add_generation_prompt"):
        with pytest.raises(UserError, match=name):
            chat(SWITCHED, variables={name: False})
    with pytest.raises(UserError, match="prompt format 'qa'"):
        prompt_format(byte_tokenizer(), variables={"enable_thinking": False})


def test_settings_of_templates_are_read_strictly(tmp_path):
    (tmp_path / "own.toml").write_text("template_date = 2025-01-02\n[template_variables]\nenable_thinking = false\nlevel = 3\n")
    config = resolve("quick", tmp_path / "own.toml")
    assert config.template_date == date(2025, 1, 2)
    again = AuditConfig(**json.loads(config.model_dump_json()))
    assert again == config and again.template_variables == {"enable_thinking": False, "level": 3}
    for wrong in ("today", "20250102", "2025-02-30", "2025-W01-4", 0, 1.5, datetime(2025, 1, 2), None):
        with pytest.raises(UserError, match="template_date"):
            resolve("quick", None, **{"template_date": wrong} if wrong is not None else {"template_date": ()})
    for wrong in ("a", {"a b": 1}, {"a": [1]}, {"a": float("nan")}, {"a": 1 << 64}, {"a": date(2025, 1, 2)}, {"a": None}):
        with pytest.raises(UserError, match="template_variables"):
            resolve("quick", template_variables=wrong)
    planted = resolve("quick", model="planted:localized:0", template_variables={"a": 1})
    with pytest.raises(UserError, match="only where the model's chat template is used"):
        early(planted)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}" + PLAIN, "does not end"),
        ("{{ 'a' * 10 ** 11 }}" + PLAIN, "MemoryError"),
        ("{{ 'a' * 10 ** 7 }}" + PLAIN, "characters"),
        ("{{ 9 ** (9 ** 9) }}" + PLAIN, "does not end|fails|ends the process"),
        ("{% if", "TemplateSyntaxError"),
        ("{{ raise_exception('system only') }}", "system only"),
        ("{{ messages.__class__.__mro__ }}" + PLAIN, "SecurityError"),
        ("{{ messages[9].content + 1 }}" + PLAIN, "fails"),
        ("{{ '\\ud800' }}" + PLAIN, "surrogates"),
        ("hello", "drops, repeats or alters"),
        (PLAIN + PLAIN, "drops, repeats or alters"),
        ("{question}" + PLAIN, "drops, repeats or alters"),
        (PLAIN.replace("m.content", "m.content | upper"), "drops, repeats or alters"),
        (PLAIN.replace("m.content", "m.content | lower"), "drops, repeats or alters"),
        (PLAIN.replace("m.content", "m.content | e"), "drops, repeats or alters"),
        (PLAIN.replace("m.content", "m.content | tojson"), "drops, repeats or alters"),
        (PLAIN.replace("m.content", "m.content | replace('\\n', ' ')"), "drops, repeats or alters"),
        (PLAIN.replace("m.content", "m.content[:20]"), "drops, repeats or alters"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_in_a_sentence(source, why, monkeypatch):
    monkeypatch.setattr("locus.behaviours.template.SECONDS", 3.0)
    with pytest.raises(UserError, match=why) as told:
        chat(source)
    assert "\n" not in str(told.value) and "chat template" in told.value.expected


def test_a_template_that_draws_is_the_same_every_time():
    assert chat("{{ range(10 ** 5) | random }} " + PLAIN).template == chat("{{ range(10 ** 5) | random }} " + PLAIN).template


def test_several_templates_without_a_default_are_refused():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = {"tool_use": PLAIN}
    with pytest.raises(UserError, match="no default"):
        prompt_format(tokenizer)
    tokenizer.chat_template = {"tool_use": "no", "default": PLAIN}
    assert prompt_format(tokenizer).template == "<s>{question}</s>|"


def test_an_answer_that_the_template_does_not_show_ends_no_text(llama):
    """What stands behind an answer ends a text; where the answer is not to be found, nothing can be said to stand behind it."""
    end = chat("{% for m in messages %}{{ m.content }}<pad>{% endfor %}")
    hidden = chat("<s>{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}<pad>{% endif %}{% endfor %}")
    assert (end.closing, hidden.closing) == ("<pad>", "")
    assert end_tokens(llama, end) == {CLOSE, PAD} and end_tokens(llama, hidden) == {CLOSE}


def test_a_question_may_name_the_place_of_the_question():
    assert chat(PLAIN).prompt("Is {question} a word?") == "<s>Is {question} a word?</s>|"


def test_doctor_says_what_is_read_and_added(closing_folder, tmp_path):
    from locus.cli.doctor import examine

    folder = Path(shutil.copytree(closing_folder, tmp_path / "model"))
    tokenizer = closing(CLOSERS["a template's"])
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }} " + SWITCHED
    tokenizer.save_pretrained(folder)
    heard = io.StringIO()
    assert examine(Console(file=heard, width=300), str(folder))
    assert "up to 512 tokens" in heard.getvalue() and "puts <s> before a text, </s> behind it (left off)" in heard.getvalue()
    assert "writes a date" in heard.getvalue() and SET_FALSE in heard.getvalue()
