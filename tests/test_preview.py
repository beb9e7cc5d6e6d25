"""The preview: questions as the model will see them, token by token, on the command line as in Python."""

import inspect

import pytest
from typer.testing import CliRunner

import locus
from locus.behaviours.encoding import unclosed
from locus.behaviours.marked import marked
from locus.behaviours.prompts import encode, prompt_format
from locus.cli import behaviours as commands
from locus.cli.app import app
from locus.door.preview import BAR, shown
from locus.errors import UserError
from tests.shapes import SHAPES, write

RUNNER = CliRunner()


def test_tokens_make_up_the_text_and_those_of_the_answer_are_those_that_are_scored(model):
    text = prompt_format(model.tokenizer, "qa")
    prompt, answer = marked(model.tokenizer, text, "Où est le café?", "À côté.")
    sequence = encode(model.tokenizer, text, "Où est le café?", "À côté.")
    assert (len(prompt), len(prompt) + len(answer)) == (sequence.start, len(sequence.ids))
    whole = text.prompt("Où est le café?") + text.joint + "À côté."
    coded = unclosed(model.tokenizer, whole, text.special_tokens)
    seen, said = 0, ""
    for (_, end), one in zip(coded.offsets, (*prompt, *answer), strict=True):
        said += one if end > seen else ""
        seen = max(seen, end)
    assert said == whole[:seen]


def test_three_questions_are_shown_with_their_tokens(tmp_path):
    path = write(tmp_path / "made_up.jsonl", SHAPES["blimp"].content)
    model = locus.load("planted:localized:3")
    seen = locus.behaviour(path).preview(model, prompt="bare")
    assert [one.item.question for one in seen.items] == ["The cats", "A dog", "Ann has"]
    said = repr(seen)
    assert "3 questions in 3 groups" in said and "prompt format bare" in said
    assert said.count("asked") == said.count("unwanted") == 3
    for one in seen.items:
        assert "".join(one.prompt[1:]) == one.item.question and "".join(one.wanted[0]).strip() == one.item.wanted[0]
        assert BAR.join(one.unwanted[0]) in said
    many = locus.behaviour("antonym").preview(model, items=5, prompt="bare")
    assert len(many.items) == 5 and many.items[0].item.id != many.items[-1].item.id


def test_the_command_prints_what_the_library_says_and_takes_the_same(tmp_path):
    path = write(tmp_path / "made_up.jsonl", SHAPES["blimp"].content)
    done = RUNNER.invoke(app, ["behaviours", "show", f"blimp:{path}", "--model", "planted:localized:3", "--prompt", "bare"])
    assert done.exit_code == 0, done.output
    assert done.stdout.rstrip("\n") == repr(locus.behaviour(path).preview("planted:localized:3", prompt="bare"))
    theirs = inspect.signature(commands.show).parameters
    ours = inspect.signature(locus.Behaviour.preview).parameters
    assert [one for one in theirs if one != "path"] == [one for one in ours if one != "self"]
    assert all(theirs[one].default == ours[one].default for one in ours if one != "self")


def test_what_is_wrong_is_said_in_the_same_words(tmp_path):
    for more, call in (
        (["nowhere.jsonl"], lambda: locus.behaviour("nowhere.jsonl")),
        (["antonym", "--prompt", "odd"], lambda: locus.behaviour("antonym").preview(prompt="odd")),
        (["antonym", "--items", "0"], lambda: locus.behaviour("antonym").preview(items=0)),
        (["antonym", "--model", "nowhere/"], lambda: locus.behaviour("antonym").preview("nowhere/")),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert str(RUNNER.invoke(app, ["behaviours", "show", *more]).exception) == str(error.value)


def test_a_strangers_text_is_harmless_where_it_is_shown(tmp_path):
    row = {
        "sentence_good": "The \x1b[31m cats\u202e sleep.",
        "sentence_bad": "The \x1b[31m cats\u202e sleeps.",
        "UID": "\x1b]0;x\x07",
    }
    path = write(tmp_path / "made_up.jsonl", [row])
    said = repr(locus.behaviour(path).preview("planted:localized:3", prompt="bare"))
    done = RUNNER.invoke(app, ["behaviours", "show", path, "--model", "planted:localized:3", "--prompt", "bare"])
    for text in (said, done.stdout):
        assert "\x1b" not in text and "\u202e" not in text and "\\x1b[31m" in text


def test_of_a_long_text_the_first_and_last_tokens_are_shown():
    text = shown(tuple(f"t{n}" for n in range(1000)))
    assert text.startswith(f"t0{BAR}t1{BAR}") and text.endswith("t999") and "900 tokens" in text and "t500" not in text


def test_a_tokenizer_comes_without_weights(llama_folder, monkeypatch):
    from locus.models import load as loading

    ids = loading.load(llama_folder).tokenizer("Where is it?")["input_ids"]

    def never(*_, **__):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(loading, "fill", never)
    assert loading.load_tokenizer(llama_folder)("Where is it?")["input_ids"] == ids
    assert locus.behaviour("antonym").preview(llama_folder, prompt="qa").items
