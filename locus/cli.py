"""Thin commands: each reads its options, calls one function, prints a table.

Exit status: 0 done, 2 the user can fix it, 1 our bug, 3 verification failed.
"""

import atexit
import gc
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer import Argument, Option

from locus import studies, threads
from locus.errors import UserError, VerificationError, of_place

app = typer.Typer(
    help="How strong is the evidence from editing that a behaviour of a language model is localized?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
judges = typer.Typer(help="Train a judge of truth and information, and measure any judge.", no_args_is_help=True)
app.add_typer(judges, name="judge")
app.command()(studies.reproduce)
# Where there is no terminal (a pipe, a log), 80 columns would break the lines.
console = Console(width=None if sys.stdout.isatty() else 132)

INTERRUPTED = 130  # Ctrl-C
Preset = Annotated[str, Option(help="quick, standard or paper.")]
ConfigFile = Annotated[Path | None, Option("--config", help="TOML file with any of the settings.")]
ModelName = Annotated[
    str | None, Option("--model", help="Hub id, folder, GGUF file or planted:KIND.", show_default="smollm2-135m-instruct")
]
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
    from locus.config import resolve
    from locus.preconditions import early
    from locus.settings import from_flags

    flags: dict[str, Any] = {"model": model, "data": data, "claims": tuple(claim) if claim else None, "claim_size": claim_size}
    flags |= {"random": random, "alpha": alpha, "metric": metric, "seed": seed}
    resolved = resolve(preset, config, **from_flags(setting, **flags))
    early(resolved, out)
    from locus.audit import audit as run_audit
    from locus.show import progress, verdict_table
    from locus.store import finished

    if kept := finished(out / "trials.sqlite"):
        console.print(f"{kept} trials are finished already; going on from there.")
    with progress() as told:
        found = run_audit(resolved, out, told, sign)
    verdict_table(console, found, out)


@app.command()
def claims(
    model: ModelName = None,
    data: Data = None,
    preset: Preset = "quick",
    config: ConfigFile = None,
    top: Annotated[int, Option(help="Heads to print.")] = 20,
    save: Annotated[Path | None, Option(help="Write the claim to a file that --claim reads.")] = None,
    seed: Annotated[int | None, Option(help="Of splits, and of a planted model named without one.")] = None,
    setting: Annotated[list[str] | None, Option("--set", help="Any other setting, as name=value.")] = None,
) -> None:
    """Print the heads a probe ranks highest, with their validation accuracy."""
    from locus import outputs
    from locus.config import resolve
    from locus.preconditions import early
    from locus.settings import from_flags

    resolved = resolve(preset, config, **from_flags(setting, model=model, data=data, seed=seed))
    early(resolved)
    if save is not None:
        outputs.check_file(save, "--save")
    from locus.audit import find_claim
    from locus.show import claim_table, progress

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
    from locus.patching.settings import resolve
    from locus.settings import from_flags

    flags: dict[str, Any] = {
        "task": task,
        "model": model,
        "pairs": pairs,
        "tokens": tuple(tokens) if tokens else None,
        "seed": seed,
    }
    flags |= {"direction": direction, "screen": screen, "alpha": alpha, "compare": compare or None}
    resolved = resolve(config, **from_flags(setting, **flags))
    from locus.patching.find import find
    from locus.show import patch_table, progress

    with progress() as told:
        found = find(resolved, out, told)
    patch_table(console, found, out)


@app.command()
def report(
    runs: Annotated[list[Path], Argument(metavar="RUN...", help="Run folders, finished or not; a calibration's; a power file.")],
    compare: Annotated[bool, Option("--compare", help="Set the runs side by side, on the page of the first.")] = False,
    sign: Annotated[bool, Option(help="Sign the list of what was drawn with the user's key.")] = True,
) -> None:
    """Write a run's report.html, its figures, and how to cite it; or the figures of a calibration or of a power file."""
    from locus.report.figures import errors
    from locus.report.page import write

    if compare and len(runs) < 2:
        raise UserError("two runs or more to set side by side", "one", "Name the others too: locus report --compare RUN RUN.")
    for run in runs[:1] if compare else runs:
        if run.is_file() or (run / "calibration.json").is_file():
            console.print(_escaped(f"wrote figures: {', '.join(errors.write(run))}"))
        else:
            console.print(_escaped(str(write(run, runs[1:] if compare else None, sign=sign))), soft_wrap=True)


@app.command()
def export(
    run: Annotated[Path, Argument(help="Run folder.")],
    to: Annotated[Path, Option(help="A new or empty folder.")],
    trial: Annotated[
        str | None, Option(help="Whose edit: claim, ceiling, complement, random-11, shift, or a trial's id.")
    ] = None,
    form: Annotated[
        str, Option("--as", help="peft (a rank-1 edit), bias (a shift, in a copy of the model), scores, or auto.")
    ] = "auto",
) -> None:
    """Export a trial's edit as a PEFT adapter or a bias, or a run's per-item scores as Parquet and CSV."""
    if form not in ("auto", "peft", "bias", "scores"):
        raise UserError("--as auto, peft, bias or scores", repr(form), "Choose one of them.")
    from locus.report.export import export_edit, export_scores

    if form == "scores" or (form == "auto" and trial is None):
        said = [f"wrote {name}" for name in export_scores(run, to)]
    elif trial is None:
        raise UserError("--trial with a name or an id", "none", "Give --trial claim, for example, or --as scores.")
    else:
        said = [f"wrote {to}", *export_edit(run, trial, to, "auto" if form == "auto" else "peft" if form == "peft" else "bias")]
    console.print(_escaped("\n".join(said)))


@app.command()
def verify(
    run_or_receipt: Annotated[Path, Argument(help="Run folder, receipt.json, or a numbered record of a paper.")],
    expect: Annotated[str | None, Option(help="Id, hash or signer's public key that it must have.")] = None,
    rerun: Annotated[int, Option(help="Also repeat this many random trials on the model.")] = 0,
    seed: Annotated[int | None, Option(help="Of the draw of trials to repeat; unforeseeable by default.")] = None,
) -> None:
    """Check hashes and signature, derive the verdict anew from the stored scores, and repeat random trials if asked to."""
    from locus.report.verify import verify as check

    found = check(run_or_receipt, expect)
    from locus.show import progress, verified_table

    verified_table(console, found)
    if rerun:
        from locus.report.rerun import rerun as repeat

        if found["kind"] != "run":
            raise UserError("a run folder to repeat trials of", f"a {found['kind']}", "Give the run's folder.")
        with progress() as told:
            again = repeat(run_or_receipt, rerun, seed, told)
        gaps = ", ".join(f"{measure} {gap:.2g}" for measure, gap in sorted(again["largest"].items()))
        console.print(f"{again['repeated']} trials repeated (draw {again['seed']}); largest differences: {gaps}", soft_wrap=True)


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

    from locus import outputs
    from locus.power import ask
    from locus.show import power_table

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
    margin: Annotated[float, Option(help="Margin, as a share of the ceiling's gain.")] = 0.25,
    random: Annotated[int, Option(help="Random Locations.")] = 19,
    workers: Annotated[int | None, Option(help="Processes; one a core by default.")] = None,
) -> None:
    """Audit many models whose true location is known, and count how often each answer is wrong."""
    from locus.config import resolve
    from locus.planted.calibrate import ALL, table
    from locus.planted.calibrate import calibrate as run_calibration
    from locus.show import progress

    config = resolve(alpha=alpha, margin=margin, random=random)
    chosen = ALL if kinds is None else tuple(kinds.split(","))
    with progress() as told:
        found = run_calibration(out, draws, chosen, config, workers, told)
    console.print(_escaped(table(found)), soft_wrap=True)


@app.command()
def doctor(
    model: ModelName = None,
    empty_cache: Annotated[bool, Option("--empty-cache", help="Delete what audits share, and stop.")] = False,
) -> None:
    """Print versions, device, cache, checks of the model, and which data can be had."""
    if empty_cache:
        from locus.cache import Cache

        gone = Cache.standard().clear()
        console.print(f"deleted {gone.entries} entries, {gone.nbytes / 1e9:.2f} GB")
        return
    from locus.doctor import examine

    if not examine(console, model):
        raise typer.Exit(2)


@judges.command("train")
def judge_train(
    labels: Annotated[Path, Option(help="CSV of labelled answers: question, answer, truthful, informative.")],
    references: Annotated[Path, Option(help="TruthfulQA.csv, whose references are learned from and split by question.")],
    out: Annotated[Path, Option(help="Weights to write, a .safetensors file; use them as --set judge=local:FILE.")],
    seed: Annotated[int, Option(help="Of the trees, folds and made-up answers.")] = 0,
) -> None:
    """Train a local judge on labelled answers to all questions but the held-out fifth."""
    from locus import outputs
    from locus.judges.training import Recipe, train

    outputs.check_file(out)
    train(labels, references, out, Recipe(seed=seed), lambda line: console.print(_escaped(line)))
    console.print(_escaped(f"{out}"), soft_wrap=True)


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
    from locus import datasets, outputs
    from locus.judges import compare, named
    from locus.judges.api import Endpoint
    from locus.show import judge_table

    outputs.check_folder(out)
    names = judge or ["local"]
    for name in names:
        named.check(name)
    read = compare.read_labels(labels, datasets.load(references) if references else None)
    opened = [named.open_judge(name, Endpoint(url, cap, prices)) for name in names]
    compare.check(opened, read)
    kept = read if seen else compare.unseen(opened, read)
    for line in compare.outlook(opened, kept):
        console.print(_escaped(line))
    found = compare.measure(opened, kept)
    compare.write(found, out)
    judge_table(console, found, len(read.rows) - len(kept.rows))
    console.print(_escaped(f"{out / 'figures.json'}   {out / 'judgements.csv'}"), soft_wrap=True)


def main() -> None:
    """Run the command line and turn errors into exit statuses."""
    threads.settle()  # before a command imports torch
    atexit.register(gc.freeze)  # else Python, as it ends, goes through all that torch has made once more, for a second or two
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # also those of loading weights, which would cut through ours
    warnings.formatwarning = _warning
    try:
        status = app(standalone_mode=False)
        if status == INTERRUPTED:
            print("Interrupted. What was finished is kept; the same command goes on from there.", file=sys.stderr)
        sys.exit(status if isinstance(status, int) else 0)
    except UserError as error:
        Console(stderr=True, soft_wrap=True, emoji=False).print(f"[bold red]error:[/] {_escaped(str(error))}")
        sys.exit(2)
    except VerificationError as error:
        Console(stderr=True, soft_wrap=True, emoji=False).print(f"[bold red]not verified:[/] {_escaped(str(error))}")
        sys.exit(3)
    except BrokenPipeError:  # whoever read our output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # typer's own, or click's: which it is depends on the version
            error.show()
            sys.exit(2)
        if isinstance(error, OSError) and (place := of_place(error)):
            Console(stderr=True, soft_wrap=True, emoji=False).print(f"[bold red]error:[/] {_escaped(str(place))}")
            sys.exit(2)
        Console(stderr=True).print_exception(show_locals=False)
        print("This is a bug in locus; please report it with the lines above.", file=sys.stderr)
        sys.exit(1)


def _warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """Our own notices are for the user, who does not care which line of ours says so."""
    where = "" if category.__module__.startswith("locus") else f" ({filename}:{lineno})"
    return f"notice: {message}{where}\n"


def _escaped(text: str) -> str:
    """Text as the terminal may see it: no markup, no control characters."""
    from rich.markup import escape

    return escape("".join(char if char == "\n" or char.isprintable() else f"\\x{ord(char):02x}" for char in text))
