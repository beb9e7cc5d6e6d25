"""Thin commands: each reads its options, calls one function, prints a table.

Exit status: 0 done, 2 the user can fix it, 1 our bug, 3 verification failed.
"""

import atexit
import gc
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from locus.boundary import outputs, terminal
from locus.boundary.terminal import Text
from locus.cli import ending, exports, keyring, names, studies
from locus.cli.options import OwnAdapter, OwnData, OwnJudge, OwnModel, OwnParts, OwnRevision, OwnText, OwnUrl, Trust
from locus.errors import UserError
from locus.machine import threads

app = typer.Typer(
    help="How strong is the evidence from editing that a behaviour of a language model is localized?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
judges = typer.Typer(help="Train a judge of truth and information, and measure any judge.", no_args_is_help=True)
app.add_typer(judges, name="judge")
app.add_typer(keyring.app, name="keys")
app.command()(studies.reproduce)
app.command("list")(names.show)
console = terminal.console()


@app.callback()
def _before() -> None:
    outputs.check_environment()


Preset = Annotated[str, Option(help="quick, standard or paper.")]
ConfigFile = Annotated[Path | None, Option("--config", help="TOML file with any of the settings.")]
ModelName = Annotated[
    str | None, Option("--model", help="Hub id, folder, GGUF file or planted:KIND.", show_default="smollm2-135m-instruct")
]
Adapter = Annotated[str | None, Option(help="none, merged, or an adapter's folder, where one lies beside the weights.")]
Data = Annotated[
    str | None,
    Option(
        help="misconceptions, truthfulqa, its CSV or JSON, or your own JSONL.",
        show_default="misconceptions; a planted model's own",
    ),
]
Claims = Annotated[
    list[str] | None,
    Option(
        "--claim",
        help="probe, patch:DIR, heads such as 12.3,14.0, or a file of heads (JSON, .npy, or one a line); may be repeated.",
        show_default="probe",
    ),
]


@app.command()
def audit(
    out: Annotated[Path, Option(help="Run folder; the same command again goes on where it stopped.")],
    preset: Preset = "quick",
    config: ConfigFile = None,
    model: ModelName = None,
    adapter: Adapter = None,
    data: Data = None,
    claim: Claims = None,
    claim_size: Annotated[int | None, Option(help="Heads of a probe claim.", show_default="4; standard: 8; paper: 16")] = None,
    random: Annotated[int | None, Option(help="Random Locations.", show_default="19; standard: 39; paper: 16")] = None,
    alpha: Annotated[float | None, Option(help="Level of the tests.", show_default="0.05; paper: 0.06")] = None,
    metric: Annotated[
        str | None,
        Option(help="mc1, mc2, mc3, margin; truth, info or true_info.", show_default="mc2; with a judge: true_info"),
    ] = None,
    seed: Annotated[int | None, Option(help="Of splits, draws, starts and resampling.", show_default="0")] = None,
    setting: Annotated[list[str] | None, Option("--set", help="Any other setting, as name=value; may be repeated.")] = None,
    sign: Annotated[bool, Option(help="Sign the receipt with the user's key.")] = True,
) -> None:
    """Audit a claim: the optimal edit there, at random Locations, everywhere, and everywhere but there."""
    from locus.boundary.settings import from_flags
    from locus.plan.config import resolve
    from locus.plan.preconditions import early

    flags: dict[str, Any] = {"model": model, "data": data, "claims": tuple(claim) if claim else None, "claim_size": claim_size}
    flags |= {"random": random, "alpha": alpha, "metric": metric, "seed": seed, "adapter": adapter}
    resolved = resolve(preset, config, **from_flags(setting, **flags))
    early(resolved, out)
    from locus.audit import audit as run_audit
    from locus.records.store import finished
    from locus.report.terminal import progress, verdict_table

    if kept := finished(out / "trials.sqlite"):
        console.print(f"{kept} trials are finished already; going on from there.")
    with progress() as told:
        found = run_audit(resolved, out, told, sign)
    verdict_table(console, found, out)


@app.command()
def claims(
    model: ModelName = None,
    adapter: Adapter = None,
    data: Data = None,
    preset: Preset = "quick",
    config: ConfigFile = None,
    top: Annotated[int, Option(min=1, help="Heads to print.")] = 20,
    save: Annotated[Path | None, Option(help="Write the claim to a file that --claim reads.")] = None,
    seed: Annotated[int | None, Option(help="Of splits, and of a planted model named without one.")] = None,
    setting: Annotated[list[str] | None, Option("--set", help="Any other setting, as name=value.")] = None,
) -> None:
    """Print the heads a probe ranks highest, with their validation accuracy."""
    from locus.boundary.settings import from_flags
    from locus.plan.config import resolve
    from locus.plan.preconditions import early

    resolved = resolve(preset, config, **from_flags(setting, model=model, adapter=adapter, data=data, seed=seed))
    early(resolved)
    if save is not None:
        outputs.check_file(save, "--save")
    from locus.report.terminal import claim_table, progress
    from locus.run.setup import find_claim

    with progress() as told:
        found = find_claim(resolved, told)
    if save is not None:
        found.save(save)
    claim_table(console, found, top)


@app.command()
def patch(
    out: Annotated[Path, Option(help="Folder for the map; the same command again goes on where it stopped.")],
    task: Annotated[
        str | None, Option(help="ioi, greater-than, factual, arithmetic, docstring, induction, or FILE.jsonl with pairs.")
    ] = None,
    model: ModelName = None,
    adapter: Adapter = None,
    pairs: Annotated[int | None, Option(help="Examples.")] = None,
    compare: Annotated[bool, Option(help="Every metric, both corruptions, windows: where would conclusions differ?")] = False,
    tokens: Annotated[list[str] | None, Option(help="Which tokens of ioi are corrupted: S2, S1+IO, ABC; repeat.")] = None,
    direction: Annotated[str | None, Option(help="denoise (is it enough?) or noise (is it needed?).")] = None,
    screen: Annotated[int | None, Option(help="Patch only so many exactly, those that attribution ranks first.")] = None,
    alpha: Annotated[float | None, Option(help="Error rate of detection.")] = None,
    seed: Annotated[int | None, Option(help="Of pairs, noise, samples and sign flips.")] = None,
    config: ConfigFile = None,
    setting: Annotated[list[str] | None, Option("--set", help="Any other setting, as name=value; may be repeated.")] = None,
) -> None:
    """Find heads by activation patching, at a stated error rate; --claim patch:DIR takes them to the audit."""
    from locus.boundary.settings import from_flags
    from locus.patching.settings import resolve

    flags: dict[str, Any] = {"task": task, "model": model, "adapter": adapter, "pairs": pairs, "seed": seed}
    flags |= {"tokens": tuple(tokens) if tokens else None, "direction": direction, "screen": screen, "alpha": alpha}
    resolved = resolve(config, **from_flags(setting, **flags, compare=compare or None))
    from locus.patch import find
    from locus.report.terminal import patch_table, progress

    with progress() as told:
        found = find(resolved, out, told)
    patch_table(console, found, out)


@app.command()
def report(
    runs: Annotated[list[Path], Argument(metavar="RUN...", help="Run folders, finished or not; a calibration's; a power file.")],
    compare: Annotated[bool, Option("--compare", help="Set the runs side by side, on the page of the first.")] = False,
    sign: Annotated[bool, Option(help="Sign the list of what was drawn with the user's key.")] = True,
) -> None:
    """Write a run's report.html, its figures, and how to cite it; or the figures of a calibration or of a power file.

    Nothing is opened but these folders and files: no model, no data, no judge, whatever they name.
    """
    from locus.report.figures import errors
    from locus.report.page import write

    if compare and len(runs) < 2:
        raise UserError("two runs or more to set side by side", "one", "Name the others too: locus report --compare RUN RUN.")
    for run in runs[:1] if compare else runs:
        if run.is_file() or (run / "calibration.json").is_file():
            console.print(Text(f"wrote figures: {', '.join(errors.write(run))}"))
        else:
            console.print(Text(write(run, runs[1:] if compare else None, sign=sign)), soft_wrap=True)


app.command()(exports.export)


@app.command()
def verify(
    run_or_receipt: Annotated[Path, Argument(help="Run folder, receipt.json, or a numbered record of a paper.")],
    expect: Annotated[
        str | None, Option(help="Trusted name or public key that must have signed all of it; or its id or hash.")
    ] = None,
    rerun: Annotated[int, Option(min=0, help="Also repeat this many random trials on the model.")] = 0,
    seed: Annotated[int | None, Option(min=0, help="Of the draw of trials to repeat; unforeseeable by default.")] = None,
    model: OwnModel = None,
    adapter: OwnAdapter = None,
    revision: OwnRevision = None,
    data: OwnData = None,
    text: OwnText = None,
    judge: OwnJudge = None,
    judge_url: OwnUrl = None,
    own: OwnParts = None,
    trust_remote_code: Trust = False,
) -> None:
    """Check hashes and signature, derive the verdict anew from the stored scores, and repeat random trials if asked to.

    A run chooses nothing that is opened, run or asked: what does not come with the package is what you give here, and it is held
    against the run's fingerprints.
    """
    from locus.report.verify import verify as check

    found = check(run_or_receipt, expect)
    from locus.report.terminal import progress, verified_table

    verified_table(console, found)
    if rerun:
        from locus.report.consent import Given
        from locus.report.rerun import rerun as repeat
        from locus.report.rerun import sentences

        if found.kind != "run":
            raise UserError("a run folder to repeat trials of", f"a {found.kind}", "Give the run's folder.")
        given = Given(model, revision, data, text, judge, judge_url, trust_remote_code, adapter, tuple(own or ()))
        with progress() as told:
            again = repeat(run_or_receipt, rerun, seed, told, given)
        for said in sentences(again):
            console.print(Text(said), soft_wrap=True)


@app.command()
def power(
    run: Annotated[Path | None, Argument(help="A finished run, to take effect and noise from.")] = None,
    random: Annotated[int | None, Option(help="Random Locations.", show_default="the run's, or 19")] = None,
    questions: Annotated[int | None, Option(help="Test questions.", show_default="the run's, or 100")] = None,
    effect: Annotated[float | None, Option(help="Claim above random, in sd of these.", show_default="the run's, or 2.5")] = None,
    noise: Annotated[float | None, Option(help="Of one seed's mean, in the same sd.", show_default="the run's, or 0.3")] = None,
    seeds: Annotated[int | None, Option(help="Training seeds a Location.", show_default="the run's, or 1")] = None,
    alpha: Annotated[float | None, Option(help="Level of the tests.", show_default="the run's, or 0.05")] = None,
    want: Annotated[float, Option(help="Wanted power.")] = 0.8,
    claims: Annotated[int | None, Option(help="Claims that share the level.", show_default="the run's, or 1")] = None,
    out: Annotated[Path | None, Option(help="Write the numbers to a JSON file.")] = None,
) -> None:
    """Say what an audit of a given size can find, and what size finds an effect."""
    import json

    from locus.calibrate.power import ask
    from locus.report.terminal import power_table

    told = {"n_random": random, "n_questions": questions, "effect": effect, "noise": noise, "alpha": alpha, "n_claims": claims}
    told["seeds"] = seeds
    found = ask(run, want=want, **{name: value for name, value in told.items() if value is not None})
    if out is not None:
        outputs.write(out, json.dumps(found, indent=1) + "\n")
    power_table(console, found)


@app.command()
def calibrate(
    out: Annotated[Path, Option(help="Folder; the same command again goes on where it stopped.")],
    draws: Annotated[int, Option(help="Planted models of each kind.")] = 200,
    kinds: Annotated[str | None, Option(help="Kinds of planted model, comma-separated; all by default.")] = None,
    alpha: Annotated[float, Option(help="Level of the tests.")] = 0.05,
    tolerance: Annotated[
        float, Option("--tolerance", "--margin", help="Margin of non-inferiority, as a share of the ceiling's gain.")
    ] = 0.25,
    random: Annotated[int, Option(help="Random Locations.")] = 19,
    workers: Annotated[int | None, Option(help="Processes; one a core by default.")] = None,
) -> None:
    """Audit many models whose true location is known, and count how often each answer is wrong."""
    from locus.calibrate.table import ALL, table
    from locus.calibrate.table import calibrate as run_calibration
    from locus.plan.config import resolve
    from locus.report.terminal import progress

    config = resolve(alpha=alpha, tolerance=tolerance, random=random)
    chosen = ALL if kinds is None else tuple(kinds.split(","))
    with progress() as told:
        found = run_calibration(out, draws, chosen, config, workers, told)
    console.print(table(found), soft_wrap=True)


@app.command()
def doctor(
    model: ModelName = None,
    adapter: Adapter = None,
    empty_cache: Annotated[bool, Option("--empty-cache", help="Delete what audits share, and stop.")] = False,
) -> None:
    """Print versions, device, cache, checks of the model, and which data can be had."""
    if empty_cache:
        from locus.engine.cache import Cache

        gone = Cache.standard().clear()
        console.print(f"deleted {gone.entries} entries, {gone.nbytes / 1e9:.2f} GB")
        return
    from locus.cli.doctor import examine

    if not examine(console, model, adapter):
        raise typer.Exit(2)


@judges.command("train")
def judge_train(
    labels: Annotated[Path, Option(help="CSV of labelled answers: question, answer, truthful, informative.")],
    references: Annotated[Path, Option(help="TruthfulQA.csv, whose references are learned from and split by question.")],
    out: Annotated[Path, Option(help="Weights to write, a .safetensors file; use them as --set judge=local:FILE.")],
    seed: Annotated[int, Option(min=0, max=2**31, help="Of the trees, folds and made-up answers.")] = 0,
) -> None:
    """Train a local judge on labelled answers to all questions but the held-out fifth."""
    from locus.judges.training import Recipe, train

    outputs.check_file(out)
    train(labels, references, out, Recipe(seed=seed), lambda said: console.print(Text(said)))
    console.print(Text(out), soft_wrap=True)


@judges.command("eval")
def judge_eval(
    labels: Annotated[Path, Option(help="CSV: question, answer, truthful, informative (yes or no; empty if unlabelled).")],
    out: Annotated[Path, Option(help="Folder for figures.json and judgements.csv.")],
    judge: Annotated[list[str] | None, Option(help="local, local:WEIGHTS, lm:MODEL, api:MODEL; may be repeated.")] = None,
    references: Annotated[str | None, Option(help="Dataset with the questions' references, as for --data.")] = None,
    url: Annotated[str | None, Option(help="Base URL of the endpoint of api:MODEL.")] = None,
    cap: Annotated[float | None, Option(help="The most that api:MODEL may cost; needs --prices.")] = None,
    prices: Annotated[tuple[float, float], Option(help="Of a million tokens read, and of a million written.")] = (0.0, 0.0),
    seen: Annotated[bool, Option("--seen", help="Also measure on questions that a judge learned from.")] = False,
) -> None:
    """Measure judges against people's labels, and against one another; the wording-only control is always among them."""
    from locus import behaviours as datasets
    from locus.judges import compare, named
    from locus.judges.api import Endpoint
    from locus.report.terminal import judge_table

    outputs.check_folder(out)
    names = judge or ["local"]
    for name in names:
        named.check(name)
    read = compare.read_labels(labels, datasets.load(references) if references else None)
    opened = [named.open_judge(name, Endpoint(url, cap, prices)) for name in names]
    compare.check(opened, read)
    kept = read if seen else compare.unseen(opened, read)
    for one in compare.outlook(opened, kept):
        console.print(Text(one))
    found = compare.measure(opened, kept)
    compare.write(found, out)
    judge_table(console, found, len(read.rows) - len(kept.rows))
    console.print(Text(f"{out / 'figures.json'}   {out / 'judgements.csv'}"), soft_wrap=True)


def main() -> None:
    """Run the command line and turn errors into exit statuses."""
    threads.settle()  # before a command imports torch
    atexit.register(gc.freeze)  # else Python, as it ends, goes through all that torch has made once more, for a second or two
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for bars in ("HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE"):  # also those of loading weights, which would cut through ours
        os.environ.setdefault(bars, "1")
    ending.end(app)
