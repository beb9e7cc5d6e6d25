"""Table 4: whole audits against the sum of what the peers need for the same trials.

Ours: `quick` is run whole; `standard` is too long for a benchmark, so one bank of every class of trials is run on a quarter of
its questions and texts and counted up (cost is a straight line in both, table 5). Peers: a trial costs its pairs times the
seconds a pair that TRL + PEFT took at sampled places of its class, and its answers times those that lm-eval's backend took.
A machine whose speed changes from one minute to the next would favour one side, and here the sides cannot take turns. So the
peers' seconds are stated at the matrix rate that ours had: times their own rate, by ours. Nothing is charged to the peers for
probing, drift, selection or statistics, which they do not do; nobody generates or judges.
"""

import statistics
from typing import Any

import numpy as np

from benchmarks.measure import Found, run
from benchmarks.tables import Setting, Table, _aim

PLAIN = "Q: {question}\nA:"
SHARE = 4  # of standard's questions and texts, one in so many


def whole_audits(setting: Setting) -> Table:
    """Both presets: our seconds, the peers' seconds for the same trials, and what these were summed from."""
    rows, aims, notes, everything = [], [], [], []
    common = {"model": setting.model, "data": setting.data, "sequential": False, "judge": "none", "metric": "mc2"}
    answer = run(setting.job("peers.choice", count=max(4, setting.size.choice), template=PLAIN, batch=8))
    everything.append(answer)
    for preset, told in (("quick", setting.size.audit), ("standard", {**setting.size.audit, **setting.size.standard})):
        settings = {**common, **told}
        plan = run(("ours.plan", {"preset": preset, "settings": settings}))
        if preset == "quick":
            ours = run(("ours.audit", {"preset": preset, "settings": settings}))
        else:
            fewer = {name: max(4, plan["config"][name] // SHARE) for name in ("train", "validation", "test")}
            fewer["text_passages"] = max(1, plan["config"]["text_passages"] // SHARE)  # they are counted up with the rest
            ours = run(("ours.sampled", {"preset": preset, "settings": {**settings, **fewer}, "share": SHARE}))
        theirs, said, found = _peers(setting, plan, answer, ours["rate"])
        everything += found
        setting.say(f"  {preset}: ours {ours['seconds']:.0f} s, peers {theirs:.0f} s")
        everything.append(ours)
        count = sum(one["count"] for one in plan["classes"])
        how = "run whole" if preset == "quick" else f"from {ours['sampled']} of its trials"
        rows.append(
            [
                preset,
                count,
                f"{ours['seconds']:.0f}",
                how,
                f"{theirs:.0f}",
                f"{theirs / ours['seconds']:.1f}",
                f"{ours['peak_mb']:.0f}",
            ]
        )
        aims.append(_aim(f"times as fast as the peers, {preset}", 40, theirs / ours["seconds"]))
        notes.append(f"{preset}: {said}")
    return {
        "title": "Whole audits, set-up included, nothing cached before",
        "columns": [
            "preset",
            "trials",
            "locus, s",
            "measured",
            "peers, s (sum)",
            "times the peers",
            "peak MB of a process",
        ],
        "rows": rows,
        "aims": aims,
        "checks": [],
        "notes": [
            *notes,
            "The peers' seconds are multiplied by the matrix rate of their own process and divided by that of ours. "
            "Rates are measured before and after the work: a slow stretch within it still counts against its side "
            "(docs/log has other runs).",
            "Sampled banks are run as an audit runs them, one a core: each beside another run of itself.",
            "That both sides compute the same thing is checked in tables 1 to 3, with the same code.",
        ],
        "found": everything,
    }


def at_rate(found: Found, unit: str, rate: float) -> float:
    """Seconds a unit, had the machine been as fast as where it reached `rate`."""
    return float(found["seconds"] / found[unit] * found["rate"] / rate)


def _peers(setting: Setting, plan: Found, answer: Found, rate: float) -> tuple[float, str, list[Found]]:
    """The peers' seconds for all trials of a plan at a matrix rate, the sentence that says from what, and the runs."""
    total, said, runs = 0.0, [], []
    each_answer = at_rate(answer, "answers", rate)
    for one in plan["classes"]:
        if one["role"] == "base":
            continue
        scored = one["count"] * plan["answers"] * each_answer
        total += scored
        if not one["trained"]:
            continue
        # Places of the class from the shallowest first layer to the deepest: the peer's backward stops there, too.
        ordered = sorted(one["layers"], key=lambda layers: layers[0])
        asked = min(len({tuple(layers) for layers in ordered}), max(1, setting.size.peer_places - 1))
        chosen = [ordered[index] for index in np.linspace(0, len(ordered) - 1, asked + 2).astype(int)[1:-1]]
        found = [
            run(setting.job("peers.training", count=max(4, setting.size.train // 2), place=",".join(map(str, layers))))
            for layers in chosen
        ]
        pair = statistics.fmean(at_rate(one_run, "pairs", rate) for one_run in found)
        total += one["count"] * plan["pairs"] * pair
        said.append(f"{one['count']} {one['role']} at {1e3 * pair:.0f} ms a pair ({len(found)} measured)")
        runs += found
    trained = f"{plan['pairs']} pairs and {plan['answers']} answers a trial at {1e3 * each_answer:.0f} ms an answer"
    return total, f"{'; '.join(said)}; {trained}.", runs


def counted_up(seconds: dict[str, list[float]], counts: dict[str, int]) -> float:
    """The sum over classes of trials times their mean seconds.

    Raises:
        KeyError: if a class was not measured.
    """
    return sum(count * statistics.fmean(seconds[role]) for role, count in counts.items())


def sample_of(banks: list[list[Any]]) -> list[list[Any]]:
    """One bank of every class: the one whose mean first layer is nearest to the class's, so that no depth is favoured."""
    groups: dict[str, list[list[Any]]] = {}
    for bank in banks:
        groups.setdefault(bank[0].role, []).append(bank)
    chosen = []
    for group in groups.values():
        depth = statistics.fmean(trial.first_layer for bank in group for trial in bank)
        chosen.append(min(group, key=lambda bank: abs(statistics.fmean(trial.first_layer for trial in bank) - depth)))
    return chosen
