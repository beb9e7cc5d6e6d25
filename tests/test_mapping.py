"""Mappings in TOML: fields of a file beside it, or of a data set on the hub at a pinned commit, from the cache where it is."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import locus
from locus import behaviours
from locus.behaviours import truthfulqa
from locus.behaviours.readers import hub
from locus.errors import UserError
from tests.shapes import chat, write

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS = [
    {"prompt": f"Name animal {n}.", "chosen": f"A wren {n}.", "rejected": f"A cup {n}.", "topic": f"t{n // 2}"} for n in range(8)
]
FIELDS = '[fields]\nquestion = "prompt"\nwanted = "chosen"\nunwanted = "rejected"\n'
BESIDE = 'file = "rows.jsonl"\n'
ON_HUB = f'hub = "someone/animals"\nrevision = "{COMMIT}"\n'


@pytest.fixture
def folder(tmp_path):
    """A folder with rows to be mapped."""
    write(tmp_path / "rows.jsonl", ROWS)
    return tmp_path


def mapped(folder, text):
    return behaviours.load(write(folder / "mine.toml", text))


def test_fields_of_a_file_are_mapped(folder):
    dataset = mapped(folder, BESIDE + FIELDS + 'group = "topic"\ncategory = "topic"\n')
    first = dataset.items[0]
    assert (first.question, first.wanted, first.unwanted) == ("Name animal 0.", ("A wren 0.",), ("A cup 0.",))
    assert (first.group, first.category, dataset.name) == ("t0", "t0", "mapping:mine.toml")
    assert len({item.group for item in dataset.items}) == 4
    assert behaviours.load(f"exchange:mapping:{folder / 'mine.toml'}").items[0].wanted == ("A cup 0.",)


def test_choices_and_chat_lists_are_mapped(folder):
    rows = [{"q": chat("What flies?"), "options": ["A stone", "A wren"], "right": one} for one in (1, "A wren")]
    write(folder / "rows.jsonl", rows)
    dataset = mapped(folder, BESIDE + '[fields]\nquestion = "q"\nchoices = "options"\nlabel = "right"\n')
    assert [(item.question, item.wanted, item.unwanted) for item in dataset.items] == [
        ("What flies?", ("A wren",), ("A stone",))
    ] * 2
    write(folder / "rows.jsonl", [{"q": "Name a bird.", "good": chat("Name a bird.", "A wren."), "poor": ["A cup.", "A pen."]}])
    (item,) = mapped(folder, BESIDE + '[fields]\nquestion = "q"\nwanted = "good"\nunwanted = "poor"\n').items
    assert (item.wanted, item.unwanted) == (("A wren.",), ("A cup.", "A pen."))


WRONG = {
    "sides swapped": (
        FIELDS.replace("chosen", "x").replace("rejected", "chosen").replace('"x"', '"rejected"'),
        "is the other side",
    ),
    "one side swapped": (FIELDS.replace("chosen", "rejected"), "wanted = 'rejected', which by its name is the other side"),
    "one field twice": (FIELDS.replace("rejected", "prompt").replace("chosen", "prompt"), "'prompt' for both"),
    "a field that is not there": (FIELDS + 'group = "subject"\n', "subject; a line has prompt, chosen, rejected, topic"),
    "an unknown field": (FIELDS + 'colour = "topic"\n', r"unknown field 'colour' in \[fields\]"),
    "no question": (FIELDS.replace('question = "prompt"\n', ""), r"\[fields\] without question"),
    "wanted beside choices": (FIELDS + 'choices = "topic"\n', "unknown field 'wanted'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_mapping_is_refused(name, folder):
    fields, said = WRONG[name]
    with pytest.raises(UserError, match=said):
        mapped(folder, BESIDE + fields)


def test_a_turned_mapping_says_how_to_turn_and_python_says_the_same(folder):
    with pytest.raises(UserError, match="exchange:"):
        mapped(folder, BESIDE + WRONG["sides swapped"][0])
    with pytest.raises(UserError, match="unwanted = 'chosen', which by its name is the other side"):
        locus.behaviour(ROWS, fields={"question": "prompt", "wanted": "topic", "unwanted": "chosen"})
    assert len(locus.behaviour(ROWS, fields={"question": "prompt", "wanted": "chosen", "unwanted": "rejected"})) == 8


@pytest.mark.parametrize("file", ["../rows.jsonl", "/etc/rows.jsonl", "mine.toml", ""])
def test_a_mapping_reads_only_what_lies_beside_it(file, folder):
    with pytest.raises(UserError, match="a file of rows that lies beside the TOML"):
        mapped(folder, f'file = "{file}"\n' + FIELDS)
    with pytest.raises(UserError, match="unknown name 'code'"):
        mapped(folder, 'code = "x"\n' + BESIDE + FIELDS)
    with pytest.raises(UserError, match="TOML"):
        behaviours.load(f"mapping:{write(folder / 'mine.toml', '[fields')}")


def test_a_mapping_says_that_the_wanted_side_is_a_form(folder):
    assert mapped(folder, "form = true\n" + BESIDE + FIELDS).form
    assert not mapped(folder, BESIDE + FIELDS).form and not mapped(folder, "form = false\n" + BESIDE + FIELDS).form
    with pytest.raises(UserError, match="'form' must be true or false"):
        mapped(folder, 'form = "yes"\n' + BESIDE + FIELDS)
    assert behaviours.load(f"exchange:mapping:{write(folder / 'mine.toml', 'form = true' + chr(10) + BESIDE + FIELDS)}").form


# The hub.


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache with a data set that was fetched before, in its layout."""
    import huggingface_hub.constants

    place = tmp_path / "hub"
    snapshot = place / "datasets--someone--animals" / "snapshots" / COMMIT / "data"
    snapshot.mkdir(parents=True)
    for split in ("train", "test"):
        write(snapshot / f"{split}-00000-of-00001.jsonl", ROWS if split == "train" else ROWS[:3])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(place))
    return place


def test_what_was_fetched_before_needs_no_network(cache, tmp_path):
    for split, count in (("train", 8), ("test", 3)):
        assert len(mapped(tmp_path, ON_HUB + f'split = "{split}"\n' + FIELDS).items) == count
    named = mapped(tmp_path, ON_HUB + 'file = "data/test-00000-of-00001.jsonl"\n' + FIELDS)
    assert [item.wanted for item in named.items] == [("A wren 0.",), ("A wren 1.",), ("A wren 2.",)]


def test_the_example_of_the_page_is_read(cache, tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
    (example,) = re.findall(r"^```toml\n(.*?)^```", page, re.M | re.S)
    (cache / "datasets--someone--animals").rename(cache / "datasets--owner--name")
    assert len(mapped(tmp_path, example).items) == 8


def test_truthfulqa_of_the_hub_is_of_one_commit(cache):
    """The commit is the project's; what was fetched before needs no network, and another count is no published version."""
    import pyarrow
    from pyarrow import parquet

    place = cache / "datasets--truthfulqa--truthful_qa" / "snapshots" / truthfulqa.HUB_COMMIT / "multiple_choice"
    place.mkdir(parents=True)
    one = {"choices": ["A wren.", "A cup."], "labels": [1, 0]}
    rows = [{"question": f"Name animal {n}.", "mc1_targets": one, "mc2_targets": one} for n in range(9)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), place / "validation-00000-of-00001.parquet")
    dataset = behaviours.load("truthfulqa")
    assert [(item.wanted, item.unwanted) for item in dataset.items] == [(("A wren.",), ("A cup.",))] * 9
    assert dataset.name == "custom:truthful_qa" and dataset.items[0].id == "tqa-000"
    rows[3] = {"question": "Name one.", "mc1_targets": one, "mc2_targets": {"choices": ["A wren."], "labels": [1, 0]}}
    parquet.write_table(pyarrow.Table.from_pylist(rows), place / "validation-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"question, mc1_targets, mc2_targets of truthfulqa/truthful_qa.*row 3"):
        behaviours.load("truthfulqa")


def test_truthfulqa_that_cannot_be_had_is_said(cache):
    with pytest.raises(UserError, match=f"truthful_qa.*{truthfulqa.HUB_COMMIT[:12]}.*truthfulqa:PATH/TruthfulQA.csv"):
        behaviours.load("truthfulqa")


UNPINNED = {
    "no revision": ('hub = "someone/animals"\nsplit = "train"\n', "a pinned revision of someone/animals.*received none"),
    "a branch": ('hub = "someone/animals"\nrevision = "main"\nsplit = "train"\n', "a pinned revision.*received 'main'.*Branches"),
    "a short commit": (f'hub = "someone/animals"\nrevision = "{COMMIT[:12]}"\nsplit = "train"\n', "40 digits"),
    "no split": (ON_HUB, "a split or a file of someone/animals"),
    "a split that is not there": (ON_HUB + 'split = "valid"\n', r"one file of the split 'valid'; received 0 .*data/test-00000"),
    "part of a word": (ON_HUB + 'split = "tra"\n', "one file of the split 'tra'; received 0"),
    "a split of several files": (ON_HUB + 'split = "data"\n', "received 2 in someone/animals; of these: data/test"),
    "no name": (f'hub = "animals"\nrevision = "{COMMIT}"\nsplit = "train"\n', "owner/name; received 'animals'"),
    "a path": (f'hub = "../animals"\nrevision = "{COMMIT}"\nsplit = "train"\n', "owner/name"),
}


@pytest.mark.parametrize("name", UNPINNED)
def test_what_is_not_pinned_to_one_file_is_refused(name, cache, tmp_path):
    place, said = UNPINNED[name]
    with pytest.raises(UserError, match=said):
        mapped(tmp_path, place + FIELDS)


@pytest.mark.parametrize("more", ['split = "train"\n', 'file = "data/train.parquet"\n'])
def test_a_name_that_cannot_be_had_without_network_is_said(more, cache, tmp_path):
    with pytest.raises(UserError, match=r"someone/birds.*Check the name, revision and network, or download it") as error:
        mapped(tmp_path, ON_HUB.replace("animals", "birds") + more + FIELDS)
    assert "Traceback" not in str(error.value)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's protocol as one file takes: the tree, heads, bodies. It says that `huge` has a terabyte."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(False)

    def do_GET(self):
        self._answer(True)

    def _answer(self, body):
        path = self.path.split("?")[0]
        content = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
        size = 1 << 40 if "huge" in path else len(content)
        if path.startswith("/api/datasets/someone/animals/"):
            names = ["README.md", "load.py", "data/train-0.jsonl"]
            tree = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in names]
            siblings = {
                "id": "someone/animals",
                "sha": COMMIT,
                "private": False,
                "siblings": [{"rfilename": one} for one in names],
            }
            content = json.dumps(tree if "/tree/" in path else siblings).encode()
            size = len(content)
        elif "/resolve/" not in path or path.endswith(".py"):
            self.send_error(404)
            return
        self.send_response(200)
        for name, value in {"Content-Length": size, "ETag": '"abc"', "X-Repo-Commit": COMMIT}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if body:
            self.wfile.write(content)


FETCH = """
import sys
from locus import behaviours
from locus.errors import UserError
try:
    print(len(behaviours.load(sys.argv[1]).items))
except UserError as error:
    print(error)
"""


def test_a_file_is_fetched_by_its_split_and_one_that_is_too_large_is_not(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    around = {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "no_proxy": "127.0.0.1",
    }
    texts = {"mine": 'split = "train"\n', "large": 'file = "huge.jsonl"\n'}
    try:
        said = {}
        for name, more in texts.items():
            path = write(tmp_path / f"{name}.toml", ON_HUB + more + FIELDS)
            done = subprocess.run([sys.executable, "-c", FETCH, path], env=around, capture_output=True, text=True, timeout=300)
            said[name] = done.stdout.strip() or done.stderr
    finally:
        server.shutdown()
    assert said["mine"] == "8", said
    assert "1,099,511,627,776 bytes" in said["large"], said
    fetched = [path.name for path in (tmp_path / "home").rglob("*") if path.is_symlink() or path.suffix in (".py", ".md")]
    assert "load.py" not in fetched and "README.md" not in fetched


def test_a_name_is_no_path():
    for name in ("a/b/c", "/etc/passwd", "a/..", "a b/c", "a/b\x00"):
        with pytest.raises(UserError, match="owner/name"):
            hub.fetched(name, COMMIT, "train")
