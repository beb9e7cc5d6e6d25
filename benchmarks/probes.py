"""Table 8: the logistic regressions of all heads, against scikit-learn's, on what the model's own heads put out.

A model's heads are gone through again until there are 1,024; scikit-learn solves a sample of them, one after another, as it is
used in this field. Its default tolerance leaves coefficients some hundredths from the optimum: the run that is compared is the
first whose coefficients are good to 1e-4; the others are shown beside it.
"""

import time
import warnings
from typing import Any

import numpy as np

from benchmarks import material
from benchmarks.measure import Found, furthest, interleaved, median
from benchmarks.tables import Setting, Table, _aim
from locus.claims import probe
from locus.engine.activations import base_pass

# By size: heads, of which the peer solves one in so many, questions, repeats.
SIZES = {"full": (1024, 32, 160, 2), "sample": (64, 8, 24, 1)}
PEERS = {
    "lbfgs, tol 1e-7": {"solver": "lbfgs", "tol": 1e-7, "max_iter": 10_000},
    "lbfgs, its default tolerance": {"solver": "lbfgs", "max_iter": 1000},
    "newton-cholesky, tol 1e-6": {"solver": "newton-cholesky", "tol": 1e-6},
}


def probing(setting: Setting) -> Table:
    """Table 8: ms a head, and how far each side's coefficients are from the optimum's."""
    heads, every, count, repeats = SIZES["full" if setting.size.repeats > 2 else "sample"]
    common = {"count": count, "heads": heads, "every": every}
    jobs = [setting.job("probes.ours", **common), *(setting.job("probes.theirs", how=how, **common) for how in PEERS)]
    ours, *peers = interleaved(jobs, repeats, setting.say)
    each = [median(found, lambda one: 1e3 * one["seconds"] / one["heads"]) for found in (ours, *peers)]
    names = ("locus", *(f"scikit-learn, {how}" for how in PEERS))
    first = ours[0]
    apart = furthest(first["check"], peers[0][0]["check"])
    return {
        "title": f"Logistic regressions of {first['heads']} heads on {first['answers']} answers of {first['width']} features",
        "columns": [
            "side",
            "heads solved",
            "ms a head",
            "locus is faster by",
            "coefficients off by, at most",
            "peak MB",
        ],
        "rows": [
            [name, found[0]["heads"], f"{ms:.2f}", f"{ms / each[0]:.1f}", f"{found[0]['error']:.1e}", _peak(found)]
            for name, ms, found in zip(names, each, (ours, *peers), strict=True)
        ],
        "aims": [
            _aim("times as fast as scikit-learn's lbfgs at coefficients good to 1e-4", 10, each[1] / each[0]),
            _aim("times as fast as scikit-learn's newton-cholesky, its quickest that is good to 1e-4", 10, each[3] / each[0]),
        ],
        "checks": [
            {
                "what": "coefficients of the heads that both solved",
                "n": len(first["check"]),
                "range": max(first["check"]) - min(first["check"]),
                "apart": apart,
                "allowed": 1e-4,
                "same": apart <= 1e-4,
            }
        ],
        "notes": [
            "The optimum: scikit-learn's newton-cholesky in float64 at tol 1e-12. Features: float32, for the peer float64."
        ],
        "found": [*ours, *(one for found in peers for one in found)],
    }


def _peak(found: list[Found]) -> str:
    return f"{median(found, lambda one: one['peak_mb']):.0f}"


def features(model: str, data: str, count: int, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """[heads, answers, features] at the last tokens of the answers to some questions, and whether each is true."""
    frozen, items = material.frozen(model), material.questions(data, count)
    bank = base_pass(frozen, material.trie_of(frozen, items), features=True).features
    assert bank is not None, "the survey was asked for features"
    flat = bank.reshape(len(bank), -1, bank.shape[-1]).transpose(1, 0, 2)
    return np.ascontiguousarray(flat[np.arange(heads) % len(flat)]), probe.labels(items)[0]


def ours(model: str, data: str, count: int, heads: int, every: int) -> Found:
    """All heads."""
    x, y = features(model, data, count, heads)
    start = time.perf_counter()
    weights, _ = probe.fit_probes(x, y)
    return _found(time.perf_counter() - start, x, y, weights, np.arange(heads), every)


def theirs(model: str, data: str, count: int, heads: int, every: int, how: str) -> Found:
    """One head in `every`."""
    from sklearn.linear_model import LogisticRegression

    x, y = features(model, data, count, heads)
    x = x.astype(np.float64)  # in float32 its lbfgs ends hundredths from the optimum, whatever its tolerance
    chosen = np.arange(0, heads, every)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        LogisticRegression(**PEERS[how]).fit(x[0], y)  # what the first call imports is not timed
        start = time.perf_counter()
        weights = [LogisticRegression(**PEERS[how]).fit(x[head], y).coef_[0] for head in chosen]
        seconds = time.perf_counter() - start
    return _found(seconds, x, y, np.array(weights), chosen, every)


def _found(seconds: float, x: np.ndarray, y: np.ndarray, weights: np.ndarray, solved: np.ndarray, every: int) -> Found:
    """With the distance to the optimum at the heads that all sides solved."""
    from sklearn.linear_model import LogisticRegression

    shared: Any = weights[::every] if len(solved) == len(x) else weights
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exact = LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000)
        best = np.array([exact.fit(x[head].astype(np.float64), y).coef_[0] for head in range(0, len(x), every)])
    return {
        "seconds": seconds,
        "heads": len(solved),
        "answers": x.shape[1],
        "width": x.shape[2],
        "error": float(np.abs(shared - best).max()),
        "check": shared.reshape(-1).tolist(),
    }
