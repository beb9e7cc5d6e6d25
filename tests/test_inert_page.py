"""Pages and figures of hostile folders in a real browser: nothing is asked for, run, opened or retitled."""

import http.server
import json
import shutil
import threading
from pathlib import Path

import pytest

from locus.records.patch import PatchRecord
from locus.report.figures import errors
from locus.report.page import write
from locus.report.patching import page as patching
from tests.payloads import canaries, everywhere, infest
from tests.test_figures import tally

RUNS = Path(__file__).parent / "runs" / "first-edition"
# Title, whether a script ran, and what there is that loads, but for our own figures.
STATE = "[document.title, typeof owned, document.querySelectorAll('script, iframe, object, link, base, img:not(.plate)').length]"
LATER = f"new Promise(done => setTimeout(() => done(JSON.stringify({STATE})), 200))"
INERT = ["undefined", 0]


@pytest.fixture(scope="module")
def server():
    """The address of a server on the loopback, and what it was asked for."""
    asked: list[str] = []

    class Noting(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    one = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Noting)
    threading.Thread(target=one.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{one.server_port}", asked
    one.shutdown()
    one.server_close()


def opened(browser, page: Path) -> tuple[list, list[str]]:
    """What became of a page, a moment after it was loaded; and what the browser asked for or did, but for the page itself."""
    browser.open(page, 1000)
    state = browser.parsed(LATER)
    did = [
        event["params"]["request"]["url"] if event["method"].startswith("Network") else event["method"]
        for event in browser.events
        if event.get("method") in ("Network.requestWillBeSent", "Page.javascriptDialogOpening", "Page.windowOpen")
    ]
    return state, [one[:80] for one in did if one != page.as_uri() and not one.startswith("data:image/")]


def drawings(folder: Path) -> list[Path]:
    """The figures, opened by themselves."""
    found = sorted(folder.glob("figures/*.svg"))
    assert found
    return found


@pytest.mark.parametrize("turn", range(3))
def test_a_report_of_a_hostile_run_is_inert(tmp_path, browser, server, turn):
    url, asked = server
    run = Path(shutil.copytree(RUNS / "judged", tmp_path / "RUN"))
    infest(run, canaries(url), turn)
    page = write(run, [run], figures=turn == 0)
    asked.clear()
    assert url in page.read_text(encoding="utf-8"), "the canaries are there, as text"
    assert opened(browser, page) == (["Localization audit", *INERT], [])
    for drawing in drawings(run) if turn == 0 else []:
        assert opened(browser, drawing) == (["", *INERT], []), drawing.name
    assert asked == []


def test_a_page_of_a_hostile_patching_run_is_inert(tmp_path, browser, server):
    url, asked = server
    patch_map, texts = json.loads((RUNS / "patch" / "patch.json").read_text()), canaries(url)
    kept = {name: patch_map["config"][name] for name in ("control", "keep", "normalise", "direction")}
    sites = [entry["site"] for entry in patch_map["maps"]]
    patch_map = everywhere(patch_map, lambda name: texts[len(name) % len(texts)])
    patch_map["config"] |= kept
    for entry, site in zip(patch_map["maps"], sites, strict=True):
        entry["site"] = site
    page = patching.write(tmp_path, PatchRecord.parse(patch_map))
    asked.clear()
    assert url in page.read_text(encoding="utf-8")
    assert opened(browser, page) == (["Activation patching", *INERT], [])
    for drawing in drawings(tmp_path):
        assert opened(browser, drawing) == (["", *INERT], []), drawing.name
    assert asked == []


def test_figures_of_a_hostile_calibration_are_inert(tmp_path, browser, server):
    url, asked = server
    texts, found = canaries(url), tally()
    for number, row in enumerate(found["rows"]):
        row |= {"kind": texts[number], "claim": texts[-1]}
    found["rank_p"] = {f"{row['kind']} {row['claim']}": [0.05, 0.5] for row in found["rows"]}
    (tmp_path / "calibration.json").write_text(json.dumps(found))
    errors.write(tmp_path)
    asked.clear()
    for drawing in drawings(tmp_path):
        assert opened(browser, drawing) == (["", *INERT], []), drawing.name
    assert asked == []


def test_the_policy_alone_would_hold_and_without_it_a_canary_sings(tmp_path, browser, server):
    url, asked = server
    run = Path(shutil.copytree(RUNS / "judged", tmp_path / "RUN"))
    page = write(run, figures=False)
    text = page.read_text(encoding="utf-8")
    # No policy of a page forbids that it leads elsewhere; and a frame that is answered with nothing may never be loaded.
    raw = "".join(one for one in canaries(url) if "refresh" not in one and "iframe" not in one)
    page.write_text(text.replace("</main>", f"{raw}</main>"), encoding="utf-8")
    asked.clear()
    state, _ = opened(browser, page)
    assert state[1] == "undefined" and asked == [], "allowed nothing, though it is in the page"
    meta = next(line for line in text.splitlines() if "Content-Security-Policy" in line)
    assert "default-src &#39;none&#39;; style-src &#39;sha256-" in meta and "unsafe" not in meta
    page.write_text(text.replace(meta, "").replace("</main>", f"{raw}</main>"), encoding="utf-8")
    state, _ = opened(browser, page)
    assert state[1] != "undefined" and {"/script", "/img", "/svg"} <= set(asked)
