"""The page in a real browser: no console error, no request, no overflow, no serious finding of axe-core, light and dark."""

import shutil

import pytest

from locus.report.page import write
from tests.browser import axe
from tests.small_run import LONG, NASTY, let_speak, poison

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "hostile"])
def page(request, small_run, tmp_path_factory):
    """The page of a small run beside itself, as it is and with hostile text; never written to by a test."""
    run = shutil.copytree(small_run, tmp_path_factory.mktemp("page") / "RUN")
    answers = [NASTY, LONG, *["The earth is round."] * 20] if request.param else ["The earth is round, and always was."] * 20
    let_speak(
        run,
        dict.fromkeys(("base", "claim", "random", "ceiling", "shift"), answers),
        {"base": [0.4] * 20, "claim": [0.9] * 20},
    )
    if request.param:
        poison(run)
    return write(run, [run])


@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_is_content(page, browser, width):
    browser.open(page, width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.scripts.length") == 0
    assert browser.value("getComputedStyle(document.querySelector('.four')).listStyleType") == "none", "the sheet is applied"
    wrong = [event for event in browser.events if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")]
    assert not wrong
    asked = [event for event in browser.events if event.get("method") == "Network.requestWillBeSent"]
    assert [event["params"]["request"]["url"] for event in asked] == [page.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing_serious(page, browser, width, scheme):
    script = axe()
    if script is None:
        pytest.skip("axe-core is not installed; pip install --no-deps axe-playwright-python")
    browser.open(page, width, scheme=scheme)
    assert not browser.serious(script)


def test_axe_would_see_a_fault(page, browser, tmp_path):
    """The same run on a page with two faults put in: no language, and grey text on grey."""
    script = axe()
    if script is None:
        pytest.skip("axe-core is not installed; pip install --no-deps axe-playwright-python")
    whole, page = page.read_text(encoding="utf-8"), tmp_path / "report.html"
    page.write_text(whole.replace('lang="en"', "").replace("--soft:#57606a", "--soft:#ddd"), "utf-8")
    browser.open(page, 1280)
    browser.call("Page.setBypassCSP", enabled=True)
    browser.open(page, 1280)
    browser.call("Runtime.evaluate", expression=script.read_text(encoding="utf-8"))
    violations = browser.parsed("axe.run().then(found => JSON.stringify(found))")
    browser.call("Page.setBypassCSP", enabled=False)
    assert {"html-has-lang", "color-contrast"} <= {one["id"] for one in violations["violations"]}


def test_printed_on_paper_nothing_is_cut(page, browser):
    browser.open(page, 1280)
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.call("Emulation.setDeviceMetricsOverride", width=680, height=960, deviceScaleFactor=1, mobile=False)
    assert browser.value("document.documentElement.scrollWidth") <= 680
    assert browser.value("[...document.querySelectorAll('.wide')].every(one => getComputedStyle(one).overflowX == 'visible')")
