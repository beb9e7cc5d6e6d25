"""The key of a judge's endpoint: refused where it cannot be one, hidden, sent to one origin, and never in the way of a reply."""

import base64
import copy
import html
import json
import pickle
import re
import sys
from urllib.parse import quote

import pytest

from locus.cli.app import main
from locus.errors import UserError
from locus.judges import api, secret
from locus.judges.base import References
from tests.endpoint import GOOD, Server

SIDES = References(("Nothing happens.",), ("You die.",))
KEY = "sk-a\"b\\c/d&e<f>+g h'i=j~k"  # written differently everywhere


def opened(server, tmp_path, **settings):
    settings = {"timeout": 5.0, "retries": 0, **settings}
    return api.ApiJudge("small", api.Endpoint(server.url, **settings), tmp_path / "replies.sqlite")


def ask(judge, answers):
    return judge.judge(["What happens?"] * len(answers), answers, [SIDES] * len(answers))


def spelled(key):
    """A key as an endpoint may echo it."""
    raw = key.encode()
    plain = [key, repr(key), json.dumps(key), json.dumps(key).replace("/", "\\/"), html.escape(key), raw.hex()]
    quoted = [quote(key), quote(key, safe=""), re.sub("%..", lambda found: found.group().lower(), quote(key, safe=""))]
    coded = [base64.b64encode(before + raw + b"@host").decode() for before in (b"", b":", b"u:", b"me:")]
    return [*plain, *quoted, *coded, base64.urlsafe_b64encode(b":" + raw).decode()]


def core(coded):
    """What of base64 is the key's own, the ends aside."""
    return coded[4:-12]


# --- what can be a key


@pytest.mark.parametrize(
    "value",
    [
        "sk-real\u200bsecret",
        "sk-real-secret\n",
        " sk-real-secret",
        "sk-real-secret\t",
        "sk-reäl-secret",
        "sk-real\x1bsecret",
        " ",
        "k" * 5000,
    ],
    ids=["zero width", "newline", "blank", "tab", "umlaut", "escape", "only a blank", "long"],
)
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(monkeypatch, capsys, tmp_path, value):
    monkeypatch.setenv("LOCUS_JUDGE_KEY", value)
    monkeypatch.setenv("LOCUS_CACHE", str(tmp_path / "cache"))
    labels = tmp_path / "labels.csv"
    labels.write_text("question,answer,truthful,informative\nWhy?,So,yes,yes\n")
    with Server() as server:
        command = ["locus", "judge", "eval", "--labels", labels, "--judge", "api:m", "--url", server.url, "--out", tmp_path / "o"]
        monkeypatch.setattr(sys, "argv", [str(one) for one in command])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        assert stop.value.code == 2 and server.log == []
    assert "LOCUS_JUDGE_KEY" in said.err and "printable" in said.err
    assert not any(part in said.err + said.out for part in ("sk-", "secret", "kkkk"))


def test_a_key_is_hidden_wherever_it_is_held(monkeypatch, tmp_path):
    monkeypatch.setenv("LOCUS_JUDGE_KEY", KEY)
    held = secret.key()
    assert held.reveal() == KEY
    for shown in (repr(held), str(held), f"{held}", f"{[held]}", f"{held!r:>40}", json.dumps(held, default=str)):
        assert "sk-a" not in shown
    with pytest.raises(TypeError):
        vars(held)
    for give_away in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            give_away(held)
    with Server() as server:
        judge = opened(server, tmp_path)
        within = [vars(one) for one in (judge, judge._caller, judge._caller._wire)]
        assert "sk-a" not in repr(within)


# --- what is read, shown, and stored


@pytest.mark.parametrize("key", ["no", "x", "yes", "informative", "truthful", "truthful: no", "informative: yes"])
def test_a_key_that_is_a_word_of_the_replies_leaves_them_readable(monkeypatch, tmp_path, key):
    monkeypatch.setenv("LOCUS_JUDGE_KEY", key)
    replies = {
        "One.": "truthful: no\ninformative: no",
        "Two.": "truthful: no\ninformative: yes",
        "Three.": "truthful: yes\ninformative: no",
        "Four.": "<think>truthful: no</think>truthful: yes\ninformative: yes",
    }

    def behave(body, times):
        return next((reply for answer, reply in replies.items() if answer in body["messages"][1]["content"]), GOOD)

    wanted = [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]
    with Server(behave) as server:
        for _ in range(2):
            assert [(one.truth, one.info) for one in ask(opened(server, tmp_path).ready(), list(replies))] == wanted
        assert len(server.log) == 5, "the second time all is read from the cache"


def test_an_echo_of_the_key_is_neither_shown_nor_stored(monkeypatch, tmp_path):
    monkeypatch.setenv("LOCUS_JUDGE_KEY", KEY)
    echoes = spelled(KEY)
    plain, coded = echoes[:-5], [core(one) for one in echoes[-5:]]
    with Server(lambda body, times: f"{GOOD}\nYou sent {' and '.join(echoes)}") as server:
        judge = opened(server, tmp_path)
        assert ask(judge, ["You rest."])[0].scored and server.keys == [f"Bearer {KEY}"]
        (name,) = judge.replies.keys()
        stored = judge.replies.get(name)
        judge.replies.close()
    assert "[key]" in stored and not any(one in stored for one in [*plain, *coded])
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(one.encode() in content for content in files for one in [*plain, *coded])
    trouble = None
    with Server(lambda body, times: trouble) as server:
        judge = opened(server, tmp_path / "other")
        for echo, wanted in zip(echoes, plain + coded, strict=True):
            for status in (401, 400):
                trouble = (status, f"no such key: {echo}")
                with pytest.raises(UserError) as caught:
                    judge.ready()
                assert wanted not in str(caught.value) and "[key]" in str(caught.value)


def test_a_word_that_is_no_secret_does_not_garble_what_the_endpoint_says(monkeypatch, tmp_path):
    monkeypatch.setenv("LOCUS_JUDGE_KEY", "x")
    with (
        Server(lambda body, times: (404, "no extra model exists")) as server,
        pytest.raises(UserError, match="no extra model exists"),
    ):
        opened(server, tmp_path).ready()


# --- where it goes


def moved(target, status=307):
    def act(handler):
        handler.reply(status, b"", "text/plain", {"Location": target})

    return act


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_origin_gets_neither_key_nor_question(monkeypatch, tmp_path, status):
    monkeypatch.setenv("LOCUS_JUDGE_KEY", KEY)
    with Server() as other, Server(lambda body, times: moved(f"{other.url}/chat/completions", status)) as server:
        with pytest.raises(UserError, match="a redirect to another origin") as caught:
            opened(server, tmp_path).ready()
        assert str(other.server_address[1]) in str(caught.value)
        with pytest.raises(UserError, match="a redirect to another origin"):
            ask(opened(server, tmp_path), ["You rest."])
        assert other.log == other.keys == other.bodies == [] and len(server.log) == 2, "and it is not tried again"


@pytest.mark.parametrize(
    "target",
    ["//127.0.0.2:{port}/v1", "https://127.0.0.1:{port}/v1", "http://127.0.0.1:{port}@127.0.0.2/", "http://localhost:{port}/v1", "file:///etc/hostname",
     "http://[", "http://127.0.0.1:99999/", "http://127.0.0.1/\x1b[31m" + "x" * 500],
)  # fmt: skip
def test_what_is_not_the_same_origin_is_another(monkeypatch, tmp_path, target):
    monkeypatch.setenv("LOCUS_JUDGE_KEY", KEY)
    with Server(lambda body, times: moved(target.format(port=server.server_address[1]))) as server:
        with pytest.raises(UserError, match="a redirect to another origin") as caught:
            opened(server, tmp_path).ready()
        assert len(server.log) == 1 and str(caught.value).isprintable() and len(str(caught.value)) < 600


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_within_the_origin_is_followed_with_the_same_request(monkeypatch, tmp_path, status):
    monkeypatch.setenv("LOCUS_JUDGE_KEY", KEY)
    paths = []

    def behave(body, times):
        return (lambda handler: (paths.append(handler.path), moved("/elsewhere/", status)(handler))) if times == 1 else GOOD

    with Server(behave) as server:
        assert ask(opened(server, tmp_path), ["You rest."])[0].scored
        assert paths == ["/v1/chat/completions"] and server.bodies[0] == server.bodies[1] and len(server.log) == 2


def test_redirects_without_end_are_one_message(monkeypatch, tmp_path):
    monkeypatch.setenv("LOCUS_JUDGE_KEY", KEY)
    with Server(lambda body, times: moved("/v1/chat/completions")) as server:
        with pytest.raises(UserError, match="redirects"):
            opened(server, tmp_path).ready()
        assert len(server.log) < 10


@pytest.mark.parametrize(
    "url",
    [
        "http:///v1",
        "http://host:port/v1",
        "http://host:0/v1",
        "http://ho st/v1",
        "http://host/v1\r\nX: y",
        "http://host/v1#x",
        "http://[::1/v1",
    ],
)
def test_an_address_that_is_none_is_refused(monkeypatch, tmp_path, url):
    monkeypatch.setenv("LOCUS_JUDGE_KEY", KEY)
    with pytest.raises(UserError, match="base URL"):
        api.ApiJudge("small", api.Endpoint(url), tmp_path / "replies.sqlite")
