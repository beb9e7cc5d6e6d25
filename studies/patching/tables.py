"""Print what `locus patch --compare` found, as the pages of this study have it: `python studies/patching/tables.py FOLDER`.

Effects as a share of clean - corrupted with 95 % intervals over prompts (Student's t, one component at a time); bold: found, by
sign flips of all components together. A component is listed if one of the maps finds it. Markdown on standard output.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import spearmanr

SHORT = {"token replacement": "replaced", "Gaussian noise": "noise", "logit difference": "LD", "KL": "KL", "probability": "P"}
SITES = {"head": "head", "mlp": "MLP"}
DRAWS = 4000


def named(one: dict[str, Any]) -> str:
    """Corruption and metric of a map."""
    return f"{SHORT[one['corruption']]}, {SHORT[one['metric']]}"


def effects(content: dict[str, Any], site: str) -> str:
    """A row a component that one of the maps finds, the largest by the first map first."""
    maps = [one for one in content["maps"] if one["site"] == site and one["width"] == 1]
    by_name = [{component["name"]: component for component in one["components"]} for one in maps]
    listed = {name for one in maps for name in one["detected"]}
    lines = [f"| {SITES[site]} | {' | '.join(named(one) for one in maps)} |", "| --- " * (len(maps) + 1) + "|"]
    for name in sorted(listed, key=lambda name: -abs(by_name[0][name]["mean"])):
        cells = []
        for known in by_name:
            one = known[name]
            cell = f"{one['mean']:+.3f} ± {(one['high'] - one['low']) / 2:.3f}"
            cells.append(f"**{cell}**" if one["found"] else cell)
        lines.append(f"| {name.removeprefix('mlp ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def maps(content: dict[str, Any]) -> str:
    """A row a map: runs, what is found, what works against the answer, and agreement with the first map of its site."""
    heads = (
        "map | clean | corrupted | found | of which negative | as the first map: Jaccard | rank correlation | by two deviations"
    )
    lines = [f"| {heads} |", "| --- " * 8 + "|"]
    first: dict[str, dict[str, Any]] = {}
    for one in content["maps"]:
        if one["width"] > 1:
            continue
        top = first.setdefault(one["site"], one)
        mine, theirs = set(one["detected"]), set(top["detected"])
        means = {component["name"]: component["mean"] for component in one["components"]}
        others = {component["name"]: component["mean"] for component in top["components"]}
        rho = spearmanr([means[name] for name in means], [others[name] for name in means]).statistic
        jaccard = len(mine & theirs) / len(mine | theirs) if mine | theirs else float("nan")
        negative = [name for name in one["detected"] if means[name] < 0]
        rule = one["two_deviations"]
        cells = [f"{SITES[one['site']]}s, {named(one)}", f"{one['clean']:+.3g}", f"{one['corrupted']:+.3g}", f"{len(mine)}"]
        cells += [", ".join(negative) or "none", f"{jaccard:.2f}", f"{rho:.2f}"]
        lines.append(f"| {' | '.join(cells)} | {len(rule['detected'])}, {rule['expected_false']:.1f} expected of noise |")
    return "\n".join(lines)


def windows(content: dict[str, Any], folder: Path) -> str:
    """For every map the whole window with the largest joint effect, without MLP 0: joint over sum, with a bootstrap interval."""
    table = pq.read_table(folder / "effects.parquet").to_pandas()
    lines = ["| corruption, metric | MLPs | joint | joint over sum (95 %) |", "| --- | --- | --- | --- |"]
    for one in content["windows"]:
        wide = table[(table.metric == one["metric"]) & (table.corruption == one["corruption"]) & (table.site == one["site"])]
        reach = {window["name"]: tuple(map(int, window["name"].removeprefix("mlp ").split("-"))) for window in one["windows"]}
        whole = {name for name, (low, high) in reach.items() if low > 0 and high - low + 1 == one["width"]}
        kept = [window for window in one["windows"] if window["name"] in whole]
        best = max(kept, key=lambda window: abs(window["joint"]))
        low, high = reach[best["name"]]
        layers = [f"mlp {layer}" for layer in range(low, high + 1)]
        joint = wide[(wide.width > 1) & (wide.component == " + ".join(layers))].sort_values("example").effect.to_numpy()
        each = [wide[(wide.width == 1) & (wide.component == name)].sort_values("example").effect.to_numpy() for name in layers]
        draws = np.random.default_rng(0).integers(len(joint), size=(DRAWS, len(joint)))
        ratios = joint[draws].mean(axis=1) / np.sum(each, axis=0)[draws].mean(axis=1)
        below, above = np.quantile(ratios, [0.025, 0.975])
        lines.append(
            f"| {named(one)} | {low} to {high} | {best['joint']:+.3f} | {best['ratio']:.2f} ({below:.2f} to {above:.2f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    content = json.loads((folder / "patch.json").read_text())
    pairs = [f"{name or 'all'}: {one['n']}" for name, one in content["pairs"].items()]
    print(f"Prompts: {', '.join(pairs)}; right before: {', '.join(f'{share:.3f}' for share in content['right'].values())}.\n")
    sites = [site for site in SITES if any(one["site"] == site and one["width"] == 1 for one in content["maps"])]
    parts = [maps(content), *(effects(content, site) for site in sites), windows(content, folder) if content["windows"] else ""]
    print("\n\n".join(part for part in parts if part))
    print(f"\nClaim: {', '.join(content['claim']['heads'])}. {(content['controls'] or {}).get('sentence', '')}\n")
    print("\n".join(f"- {named(one)}: {one['sentence']}." for one in content["screens"] if one["site"] == "head"))


if __name__ == "__main__":
    main()
