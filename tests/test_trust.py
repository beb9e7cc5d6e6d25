"""What `verify` answers: who vouches for what, what is missing, what was added; and that no hostile folder harms its reader."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from locus.boundary import incoming
from locus.cli.keyring import app as keys_app
from locus.errors import UserError, VerificationError
from locus.records.store import Store
from locus.report import keys, page, receipt, sealed, trusted
from locus.report.export import export_scores
from locus.report.verify import STORE, verify

RUNS = Path(__file__).parent / "runs" / "first-edition"
SIGNER = "fab4cec7bfc44cbe5e963a5c34f249fc4d1e732483d9643bbf4af2952241bca9"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A configuration folder of our own, with a key of its own."""
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run(tmp_path):
    """A run of the first edition, signed by a key that nobody here trusts."""
    return Path(shutil.copytree(RUNS / "planted", tmp_path / "RUN"))


@pytest.fixture
def mine(run):
    """The same run, sealed by the user's own key under today's schema."""
    reseal(run)
    return run


def reseal(run, sign=True):
    """What anybody with a key of his own can do: hash and sign everything again."""
    for path in (run / f"{STORE}-wal", run / f"{STORE}-shm"):
        path.unlink(missing_ok=True)
    store = Store(run / STORE)
    receipt.write(run, store, sign=sign)
    store.close()


def edited(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rewritten(run, change):
    """Change a receipt, and hash, sign and write it anew as its forger would."""
    content = json.loads((run / "receipt.json").read_text())
    change(content["body"])
    again = receipt.seal(content["body"])
    files = content["views"]["files"]
    views = {"files": files, **receipt._signed(sealed.views_message(again["id"], files), True)}
    (run / "receipt.json").write_text(sealed.text({**again, "views": views}))


def other_key(monkeypatch, tmp_path, name="stranger"):
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / name))
    return keys.signing_key().public_key().public_bytes_raw().hex()


# --- who vouches --------------------------------------------------------------------------------------------------------------


def test_a_key_is_unknown_until_the_user_names_its_owner(run):
    assert verify(run).line == f"intact, signed by an unknown key {SIGNER}"
    with pytest.raises(UserError, match="locus keys add"):
        verify(run, "lab")
    trusted.add("lab", SIGNER)
    assert verify(run).line == "verified, signed by lab"
    assert verify(run, "lab").line == verify(run, SIGNER).line == "verified, signed by lab"
    trusted.rename("lab", "other-lab")
    assert verify(run).line == "verified, signed by other-lab"
    trusted.remove("other-lab")
    assert verify(run).line.startswith("intact, signed by an unknown key")
    with pytest.raises(VerificationError, match="not signed by"):
        verify(run, "00" * 32)


def test_an_unsigned_run_is_intact_and_nobody_is_expected_to_have_signed_it(run):
    reseal(run, sign=False)
    assert verify(run).line == "intact, unsigned"
    for expected in (SIGNER, keys.signing_key().public_key().public_bytes_raw().hex()):
        with pytest.raises(VerificationError, match="unsigned; not signed by"):
            verify(run, expected)


def test_a_stripped_signature_is_said(mine):
    content = json.loads((mine / "receipt.json").read_text())
    stripped = {**content, "signature": None, "unsigned_because": sealed.NOT_ASKED}
    (mine / "receipt.json").write_text(sealed.text(stripped))
    assert verify(mine).line == "intact, unsigned; page and figures signed by you"
    with pytest.raises(VerificationError, match="unsigned; not signed by you"):
        verify(mine, "you")


def test_a_page_replaced_and_sealed_by_another_key_is_no_page_of_the_signer(mine, monkeypatch, tmp_path):
    """The page is what people read; whoever replaces it can seal it with any key, or with none."""
    own = keys.signing_key().public_key().public_bytes_raw().hex()
    assert verify(mine, own).line == "verified, signed by you"
    (mine / "report.html").write_text("<p>The claim is special.</p>")
    stranger = other_key(monkeypatch, tmp_path)
    receipt.seal_views(mine)
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "home"))
    assert verify(mine).line == f"intact, signed by you; page and figures signed by an unknown key {stranger}"
    for expected in (own, "you", json.loads((mine / "receipt.json").read_text())["id"]):
        with pytest.raises(VerificationError, match="page and figures are signed by"):
            verify(mine, expected)
    receipt.seal_views(mine, sign=False)
    assert verify(mine).line == "intact, signed by you; page and figures unsigned"
    with pytest.raises(VerificationError, match="page and figures are unsigned"):
        verify(mine, own)


EMPTIED = {"files": {}, "signature": None, "unsigned_because": sealed.NOT_ASKED}


def test_a_list_of_views_that_was_emptied_is_no_list_of_the_signer(mine):
    """Without page and figures there is nothing to be signed; but who says that there were none?"""
    content = json.loads((mine / "receipt.json").read_text())
    for name in content["views"]["files"]:
        (mine / name).unlink()
    (mine / "receipt.json").write_text(sealed.text({**content, "views": EMPTIED}))
    for path in (mine, mine / "receipt.json"):
        assert verify(path).line == "intact, signed by you; page and figures unsigned"
        for expected in ("you", content["id"]):
            with pytest.raises(VerificationError, match="page and figures are unsigned"):
                verify(path, expected)


def excerpt(run, *more):
    """What a stranger makes of a signed run: only its receipt, and what he adds."""
    for path in [*run.iterdir()]:
        if path.name != "receipt.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in more:
        (run / name).write_text("<p>The claim is special.</p>")


def test_files_of_an_excerpt_that_nothing_covers_are_said_first_and_not_expected_of_anybody(mine):
    content = json.loads((mine / "receipt.json").read_text())
    excerpt(mine)
    assert verify(mine).line == verify(mine, "you").line == "intact, incomplete, signed by you"
    excerpt(mine, "README.md")
    assert verify(mine).line == "intact, incomplete, signed by you; nobody vouches for README.md"
    excerpt(mine, "README.md", "index.html", "z.svg")
    assert verify(mine).line == "intact, incomplete, signed by you; nobody vouches for README.md and 2 more"
    for expected in ("you", content["id"]):
        with pytest.raises(VerificationError, match=r"nothing covers README\.md, index\.html"):
            verify(mine, expected)


def test_a_page_beside_a_receipt_whose_list_was_emptied_is_nobodys(mine):
    content = json.loads((mine / "receipt.json").read_text())
    excerpt(mine, "report.html")
    (mine / "receipt.json").write_text(sealed.text({**content, "views": EMPTIED}))
    found = verify(mine)
    assert found.line == "intact, incomplete, signed by you; page and figures unsigned; nobody vouches for report.html"
    with pytest.raises(VerificationError):
        verify(mine, "you")


def test_a_receipt_of_one_edition_cannot_pass_for_one_of_the_other(mine):
    ours, first = json.loads((mine / "receipt.json").read_text()), json.loads((RUNS / "planted" / "receipt.json").read_text())
    for content, other in ((ours, "locus-receipt/1"), (first, "locus-receipt/2")):
        (mine / "receipt.json").write_text(sealed.text({**content, "schema": other}))
        with pytest.raises(VerificationError, match="calls itself"):
            verify(mine / "receipt.json")


def test_folders_as_deep_as_they_can_be_are_not_verified(mine):
    here = os.getcwd()
    try:
        os.chdir(mine)
        for _ in range(40):  # beyond what any path may name
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
    finally:
        os.chdir(here)
    with pytest.raises(VerificationError, match="deep"):
        verify(mine)
    subprocess.run(["rm", "-rf", str(mine)], check=True)  # Python's own walk ends where a path does


def test_the_id_that_is_expected_is_held_to(mine):
    content = json.loads((mine / "receipt.json").read_text())
    assert verify(mine, content["id"]).id == verify(mine, content["sha256"]).id == content["id"]
    with pytest.raises(VerificationError, match=r"not A{26}"):
        verify(mine, "A" * 26)


@pytest.mark.parametrize(
    ("line", "why"),
    [("nonsense", "no key"), (f"{SIGNER} you", "own name"), (f"{SIGNER}\tlab", "tab"), (f"{SIGNER.upper()} lab", "capitals")],
)
def test_a_file_of_keys_that_cannot_be_read_as_meant_is_refused(home, line, why):
    home.mkdir()
    (home / trusted.FILE).write_text(f"{line}\n")
    (home / trusted.FILE).chmod(0o600)
    with pytest.raises(UserError, match="line 1"):
        trusted.listed()


def test_keys_that_others_can_write_are_not_trusted(home):
    trusted.add("lab", SIGNER)
    (home / trusted.FILE).chmod(0o666)
    with pytest.raises(UserError, match="chmod 600"):
        trusted.listed()


def test_the_commands_of_keys(home):
    run = CliRunner().invoke
    assert "no key of your own yet" in run(keys_app, []).output and not (home / keys.KEY_FILE).exists()
    assert run(keys_app, ["add", "lab", SIGNER]).exit_code == 0
    assert f"{SIGNER}  lab" in run(keys_app, ["list"]).output
    for wrong in (["add", "lab", "00" * 32], ["add", "x", SIGNER], ["add", "x", "hello"], ["remove", "x"], ["rename", "x", "y"]):
        assert isinstance(run(keys_app, wrong).exception, UserError), wrong
    for name in ("", "..", "-x", "a b", "you", "00" * 32, "A" * 26, "x" * 65, "\x1b"):
        with pytest.raises(UserError):
            trusted.add(name, "00" * 32)
    assert run(keys_app, ["rename", "lab", "home"]).exit_code == 0 and trusted.listed() == {"home": SIGNER}
    assert run(keys_app, ["remove", "home"]).exit_code == 0 and trusted.listed() == {}


# --- what is there ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["index.html", "edits/x.py", "figures/.hidden.svg", ".env", "sub/folder/report.html", "trials.sqlite-journal"]
)
def test_an_added_file_is_not_vouched_for(run, name):
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_text("read me")
    with pytest.raises(VerificationError, match="not in the receipt"):
        verify(run)


def test_edits_left_out_are_named_and_the_rest_is_checked(run):
    shutil.rmtree(run / "edits")
    found = verify(run)
    assert found.line == f"intact, incomplete, signed by an unknown key {SIGNER}"
    assert len(found.absent) == 28 and all(name.startswith("edits/") for name in found.absent) and found.claims
    trusted.add("lab", SIGNER)
    assert verify(run, "lab").line == "intact, incomplete, signed by lab"
    (run / "plan.json").write_bytes((run / "plan.json").read_bytes() + b"\n")
    with pytest.raises(VerificationError, match=r"plan\.json"):
        verify(run)


def test_rows_hidden_in_a_log_beside_the_database_are_not_vouched_for(run):
    """A write-ahead log would change what the next reader of the database sees."""
    with closing(sqlite3.connect(run / STORE, isolation_level=None)) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("UPDATE scores SET value = 0.5")
        shutil.copy(run / f"{STORE}-wal", run / "kept")
    shutil.copy(RUNS / "planted" / STORE, run / STORE)
    (run / "kept").rename(run / f"{STORE}-wal")
    with pytest.raises(VerificationError, match=r"trials\.sqlite"):
        verify(run)


def test_a_record_inside_a_receipt_is_taken_for_neither(run):
    edited(run / "receipt.json", lambda content: content.update(canonical_record={"schema_version": "1.0"}, pith_number="X"))
    for path in (run, run / "receipt.json"):
        with pytest.raises(VerificationError):
            verify(path)


# --- what it says -------------------------------------------------------------------------------------------------------------

LIES = {
    "another model": lambda body: body["model"].update(name="gpt-5"),
    "other data": lambda body: body["dataset"].update(name="all-of-truth"),
    "another licence": lambda body: body["dataset"].update(licence="mine"),
    "a level": lambda body: body["config"].update(alpha=0.001),
    "a setting": lambda body: body["config"].update(random=1000),
    "other questions": lambda body: body["context"]["items"].update(test="00" * 32),
    "a seed": lambda body: body["seeds"].update(seed=7),
    "unfinished trials": lambda body: body.update(unfinished=3),
    "a moment": lambda body: body["plan"].update(fixed="1999-01-01"),
    "another torch": lambda body: body["versions"].update(torch="9.9"),
    "a standing": lambda body: body["claims"][0].update(special="refuted"),
    "a claim": lambda body: body["claims"].append(body["claims"][0]),
    "no edit": lambda body: body["artefacts"].pop(next(name for name in body["artefacts"] if name.startswith("edits"))),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_the_body_says_follows_from_plan_and_store_whoever_signs_it(mine, lie):
    rewritten(mine, LIES[lie])
    verify(mine / "receipt.json")  # in itself it is in order, and signed by a known key
    with pytest.raises(VerificationError):
        verify(mine)


def replanned(run, change):
    """Change a plan and everything that hashes it, as its forger would."""
    from locus.behaviours.items import content_hash

    plan = json.loads((run / "plan.json").read_text())
    change(plan)
    plan["rule_sha256"] = content_hash(plan["rule"])
    plan["sha256"] = content_hash({name: value for name, value in plan.items() if name != "sha256"})
    (run / "plan.json").write_text(json.dumps(plan))
    with closing(sqlite3.connect(run / STORE, isolation_level=None)) as db:
        db.execute("UPDATE meta SET value = ? WHERE key = 'plan_fixed'", (f"{plan['sha256']} 2026-11-27T21:14:00+00:00",))
    edited(run / "verdict.json", lambda found: found.update(plan_sha256=plan["sha256"], rule_sha256=plan["rule_sha256"]))
    reseal(run)


FORGED = {
    "a rule that does not follow from the settings": lambda plan: plan["rule"].update(alpha=0.9),
    "a trial under another's id": lambda plan: plan["trials"][3].update(seed=8),
    "a place under another's id": lambda plan: plan["trials"][3].update(location=["0.0"]),
    "other questions": lambda plan: plan["items"]["test"][0].update(id="another"),
    "another prompt": lambda plan: plan["prompt"].update(template="{question} Lie."),
    "another data set": lambda plan: plan["dataset"].update(sha256="00" * 32),
}


@pytest.mark.parametrize("forgery", FORGED)
def test_a_plan_whose_parts_do_not_follow_from_one_another_is_caught(mine, forgery):
    replanned(mine, FORGED[forgery])
    with pytest.raises(VerificationError):
        verify(mine)


def derived_anew(run, change):
    """A forger who does all of it: the plan changed, trials under their new ids in the store, the verdict derived from it."""
    from locus.behaviours.items import content_hash
    from locus.conclude import derive
    from locus.plan.trials import VERSION

    plan = json.loads((run / "plan.json").read_text())
    change(plan)
    renamed = {}
    for trial in plan["trials"]:
        spec = {name: value for name, value in trial.items() if name != "id"}
        renamed[trial["id"]] = (content_hash([VERSION, spec])[:16], spec)
        trial["id"] = renamed[trial["id"]][0]
    plan["banks"] = [[renamed[one][0] for one in bank if one in renamed] for bank in plan["banks"]]
    plan["rule_sha256"] = content_hash(plan["rule"])
    plan["sha256"] = content_hash({name: value for name, value in plan.items() if name != "sha256"})
    (run / "plan.json").write_text(json.dumps(plan))
    with closing(sqlite3.connect(run / STORE, isolation_level=None)) as db:
        db.execute("UPDATE meta SET value = ? || substr(value, 65) WHERE key = 'plan_fixed'", (plan["sha256"],))
        for old, (new, spec) in renamed.items():
            for table in ("scores", "texts", "costs"):
                db.execute(f"UPDATE {table} SET trial = ? WHERE trial = ?", (new, old))
            named = (new, json.dumps(spec, sort_keys=True), spec["arm"], spec["claim"], spec["role"], old)
            db.execute("UPDATE trials SET id = ?, spec = ?, arm = ?, claim = ?, role = ? WHERE id = ?", named)
            if new != old and (run / "edits" / f"{old}.safetensors").exists():
                (run / "edits" / f"{old}.safetensors").rename(run / "edits" / f"{new}.safetensors")
    store = Store(run / STORE)
    derive.write(run, store, 0.0)
    store.close()
    reseal(run)


def _random(plan, arm="random-00"):
    return next(trial for trial in plan["trials"] if trial["role"] == "random" and trial["arm"] == arm)


def _other_claim(plan):
    plan["claims"][0].update(heads=["0.0"])


def _chosen_claim(plan):
    """The claim's trials under a random Location's heads, and the random Location under the claim's."""
    one, other = plan["claims"][0]["heads"], _random(plan)["location"]
    for trial in plan["trials"]:
        trial["location"] = other if trial["location"] == one else one if trial["location"] == other else trial["location"]
    plan["claims"][0]["heads"] = other


def _more_random(plan):
    plan["config"]["random"] += 1


def _ceiling_of_few(plan):
    next(trial for trial in plan["trials"] if trial["role"] == "ceiling")["location"] = ["1.0"]


def _other_settings(name, value):
    return lambda plan: plan["config"].update({name: value})


MADE_BY_HAND = {
    "the claim's heads": _other_claim,
    "the claim and a random Location change places": _chosen_claim,
    "a random Location at a head that the model lacks": lambda plan: _random(plan).update(location=["77.77"]),
    "a random Location chosen by hand": lambda plan: _random(plan).update(location=["5.5"]),
    "a ceiling of one head": _ceiling_of_few,
    "another recipe": lambda plan: _random(plan)["recipe"].update(lr=1e-9),
    "more random Locations than trials": _more_random,
    "a setting that no trial has": _other_settings("epochs", 77),
    "a strength that no trial has": _other_settings("alphas", [5.0, 16.0]),
    "another claim's text": _other_settings("claims", ["0.0"]),
    "a claim more in the settings": _other_settings("claims", ["probe", "0.0"]),
    "a model with more heads": lambda plan: plan["model"]["anatomy"].update(n_layers=1000),
    "a million random Locations": _other_settings("random", 10**6),
    "a grid of a million": _other_settings("taus", [0.1 + k / 10**6 for k in range(10**6)]),
    "a search looked at a million times": lambda plan: plan["config"].update(
        search="newton", rounds=10**4, lengths=[1 + k for k in range(10**6)]
    ),
}


@pytest.mark.parametrize("forgery", MADE_BY_HAND)
def test_trials_that_do_not_follow_from_settings_and_claims_are_caught(mine, forgery):
    with suppress(LookupError, ValueError, UserError):  # the forger's own tools may refuse, and he writes what he likes
        derived_anew(mine, MADE_BY_HAND[forgery])
    with pytest.raises(VerificationError, match=r"do(es)? not follow|the plan.s claim|the plan (audits|lists)|plan.json"):
        verify(mine)


def test_a_run_whose_trials_are_made_anew_unchanged_still_verifies(mine):
    derived_anew(mine, lambda plan: None)
    assert verify(mine).line == "verified, signed by you"


def test_a_claim_whose_heads_nothing_says_is_the_signers_word(mine, tmp_path):
    def change(plan):
        plan["config"]["claims"] = ["heads.json"]
        plan["claims"][0].update(name="heads", origin="given")
        for trial in plan["trials"]:
            trial.update(claim="heads" if trial["claim"] else "")
            trial.update(arm=trial["arm"].replace("probe", "heads"))

    derived_anew(mine, change)
    assert "the sites of the claim(s) heads" in dict(verify(mine).held)["stated"]


def test_a_plan_that_is_only_sealed_anew_still_verifies(mine):
    """So that the test above cannot pass for the wrong reason."""
    replanned(mine, lambda plan: None)
    assert verify(mine).line == "verified, signed by you"


def test_a_verdict_says_nothing_of_its_own(mine):
    edited(mine / "verdict.json", lambda found: found.update(note="special beyond doubt"))
    rewritten(mine, lambda body: body["artefacts"].update({"verdict.json": receipt.file_hash(mine / "verdict.json")}))
    with pytest.raises(VerificationError, match="follows from nothing: note"):
        verify(mine)


# --- hostile folders ----------------------------------------------------------------------------------------------------------


def _fifo(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _link(target):
    def spoil(path):
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return spoil


def _socket(path):
    path.unlink(missing_ok=True)
    here = os.getcwd()
    os.chdir(path.parent)
    with closing(socket.socket(socket.AF_UNIX)) as one:
        one.bind(path.name)
    os.chdir(here)


def _sparse(size):
    def spoil(path):
        with path.open("wb") as stream:
            stream.truncate(size)

    return spoil


def _bytes(content):
    return lambda path: path.write_bytes(content)


SPOILT = {
    "a pipe": _fifo,
    "a device": _link("/dev/zero"),
    "a link to a file outside": _link("/etc/hostname"),
    "a link to itself": lambda path: (path.unlink(missing_ok=True), path.symlink_to(path.name)),
    "a folder": lambda path: (path.unlink(missing_ok=True), path.mkdir()),
    "a socket": _socket,
    "300 MB": _sparse(300 << 20),
    "a terabyte": _sparse(1 << 40),
    "brackets 100,000 deep": _bytes(b"[" * 100_000),
    "objects 100,000 deep": _bytes(b'{"schema":' * 100_000),
    "a name given twice": _bytes(b'{"schema":"locus-receipt/2","schema":"locus-plan/2"}'),
    "not a number": _bytes(b'{"schema":NaN}'),
    "half of a surrogate pair": _bytes(b'{"schema":"\\ud800"}'),
    "an integer beyond 2^53": _bytes(b'{"schema":9007199254740993}'),
    "5,000 digits": _bytes(b'{"schema":' + b"9" * 5000 + b"}"),
    "a number beyond doubles": _bytes(b'{"schema":1e999}'),
    "nothing": _bytes(b""),
    "zeros": _bytes(bytes(4096)),
    "not UTF-8": _bytes(b"\xff\xfe{}"),
}


@pytest.mark.parametrize("name", ["receipt.json", "plan.json", "verdict.json", STORE, f"{STORE}-wal", "report.html"])
@pytest.mark.parametrize("kind", SPOILT)
def test_no_spoilt_file_hangs_or_breaks_verify(run, name, kind):
    if (name, kind) == (f"{STORE}-wal", "nothing"):
        pytest.skip("an empty log, as a reader leaves it, says nothing")
    SPOILT[kind](run / name)
    with pytest.raises(VerificationError):
        verify(run)


SQL = {
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON scores BEGIN DELETE FROM scores; END",
    "a view": "CREATE VIEW v AS SELECT * FROM scores",
    "another table": "CREATE TABLE more (x)",
    "a missing table": "DROP TABLE texts",
    "a text for a number": "UPDATE scores SET value = 'high'",
    "bytes for a text": "UPDATE scores SET reason = x'00ff'",
    "infinity": "UPDATE scores SET value = 9e999",
    "a spec that is no JSON": "UPDATE trials SET spec = '{'",
    "a deep spec": "UPDATE trials SET spec = " + "'" + "[" * 9999 + "'",
    "no converged": "UPDATE trials SET converged = 17.5",
    "another version": "PRAGMA user_version = 2",
    # "_" in LIKE stands for any letter: a name need only look like one of SQLite's own.
    "a trigger named like SQLite's": "CREATE TRIGGER sqliteXt AFTER INSERT ON trials BEGIN UPDATE scores SET value = 0; END",
    "a view named like SQLite's": "CREATE VIEW sqliteXv AS SELECT * FROM scores",
    "a table named like SQLite's": "CREATE TABLE sqliteXnote (says TEXT)",
    "an index": "CREATE INDEX sqliteXi ON scores (value)",
    "statistics": "ANALYZE",
    "a trigger with SQLite's own name": "PRAGMA writable_schema = ON; INSERT INTO sqlite_master VALUES ('trigger', 'sqlite_t', "
    "'trials', 0, 'CREATE TRIGGER sqlite_t AFTER UPDATE ON trials BEGIN UPDATE scores SET value = 0; END')",
    "a view with SQLite's own name": "PRAGMA writable_schema = ON; INSERT INTO sqlite_master VALUES ('view', "
    "'sqlite_autoindex_v', 'sqlite_autoindex_v', 0, 'CREATE VIEW sqlite_autoindex_v AS SELECT 1')",
    "a negative version": "PRAGMA user_version = -1",
}


@pytest.mark.parametrize("kind", SQL)
def test_a_hostile_database_is_refused_by_whatever_reads_it(run, tmp_path, kind):
    with closing(sqlite3.connect(run / STORE, isolation_level=None)) as db:
        db.executescript(SQL[kind])
    with suppress(Exception):
        reseal(run)  # a forger's own tool may break
    with pytest.raises((UserError, VerificationError)):
        verify(run)
    with pytest.raises((UserError, VerificationError)):
        page.write(run)
    with pytest.raises((UserError, VerificationError)):
        export_scores(run, tmp_path / "scores")


def _swollen(path, old, new):
    """A file with a list or a table of millions in it, written as its own reader would have it."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


MANY = 2_000_000
SWOLLEN = {
    "banks": lambda run: _swollen(run / "plan.json", '"banks": [', f'"banks": [{"1," * MANY}'),
    "trials": lambda run: _swollen(run / "plan.json", '"trials": [', f'"trials": [{"1," * MANY}'),
    "questions": lambda run: _swollen(run / "plan.json", '"test": [', f'"test": [{"1," * MANY}'),
    "heads": lambda run: _swollen(run / "plan.json", '"heads": [', f'"heads": [{"1," * MANY}'),
    "lists of the context": lambda run: _swollen(run / "plan.json", '"context": {', f'"context": {{"x": [{"[]," * MANY}[]],'),
    "scores": lambda run: _swollen(
        run / "plan.json", '"scores": {', f'"scores": {{{"".join(f"{chr(34)}{k}{chr(34)}:1," for k in range(MANY))}'
    ),
    "versions": lambda run: _swollen(
        run / "receipt.json", '"versions":{', f'"versions":{{{"".join(f"{chr(34)}{k}{chr(34)}:1," for k in range(MANY // 4))}'
    ),
    "parts of a body": lambda run: _swollen(
        run / "receipt.json", '"body":{', f'"body":{{{"".join(f"{chr(34)}{k}{chr(34)}:1," for k in range(MANY // 4))}'
    ),
    "claims of a body": lambda run: _swollen(run / "receipt.json", '"claims":[', f'"claims":[{"1," * MANY}'),
    "one claim 50 times": lambda run: edited(run / "plan.json", lambda plan: plan.update(claims=plan["claims"] * 50)),
}
LIMITED = """
import resource, sys, time
import locus.report.verify as verify, locus.report.page as page, locus.errors as errors
from pathlib import Path
from locus.plan import reading
with open("/proc/self/statm") as status:
    here = int(status.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (here + (1536 << 20),) * 2)
for work in (verify.verify, reading.read_plan):
    started = time.process_time()
    try:
        work(Path(sys.argv[1]))
        print("held")
    except (errors.UserError, errors.VerificationError) as error:
        print("refused", len(str(error)) < 2000, time.process_time() - started < 10)
"""


@pytest.mark.parametrize("kind", SWOLLEN)
def test_millions_of_wrong_entries_take_bounded_time_and_memory(run, kind):
    SWOLLEN[kind](run)
    done = subprocess.run([sys.executable, "-c", LIMITED, str(run)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[0] == "refused True True"
    assert set(done.stdout.splitlines()) <= {"refused True True", "held"}


def test_a_store_larger_than_its_plan_could_fill_is_not_copied(run, monkeypatch):
    os.truncate(run / STORE, (4 << 30) - 4096)
    monkeypatch.setattr(shutil, "copyfile", lambda *given, **more: pytest.fail("it is copied"))
    with pytest.raises(VerificationError, match="which its plan could fill"):
        export_scores(run, run / "scores.csv")


def test_every_store_of_ours_is_far_smaller_than_what_its_plan_could_fill():
    from locus.plan.reading import read_plan
    from locus.report.derived import _most_bytes

    for folder in RUNS.iterdir():
        if (folder / STORE).exists():
            assert _most_bytes(read_plan(folder)) > 5 * (folder / STORE).stat().st_size


def test_nothing_is_written_through_a_link(run, tmp_path):
    """A hostile folder's links would carry what we write to files of the user."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").write_text("kept")
    for name in ("report.html", "cite.bib"):
        (run / name).unlink()
        (run / name).symlink_to(victim / "kept")
    page.write(run, sign=False)
    assert (victim / "kept").read_text() == "kept" and not (run / "report.html").is_symlink()
    (run / "figures").mkdir(exist_ok=True)
    shutil.rmtree(run / "figures")
    (run / "figures").symlink_to(victim)
    with pytest.raises(UserError, match="link"):
        page.write(run, sign=False)
    assert sorted(path.name for path in victim.iterdir()) == ["kept"]


NAMES = ["receipt.json", "plan.json", "verdict.json", STORE, "report.html", "edits/044c2b944cc3567f.safetensors", "index.html"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _paths(value, so_far=()):
    """Where something stands in a JSON value."""
    yield so_far
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield from _paths(child, (*so_far, name))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_stands_anywhere_in_a_plan_or_a_verdict_nothing_breaks(data):
    """Some value of a plan, a verdict or a receipt's body is another, and all is hashed and signed anew."""
    with tempfile.TemporaryDirectory() as place:
        run = Path(shutil.copytree(RUNS / "planted", Path(place) / "RUN"))
        name = data.draw(st.sampled_from(["plan.json", "verdict.json", "body"]))
        content = json.loads((run / ("receipt.json" if name == "body" else name)).read_text())
        inner = content["body"] if name == "body" else content
        where = data.draw(st.sampled_from(sorted(_paths(inner), key=str)[1:]))
        value = data.draw(VALUES)

        def change(whole):
            for part in where[:-1]:
                whole = whole[part]
            whole[where[-1]] = value

        try:
            if name == "body":
                rewritten(run, change)
            elif name == "plan.json":
                replanned(run, change)
            else:
                edited(run / name, change)
                reseal(run)
        except (UserError, VerificationError, LookupError, TypeError, ValueError, AttributeError):
            return  # a forger's own tool breaks
        for read in (verify, lambda folder: page.write(folder, figures=False, sign=False)):
            with suppress(UserError, VerificationError):
                read(run)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(NAMES), content=st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_file_in_any_place_is_not_verified(name, content):
    with tempfile.TemporaryDirectory() as place:
        run = Path(shutil.copytree(RUNS / "planted", Path(place) / "RUN"))
        (run / name).write_bytes(content)
        with pytest.raises(VerificationError):
            verify(run)


def test_the_command_ends_with_3_for_a_folder_that_is_wrong_and_says_so_first(run):
    (run / "index.html").write_text("<p>Read me first")
    command = [sys.executable, "-m", "locus", "verify", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3 and done.stderr.startswith("not verified: the file index.html is not in the receipt")
    (run / "index.html").unlink()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith(f"intact, signed by an unknown key {SIGNER}\n")
    done = subprocess.run([*command, "--expect", "00" * 32], capture_output=True, text=True, timeout=120)
    assert done.returncode == 3


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[" * 1000 + "]" * 1000, "deeper"),
        ('{"a":1,"a":2}', "twice"),
        ("[NaN]", "no JSON number"),
        ("[-Infinity]", "no JSON number"),
        ("[1e400]", "no double"),
        ("[9007199254740993]", "2\\^53"),
        ("[" + "1" * 5000 + "]", "2\\^53"),
        ('["\\udfff"]', "surrogate"),
        ('{"\\ud800":1}', "surrogate"),
        ("[1,]", "line 1 column"),
    ],
)
def test_strict_json(text, what):
    with pytest.raises(ValueError, match=what):
        incoming.parse_json(text)


def test_strict_json_reads_what_json_says():
    assert incoming.parse_json('{"a": [1, -2.5, "\\ud83d\\ude00", null, true], "b": -9007199254740992}') == {
        "a": [1, -2.5, "\U0001f600", None, True],
        "b": -(2**53),
    }
    assert incoming.parse_json("[" * 60 + "]" * 60)
