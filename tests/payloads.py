"""Text as somebody with bad intent would write it: for terminals, for browsers, for spreadsheets; and where it gets into runs."""

import json
import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Sets the window's title, colours, turns what follows around, feigns a line of ours; `[bold]` is rich's markup. As a name of a
# file it also holds a byte that is no UTF-8.
TERMINAL = "ev\x1b]0;owned\x07il\x1b[31m\u202egnp\u2066\x9b2J\u200b[bold]x\r\nverified"
FILE = TERMINAL + "\udcff"
# What no stream may carry: control characters but for newline and tab, the C1 ones, marks of direction, what has no width.
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
FORMULAE = ("=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "＝1", "x;=1", "x\n-1", "'=1")
FIXED = {
    "schema",
    "metric",
    "plan_sha256",
    "sha256",
    "trials",
    "standing",
    "rule_sha256",
}  # without which a page is refused, or made of something else


def canaries(url: str) -> tuple[str, ...]:
    """Payloads that would call an address, run a script or change the title if they were not inert.

    Args:
        url: a server that notes who calls.
    """
    return (
        f"</title></style><script src={url}/script></script><script>owned=1</script>",
        f'"><img src={url}/img onerror="owned=1;document.title=1">',
        f'\'><svg onload="owned=1;fetch(\'{url}/svg\')"><a xlink:href="javascript:owned=1">',
        f"</style><style>@import url({url}/css);*{{background:url({url}/style)}}</style>",
        f'<meta http-equiv="refresh" content="0;url={url}/refresh"><base href="{url}/base">',
        f'<link rel="stylesheet" href="{url}/link"><iframe src="{url}/frame"></iframe><object data="{url}/object"></object>',
        f"--><script>owned=1</script><!-- $\\url{{{url}}}$ {{{{7*7}}}} {url}/text javascript:owned=1",
    )


def everywhere(value: Any, payload: Callable[[str], str], name: str = "") -> Any:
    """A JSON value with a payload in the place of every text but those that decide what is shown.

    Args:
        value: the value.
        payload: by the name of a field, what is put there; the same name gives the same payload, so that names still match.
        name: of the field that holds the value.
    """
    if isinstance(value, dict):
        return {key: everywhere(one, payload, key) for key, one in value.items()}
    if isinstance(value, list) and name not in FIXED:
        return [everywhere(one, payload, name) for one in value]
    return payload(name) if isinstance(value, str) and name not in FIXED else value


def infest(run: Path, payloads: Sequence[str], turn: int = 0) -> None:
    """Put payloads wherever a stranger could have put them in a run folder that is reported: verdict, plan, answers, reasons.

    Not in its receipt, whose shape is checked by itself.

    Args:
        run: the folder.
        payloads: by turns, one a field.
        turn: which is the first.
    """

    def payload(name: str) -> str:
        fields = ("name", "sentence", "setting", "to_decide", "read", "standing", "location", "id", "public_key")
        return payloads[(turn + (fields.index(name) if name in fields else len(name))) % len(payloads)]

    found = everywhere(json.loads((run / "verdict.json").read_text()), payload)
    plan = json.loads((run / "plan.json").read_text())
    (run / "verdict.json").write_text(json.dumps(found))
    for trial in plan["trials"]:
        trial |= {"claim": payload("name") if trial["claim"] else "", "read": payload("read"), "arm": payload("arm")}
    for claim in plan["claims"]:
        claim |= {"name": payload("name"), "origin": payload("origin")}
    for item in (item for part in plan["items"].values() for item in part):
        item["question"] = payload("question")
    plan["model"]["name"], plan["dataset"]["name"], plan["prompt"]["name"] = map(payload, ("model", "dataset", "prompt"))
    plan["dataset"]["blind"] = everywhere(plan["dataset"]["blind"], payload)
    (run / "plan.json").write_text(json.dumps(plan))
    with sqlite3.connect(run / "trials.sqlite") as db:
        for number, (item,) in enumerate(db.execute("SELECT DISTINCT item FROM texts").fetchall()):
            db.execute("UPDATE texts SET text = ? WHERE item = ?", (payloads[(turn + number) % len(payloads)], item))
        db.execute("UPDATE scores SET reason = ? WHERE reason != ''", (payloads[0],))
