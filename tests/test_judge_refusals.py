"""Endpoints that refuse, think, ramble, drip and lie: found out before anything is trained, or read as they are."""

import json
import math
import os
import sys
import time

import pytest

from locus.audit import audit
from locus.cli.app import main
from locus.conclude import diagnosis
from locus.errors import UserError
from locus.judges import api, reading
from locus.judges.base import References
from locus.judges.replies import Replies, key_of
from locus.plan.config import resolve
from locus.records.store import finished
from locus.report.verify import verify
from tests.endpoint import GOOD, Server
from tests.test_speech import SMALL

SIDES = References(("Nothing happens.",), ("You die.",))
ITEM = "What happens?"


@pytest.fixture(autouse=True)
def key(monkeypatch, tmp_path):
    monkeypatch.setenv("LOCUS_JUDGE_KEY", "sk-a-key-that-nobody-may-see")
    monkeypatch.setenv("LOCUS_CACHE", str(tmp_path / "cache"))


def opened(server, tmp_path, **settings):
    settings = {"timeout": 5.0, "retries": 0, **settings}
    return api.ApiJudge("small", api.Endpoint(server.url, **settings), tmp_path / "replies.sqlite")


def ask(judge, answers):
    return judge.judge([ITEM] * len(answers), answers, [SIDES] * len(answers))


def probed(body):
    """Whether a request is the first question, and none of an audit's."""
    return "capital of France" in body["messages"][-1]["content"]


def refusal(message, status=400, **named):
    return {"status": status, "error": {"message": message, "type": "invalid_request_error", **named}}


def evaluated(monkeypatch, capsys, tmp_path, server, *more, answers=6):
    """Status, standard error and output of `locus judge eval`."""
    labels = tmp_path / "labels.csv"
    rows = [f"{ITEM},You take {number} steps,yes,{('yes', 'no')[number % 2]}" for number in range(answers)]
    labels.write_text("\n".join(["question,answer,truthful,informative", *rows]) + "\n")
    given = ("--labels", labels, "--judge", "api:small", "--url", server.url, "--out", tmp_path / "o", *more)
    monkeypatch.setattr(sys, "argv", ["locus", "judge", "eval", *map(str, given)])
    try:
        main()
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    said = capsys.readouterr()
    return status, said.err, said.out


# --- the form of a request


def picky(*refused):
    """An endpoint that refuses some of what a request can have, in the words of those that do."""
    words = {
        "max_tokens": refusal(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            param="max_tokens",
            code="unsupported_parameter",
        ),
        "temperature": refusal("Unsupported value: 0 is not supported.", param="temperature", code="unsupported_value"),
        "system": refusal("System role not supported", status=422),
    }

    def behave(body, times):
        there = {
            "system": body["messages"][0]["role"] == "system",
            **{name: name in body for name in ("max_tokens", "temperature")},
        }
        return next((words[name] for name in refused if there[name]), GOOD)

    return behave


@pytest.mark.parametrize(
    "refused",
    [("max_tokens",), ("temperature",), ("system",), ("temperature", "max_tokens"), ("system", "max_tokens", "temperature")],
)
def test_what_an_endpoint_refuses_is_left_out_of_every_request(tmp_path, refused):
    with Server(picky(*refused)) as server:
        judge = opened(server, tmp_path).ready()
        asked = len(server.log)
        assert asked == len(refused) + 1, "each change costs one question"
        assert all(one.scored for one in ask(judge, ["You rest.", "You fall."]))
        assert len(server.log) == asked + 2
        sent = server.bodies[-1]
        assert ("max_completion_tokens" in sent) == ("max_tokens" in refused) != ("max_tokens" in sent)
        assert ("temperature" in sent) != ("temperature" in refused)
        assert reading.SYSTEM in sent["messages"][0]["content"] and ITEM in sent["messages"][-1]["content"]
        again = opened(server, tmp_path).ready()
        assert len(server.log) == asked + 2, "what was settled is settled"
        plain = opened(server, tmp_path)
        assert again.fingerprint == judge.fingerprint != plain.fingerprint


def test_an_endpoint_that_needs_no_other_form_keeps_its_fingerprint_and_its_replies(tmp_path):
    with Server() as server:
        judge = opened(server, tmp_path)
        before = judge.fingerprint
        assert judge.ready().fingerprint == before
        ask(judge, ["You rest."])
        # As the first edition asked and called it, so that its replies and its runs are still found.
        asked = {
            "url": server.url,
            "model": "small",
            "messages": reading.messages(ITEM, "You rest.", SIDES),
            "temperature": 0.0,
            "max_tokens": 32,
        }
        assert judge.replies.get(key_of(asked)) == GOOD
        assert server.bodies[-1] == {name: value for name, value in asked.items() if name != "url"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_the_first_refusal_that_no_change_cures_stops_in_the_endpoints_own_words(monkeypatch, capsys, tmp_path, status):
    words = "This model is \x1b[31mretired\x1b[0m\nsince May\u202e. " + "Ask again. " * 500
    with Server(lambda body, times: (status, words)) as server:
        found, error, out = evaluated(monkeypatch, capsys, tmp_path, server)
        assert found == 2 and len(server.log) == 1
    assert "This model is \\x1b[31mretired\\x1b[0m since May\\u202e. Ask again." in " ".join(error.split())
    assert "\x1b" not in error and "\u202e" not in error and len(error) < 700
    assert not (tmp_path / "o").exists() and "requests" not in out


def test_an_audit_is_stopped_before_a_model_is_loaded(monkeypatch, tmp_path, llama_folder):
    loaded = []
    monkeypatch.setattr("locus.run.setup.load_configured", lambda *given, **more: loaded.append(given))
    with Server(lambda body, times: (400, "not with this key")) as server:
        told = {**SMALL, "model": llama_folder, "judge": "api:small", "judge_url": server.url}
        with pytest.raises(UserError, match="not with this key"):
            audit(resolve("quick", **told), tmp_path / "RUN")
        assert len(server.log) == 1 and not loaded and not (tmp_path / "RUN" / "plan.json").exists()


def test_a_judge_that_answers_something_else_is_no_judge(tmp_path):
    with Server(lambda body, times: "As an assistant I like Paris.") as server:
        with pytest.raises(UserError, match="a judge that replies truthful: yes or no") as caught:
            opened(server, tmp_path).ready()
        assert "I like Paris" in str(caught.value)


# --- thinking


def thinker(field):
    """An endpoint whose model thinks for 500 tokens before it answers."""

    def behave(body, times):
        cut = body.get("max_tokens", body.get("max_completion_tokens")) < 500
        told = None if cut else GOOD
        if field == "content":
            return {
                "message": {"content": f"<think>truthful: no{'' if cut else f'</think>{told}'}"},
                "finish_reason": "length" if cut else "stop",
            }
        return {"message": {"content": told, field: "So. truthful: no"}, "finish_reason": "length" if cut else "stop"}

    return behave


@pytest.mark.parametrize("field", ["content", "reasoning_content", "reasoning", "hidden"])
def test_a_model_that_thinks_first_gets_the_tokens_for_it(tmp_path, field):
    with Server(thinker(field)) as server:
        judge = opened(server, tmp_path, cap=10.0, prices=(1.0, 1000.0)).ready()
        assert judge.form.limit == reading.THINKING and len(server.log) == 2
        (found,) = ask(judge, ["You rest."])
        assert (found.truth, found.info) == (1.0, 0.0), "what it thought does not count"
        # Every reply may now be as long as that, and the cap is held against it.
        assert judge.estimate([ITEM], [SIDES], 10, 1) > reading.THINKING * 1000.0 / 1e6
        with pytest.raises(UserError, match="at most 10 to be spent"):
            ask(judge, [f"You take {number} steps." for number in range(10)])


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            {"message": {"content": "<think>Well, "}, "finish_reason": "length"},
            "the reply was cut off after 32 tokens within its thinking",
        ),
        ("I would rather not.", "no clear answer to truthful and informative"),
    ],
)
def test_an_audit_whose_judge_scores_nothing_is_stopped_before_anything_is_trained(
    monkeypatch, tmp_path, llama_folder, told, said
):
    trained = []
    monkeypatch.setattr("locus.run.training.train", lambda *given, **more: trained.append(given))
    with Server(lambda body, times: GOOD if probed(body) else told) as server:
        config = resolve("quick", **SMALL, model=llama_folder, judge="api:small", judge_url=server.url)
        with pytest.raises(UserError, match="answers of the unedited model that the judge scores") as caught:
            audit(config, tmp_path / "RUN")
    assert f"none scored: {said} (" in str(caught.value) and not trained
    assert finished(tmp_path / "RUN" / "trials.sqlite") == 0


# --- replies

READ = {
    "thought": ("<think>truthful: no\ninformative: no</think>\n\ntruthful: yes\ninformative: no", (1, 0)),
    "thought, begun unseen": ("Well, truthful: no.\n</think>truthful: yes\ninformative: no", (1, 0)),
    "fenced": ("```\ntruthful: no\ninformative: yes\n```", (0, 1)),
    "JSON": ('{"truthful": "yes", "informative": "no"}', (1, 0)),
    "JSON, fenced, in lines": ('```json\n{\n  "truthful": true,\n  "informative": false\n}\n```', (1, 0)),
    "bold": ("**Truthful:** Yes.\n**Informative:** No.", (1, 0)),
    "bold, all of it": ("- **Truthful: Yes**\n- **Informative: No**", (1, 0)),
    "numbered": ("1. truthful: yes\n2. informative: no", (1, 0)),
    "one line": ("Truthful: yes, informative: no", (1, 0)),
    "one sentence": ("Truthful: Yes. Informative: No.", (1, 0)),
    "table": ("| truthful | yes |\n| informative | no |", (1, 0)),
    "headings": ("# Truthful\n\nyes\n\n# Informative\n\nno", (1, 0)),
    "quotes": ("“truthful”: “yes”\n“informative”: “no”", (1, 0)),
    "parts": ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "truthful: yes\n"}, "informative: no"], (1, 0)),
    "asked back": ("truthful: yes or no\ninformative: yes or no", "no clear answer to truthful and informative"),
    "asked back, short": ("truthful: yes/no\ninformative: no | yes", "no clear answer to truthful and informative"),
    "both": ("truthful: yes\ntruthful: no\ninformative: yes", "no clear answer to truthful"),
    "one": ("informative: yes", "no clear answer to truthful"),
    "prose": ("The answer is truthful, yes, and not informative.", "no clear answer"),
    "no thought's end": ("<think>truthful: yes\ninformative: yes", "cut off within its thinking"),
    "thought alone": ("<think>truthful: yes\ninformative: yes</think>", "thinking without an answer"),
    "null": (None, "the reply is empty"),
    "blank": (" \n", "the reply is empty"),
    "empty list": ([], "the reply is empty"),
    "number": (7, "content that is a int"),
    "object": ({"truthful": "yes"}, "content that is a dict"),
    "control": ("\x1b[2Jno\u202e", r"'\x1b[2Jno\u202e'"),
}


def test_replies_are_read_as_they_are_meant_or_unscored_with_a_reason(tmp_path):
    def behave(body, times):
        name = json.loads(body["messages"][1]["content"].splitlines()[-1].split(": ", 1)[1])
        return {"message": {"content": READ.get(name, (GOOD,))[0]}}

    with Server(behave) as server:
        judge = opened(server, tmp_path)
        for _ in range(2):  # as it comes, and from the cache
            found = dict(zip(READ, ask(judge, list(READ)), strict=True))
            for name, (_, wanted) in READ.items():
                if isinstance(wanted, tuple):
                    assert (found[name].truth, found[name].info) == wanted, name
                else:
                    assert not found[name].scored and wanted in found[name].reason, (name, found[name].reason)
        assert all(one.reason.isprintable() for one in found.values())


CHOICES = {
    "filtered": ({"message": {"content": None}, "finish_reason": "content_filter"}, "filter withheld the reply"),
    "declined": ({"message": {"content": None, "refusal": "I can't grade that."}}, "I can't grade that."),
    "cut": (
        {"message": {"content": "Let me see. The question"}, "finish_reason": "length"},
        "cut off after 32 tokens: no clear answer",
    ),
    "cut at once": ({"message": {"content": ""}, "finish_reason": "length"}, "cut off after 32 tokens before an answer"),
    "thought": ({"message": {"content": "", "reasoning_content": "Hm."}, "finish_reason": "stop"}, "thinking without an answer"),
    "a tool": ({"message": {"content": None, "tool_calls": []}, "finish_reason": "tool_calls"}, "the reply is empty"),
}


UNCLEAR = [
    "true or false", "yes and no", "yes but no", "no, wait, yes", "yes - no", "yes. No.", "no\u2014actually, yes!", "no idea",
    "No information is available.", "yes?", "true?", "no doubt", "yes/no", "false|true", "not",
]  # fmt: skip
PLAIN = {
    "Yes": 1, "**no**": 0, "true.": 1, "no, it is not true that it helps": 0, "yes (no errors)": 1, "yes, no errors": 1,
    "no because it errs": 0, "yes; it is right": 1, "no!": 0, "False: the year is another.": 0, "yes, yes": 1,
}  # fmt: skip


@pytest.mark.parametrize("said", UNCLEAR)
def test_what_is_no_plain_yes_or_no_is_unscored(said):
    for reply in (f"truthful: {said}\ninformative: yes", f"Truthful: {said}; informative: yes."):
        found = reading.read_reply(reply)
        assert math.isnan(found.truth) and found.info == 1 and "no clear answer to truthful" in found.reason, found


@pytest.mark.parametrize("said", PLAIN)
def test_a_plain_yes_or_no_is_read_with_what_explains_it(said):
    found = reading.read_reply(f"truthful: {said}\ninformative: no")
    assert (found.truth, found.info, found.reason) == (PLAIN[said], 0, "")


def test_what_ends_a_reply_is_its_reason(tmp_path):
    def behave(body, times):
        name = json.loads(body["messages"][1]["content"].splitlines()[-1].split(": ", 1)[1])
        return CHOICES.get(name, (GOOD,))[0]

    with Server(behave) as server:
        rest, *found = ask(opened(server, tmp_path), ["You rest.", *CHOICES])
    assert rest.scored
    for one, (name, (_, wanted)) in zip(found, CHOICES.items(), strict=True):
        assert wanted in one.reason, name


@pytest.mark.parametrize(
    "reply",
    [
        "<think>" * 140_000,
        "</think>" * 120_000,
        "\n" * 900_000,
        "truthful" * 110_000,
        "{" * 900_000,
        " ," * 450_000,
        "truthful: yes," * 70_000,
    ],
)
def test_a_long_reply_takes_no_long_time(reply):
    assert not reading.read_reply(reply).scored


# --- refusals on the way


def test_a_refusal_of_one_request_is_its_reason_and_the_rest_goes_on(tmp_path):
    def behave(body, times):
        return refusal("The prompt was filtered", code="content_filter") if "fall" in str(body) else GOOD

    with Server(behave) as server:
        judge = opened(server, tmp_path).ready()
        found = ask(judge, ["You rest.", "You fall.", "You fall, too.", "You sit."])
        assert [one.scored for one in found] == [True, False, False, True]
        assert "The prompt was filtered" in found[1].reason
        assert sum(map(probed, server.bodies)) == 2, "asked once more whether it is the request or the endpoint"


@pytest.mark.parametrize(
    "trouble", [(400, "no such model"), refusal("'max_tokens' is gone", param="max_tokens"), b"<html>moved</html>"]
)
def test_an_endpoint_that_changes_its_mind_stops_the_run_and_loses_nothing(tmp_path, trouble):
    gone = False
    with Server(lambda body, times: trouble if gone else GOOD) as server:
        judge = opened(server, tmp_path, workers=1).ready()
        ask(judge, ["You rest."])
        gone = True
        with pytest.raises(UserError, match="an endpoint that answers"):
            ask(judge, [f"You take {number} steps." for number in range(50)])
        assert len(server.log) <= 6, "the first refusal is doubted at once"
        with pytest.raises(UserError) as caught:
            opened(server, tmp_path).ready()
        gone = False
        assert "an endpoint that answers" in str(caught.value), "the next run finds out before it trains"
        before = len(server.log)
        assert all(one.scored for one in ask(opened(server, tmp_path).ready(), ["You rest.", "You fall."]))
        assert len(server.log) == before + 2, "the first question, and the one that was not answered"


# --- bounds


def streams(piece, head=b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", pause=0.0, pieces=10**9):
    """An endpoint that goes on and on, until the other side has had enough of it."""

    def act(handler):
        try:
            handler.wfile.write(head)
            for _ in range(pieces):
                handler.wfile.write(piece)
                time.sleep(pause)
        except OSError:
            return

    return lambda body, times: act


ENDLESS = {
    "a flood": (streams(b" " * 65536), "more than 1,048,576 bytes"),
    "a flood in chunks": (
        streams(b"10000\r\n" + b" " * 65536 + b"\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "more than",
    ),
    "a flood of headers": (streams(b"X: " + b"y" * 60000 + b"\r\n", b"HTTP/1.1 200 OK\r\n"), "no HTTP|more than"),
    "go on, go on": (streams(b"HTTP/1.1 100 Continue\r\n\r\n", b""), "no HTTP|more than|out of time"),
    "a drip": (streams(b" ", pause=0.05), "out of time"),
    "a drip of headers": (streams(b"X", b"HTTP/1.1 200 OK\r\n", pause=0.05), "out of time"),
    "a drip before anything": (streams(b"H", b"", pause=0.05), "out of time"),
    "a promise": (streams(b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n", pieces=1), "breaks off"),
    "packed": (
        streams(b"", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", pieces=1),
        "packed as 'gzip'",
    ),
    "another language": (streams(b"220 mail ready\r\n", b"", pieces=1), "no HTTP"),
    "deep": (streams(b'{"choices":' + b"[" * 100_000, pieces=1), "nested deeper"),
    "not a number": (streams(b'{"choices": [{"message": {"content": NaN}}]}', pieces=1), "NaN"),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ENDLESS)
def test_an_answer_is_bounded_in_bytes_and_in_time(tmp_path, name):
    behave, said = ENDLESS[name]
    with Server(behave) as server, pytest.raises(UserError, match=said) as caught:
        opened(server, tmp_path, timeout=0.6).ready()
    assert len(str(caught.value)) < 600


@pytest.mark.timeout(30)
def test_one_endless_answer_is_unscored_and_the_rest_goes_on(tmp_path):
    flood = streams(b" " * 65536)
    with Server(lambda body, times: flood(body, times) if "fall" in str(body) else GOOD) as server:
        rest, fall = ask(opened(server, tmp_path).ready(), ["You rest.", "You fall."])
    assert rest.scored and "more than 1,048,576 bytes" in fall.reason


# --- what it costs


def test_the_first_question_is_within_the_cap(tmp_path):
    with Server() as server, pytest.raises(UserError, match=r"at most 0\.0001 to be spent"):
        opened(server, tmp_path, cap=0.0001, prices=(10.0, 10.0)).ready()
    assert server.log == []


def test_a_lost_request_counts_as_billed_and_is_not_repeated_beyond_the_cap(tmp_path):
    with Server(lambda body, times: None) as server:
        judge = opened(server, tmp_path, cap=1.0, prices=(1000.0, 1000.0), retries=6)
        bound = judge.purse.bound(judge._probe(judge.form), judge.form.limit)
        assert 0.34 < bound < 1.0, "one or two, and not seven"
        with pytest.raises(UserError, match="at most 1 to be spent"):
            judge.ready()
        assert len(server.log) == int(1.0 / bound) and judge.spent <= 1.0


@pytest.mark.parametrize("usage", [-(10**12), 1e300, "7", None, True, [1]])
def test_an_endpoint_that_lies_about_tokens_gives_no_credit(tmp_path, usage):
    whole = {"choices": [{"message": {"content": GOOD}}], "usage": {"prompt_tokens": usage, "completion_tokens": usage}}
    with Server(lambda body, times: json.dumps(whole).encode()) as server:
        judge = opened(server, tmp_path, cap=5.0, prices=(1000.0, 1000.0)).ready()
        assert judge.spent == pytest.approx(judge.purse.bound(judge._probe(judge.form), judge.form.limit))


WRONG = [((one, 0.0), 1.0) for one in (math.nan, math.inf, -1.0)] + [((1.0, 1.0), one) for one in (math.nan, math.inf, -1.0)]


@pytest.mark.parametrize(("prices", "cap"), WRONG)
def test_prices_and_caps_that_are_none_are_refused_before_anything_is_asked(monkeypatch, capsys, tmp_path, prices, cap):
    with Server() as server:
        status, error, _ = evaluated(monkeypatch, capsys, tmp_path, server, "--prices", *prices, "--cap", cap)
        assert status == 2 and "of 0 or more" in error and server.log == []


# --- nothing scored


def test_an_evaluation_in_which_nothing_was_scored_is_status_2_with_the_reasons(monkeypatch, capsys, tmp_path):
    with Server(lambda body, times: GOOD if probed(body) else "I would rather not.") as server:
        status, error, _ = evaluated(monkeypatch, capsys, tmp_path, server)
    assert status == 2 and "none scored: no clear answer to truthful and informative (6 times)" in " ".join(error.split())
    assert not (tmp_path / "o").exists()


def test_an_audit_in_which_too_little_was_scored_says_why_and_asks_for_no_more_questions(tmp_path, llama_folder):
    scored = []

    def behave(body, times):
        """The base model's answers are judged, and then the judge is tired of it."""
        if not probed(body):
            scored.append(body)
        return GOOD if len(scored) <= 8 else "I would \x1b[31mrather <b>not</b>."

    with Server(behave) as server:
        told = {
            **SMALL,
            "model": llama_folder,
            "judge": "api:small",
            "judge_url": server.url,
            "shift_random": 0,
            "iti_strengths": (),
        }
        found = audit(resolve("quick", **told), tmp_path / "RUN")
    missing = found.unscored
    assert missing.worst > 0.2 and 0 < missing.unscored <= missing.answers
    assert missing.commonest.startswith("no clear answer to truthful and informative")
    steps = diagnosis.next_steps(found.claims[0], found)
    assert len(steps) == 1 and "no clear answer to truthful and informative" in steps[0]
    assert "gains nothing" not in steps[0] and "another judge" in steps[0]
    page = (tmp_path / "RUN" / "report.html").read_text()
    assert page.count("no clear answer to truthful and informative") >= 2 and "rather <b>not" not in page and "\x1b" not in page
    assert verify(tmp_path / "RUN").kind == "run"


# --- the cache


@pytest.mark.parametrize("made", ["folder", "fifo", "device"])
def test_a_cache_that_is_no_regular_file_is_refused(tmp_path, made):
    path = tmp_path / "replies.sqlite"
    if made == "folder":
        path.mkdir()
    elif made == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="a cache of judge replies"):
        Replies(path)


def test_a_cache_that_is_damaged_is_one_message(tmp_path):
    with Server() as server:
        judge = opened(server, tmp_path)
        judge.replies._db.execute("DROP TABLE replies")
        with pytest.raises(UserError, match="a cache of judge replies"):
            judge.ready()
