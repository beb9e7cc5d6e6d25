"""Thin commands: each reads its options, calls one function, prints a table.

Exit status: 0 done, 2 the user can fix it, 1 our bug, 3 verification failed.
"""

import atexit
import gc
import os
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

import locus
from locus.boundary import outputs, terminal
from locus.boundary.terminal import Text
from locus.cli import afterwards, behaviours, ending, imported, keyring, labels, names, sizes, studies, sweeps, table
from locus.cli import claims as claim_files
from locus.cli.options import asked, flags, numbers, unless
from locus.machine import threads

app = typer.Typer(
    help="How strong is the evidence from editing that a behaviour of a language model is localized?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
judges = typer.Typer(help="Train a judge of truth and information, and measure any judge.", no_args_is_help=True)
judges.command("label")(labels.label)
app.add_typer(judges, name="judge")
app.add_typer(keyring.app, name="keys")
app.command()(studies.reproduce)
app.command("list")(names.show)
app.add_typer(behaviours.app, name="behaviours")
app.add_typer(claim_files.app, name="claims")
app.add_typer(table.app, name="table")
console = terminal.console()


def _version(asked: bool) -> None:
    """Say which version this is, and end."""
    if asked:
        typer.echo(locus.__version__)
        raise typer.Exit


@app.callback()
def _before(
    own: Annotated[
        list[Path] | None,
        Option("--import", metavar="FILE", help="Python file of yours that registers metrics, edits ...; before the command."),
    ] = None,
    version: Annotated[bool, Option("--version", help="Say which version this is.", callback=_version, is_eager=True)] = False,
) -> None:
    outputs.check_environment()
    imported.import_files(own or ())


Preset = Annotated[str, Option(help="quick, standard or paper.")]
ConfigFile = Annotated[Path | None, Option("--config", help="TOML file with any of the settings.")]
ModelName = Annotated[
    str | None, Option("--model", help="Hub id, folder, GGUF file or planted:KIND.", show_default="smollm2-135m-instruct")
]
Adapter = Annotated[str | None, Option(help="none, merged, or an adapter's folder, where one lies beside the weights.")]
Data = Annotated[
    str | None,
    Option(
        "--data",
        "--behaviour",
        help="misconceptions or another that `locus behaviours` shows, truthfulqa, your own JSONL, or a file that one of "
        "`locus list readers` reads, also as READER:FILE.",
        show_default="misconceptions; a planted model's own",
    ),
]
Exchange = Annotated[bool, Option("--exchange", help="What is unwanted is wanted, and the other way round; as exchange:NAME.")]
Also = Annotated[
    list[str] | None,
    Option(help="Also score edits on another behaviour, named as for --data: what else do they move? May be repeated."),
]
Claims = Annotated[
    list[str] | None,
    Option(
        "--claim",
        help="probe, patch:DIR, sites such as 12.3,14.0 or mlp.7, a file of them, or of scores as FILE#16 "
        "(`locus list importers`); may be repeated.",
        show_default="probe",
    ),
]
ClaimSize = Annotated[int | None, Option(help="Sites of a probe claim.", show_default="4; standard: 8; paper: 16")]
Random = Annotated[int | None, Option(help="Random Locations.", show_default="19; standard: 39; paper: 16")]
Alpha = Annotated[float | None, Option(help="Level of the tests.", show_default="0.05; paper: 0.06")]
Metric = Annotated[
    str | None,
    Option(
        help="What decides; `locus list metrics` shows what there is.",
        show_default="margin (mc2 of small steps); with a judge: true_info, or wanted",
    ),
]
Seed = Annotated[int | None, Option(help="Of splits, draws, starts and resampling.", show_default="0")]
Set = Annotated[list[str] | None, Option("--set", help="Any other setting, as name=value; may be repeated.")]


@app.command()
def audit(
    out: Annotated[Path, Option(help="Run folder; the same command again goes on where it stopped.")],
    preset: Preset = "quick",
    config: ConfigFile = None,
    model: ModelName = None,
    adapter: Adapter = None,
    behaviour: Data = None,
    exchange: Exchange = False,
    claim: Claims = None,
    claim_size: ClaimSize = None,
    random: Random = None,
    alpha: Alpha = None,
    metric: Metric = None,
    seed: Seed = None,
    budget_curve: Annotated[bool, Option(help="Look at searches after 1, 2, 4 and 8 rounds too.")] = False,
    twin: Annotated[bool, Option("--twin", help="Audit a twin: weights redrawn with the same spectra.")] = False,
    transfer: Annotated[
        list[str] | None, Option(help="Also score edits in another prompt format: chat, qa, primer, bare.")
    ] = None,
    also: Also = None,
    repeat: Annotated[int | None, Option(help="Audit so many times with other seeds: is it stable?")] = None,
    part: Annotated[
        str | None, Option(metavar="K/N", help="Do only this share of the plan; `locus merge` joins the parts' folders.")
    ] = None,
    ray_address: Annotated[
        str | None, Option(metavar="ADDRESS", help="Run the banks on this Ray cluster (auto: the one that is here).")
    ] = None,
    settings: Set = None,
    sign: Annotated[bool, Option(help="Sign the receipt with the user's key.")] = True,
) -> None:
    """Audit a claim: the optimal edit there, at random Locations, everywhere, and everywhere but there."""
    behaviour = asked(behaviour, exchange)
    given = flags(settings, out=out, preset=unless(preset), config=config, model=model, adapter=adapter, behaviour=behaviour)
    given |= flags(None, claim=claim, claim_size=claim_size, random=random, alpha=alpha, metric=metric, seed=seed, sign=sign)
    given |= flags(None, transfer=transfer, also=also)
    given |= ({"budget_curve": True} if budget_curve else {}) | ({"twin": True} if twin else {})
    given |= flags(None, part=part, executor=None if ray_address is None else f"ray:{ray_address}")
    from locus.report.terminal import repeat_table, verdict_table

    if repeat is not None:
        repeat_table(console, locus.repeat(repeat, **given).record, out)
    else:
        run = locus.audit(**given)
        if part is not None:
            console.print(Text(afterwards.part_done(run, part)), soft_wrap=True)
        else:
            verdict_table(console, run.verdict, out)


@app.command()
def plan(
    preset: Preset = "quick",
    config: ConfigFile = None,
    model: ModelName = None,
    adapter: Adapter = None,
    behaviour: Data = None,
    exchange: Exchange = False,
    claim: Claims = None,
    claim_size: ClaimSize = None,
    random: Random = None,
    alpha: Alpha = None,
    metric: Metric = None,
    seed: Seed = None,
    also: Also = None,
    settings: Set = None,
) -> None:
    """Say what an audit would run and what it would take, before it is begun."""
    behaviour = asked(behaviour, exchange)
    given = flags(settings, preset=unless(preset), config=config, model=model, adapter=adapter, behaviour=behaviour, claim=claim)
    given |= flags(None, claim_size=claim_size, random=random, alpha=alpha, metric=metric, seed=seed, also=also)
    for line in repr(locus.plan(**given)).splitlines():
        console.print(Text(line), soft_wrap=True)


@app.command()
def forecast(
    sweep: Annotated[Path | None, Option(metavar="SWEEP.toml", help="A sweep, instead of one audit.")] = None,
    devices: Annotated[str | None, Option(metavar="N,N,...", help="How many.", show_default="1,2,4 ... 1000")] = None,
    rate: Annotated[
        float | None, Option(help="Multiply-adds a second that one reaches.", show_default="as a core, or the GPU, here")
    ] = None,
    memory: Annotated[float | None, Option(help="Gigabytes of one.", show_default="as here")] = None,
    link: Annotated[float | None, Option(help="Gigabytes a second at which weights come to it.", show_default="at once")] = None,
    bandwidth: Annotated[float | None, Option(help="Gigabytes a second of its own memory, which bounds speech.")] = None,
    spread: Annotated[float, Option(help="Standard deviation of the logarithm of what banks take.")] = 0.1,
    failures: Annotated[float, Option(help="Deaths of a device, an hour.")] = 0.0,
    loading: Annotated[float | None, Option(help="Seconds until a process has the model.", show_default="by the link")] = None,
    opening: Annotated[float | None, Option(help="Seconds until a further worker has it.", show_default="by the link")] = None,
    cores: Annotated[int | None, Option(help="Cores that all devices share.", show_default="each has its own")] = None,
    shape: Annotated[Path | None, Option(metavar="CONFIG.json", help="Reckon the plan in a model of this shape.")] = None,
    preset: Preset = "quick",
    config: ConfigFile = None,
    model: ModelName = None,
    behaviour: Data = None,
    claim: Claims = None,
    claim_size: ClaimSize = None,
    random: Random = None,
    settings: Set = None,
) -> None:
    """Say what an audit or a sweep would take on one device and on many, and from where on more are of little use."""
    given = flags(settings, preset=unless(preset), config=config, model=model, behaviour=behaviour, claim=claim)
    given |= flags(None, claim_size=claim_size, random=random, sweep=sweep, rate=rate, memory=memory, link=link)
    given |= flags(None, bandwidth=bandwidth, spread=spread, failures=failures, shape=shape, loading=loading, opening=opening)
    given |= flags(None, cores=cores)
    given |= {} if devices is None else {"devices": numbers(devices)}
    for line in repr(locus.forecast(**given)).splitlines():
        console.print(Text(line), soft_wrap=True)


@app.command()
def probe(
    model: ModelName = None,
    adapter: Adapter = None,
    behaviour: Data = None,
    exchange: Exchange = False,
    size: ClaimSize = None,
    preset: Preset = "quick",
    config: ConfigFile = None,
    kind: Annotated[str | None, Option(help="Of the sites that are ranked: heads by default; `locus list sites`.")] = None,
    top: Annotated[int, Option(min=1, help="Sites to print; --size says how many are claimed.")] = 20,
    save: Annotated[Path | None, Option(help="Write the claim to a file that --claim reads.")] = None,
    seed: Annotated[int | None, Option(help="Of splits, and of a planted model named without one.")] = None,
    settings: Set = None,
) -> None:
    """Print the heads, or other sites, that a probe ranks highest, with their validation accuracy."""
    if save is not None:
        outputs.check_file(save, "--save")
    behaviour = asked(behaviour, exchange)
    given = flags(settings, model=model, adapter=adapter, behaviour=behaviour, size=size, preset=unless(preset), config=config)
    claimed = locus.probe(**given, **flags(None, kind=kind, seed=seed))
    if save is not None:
        claimed.save(save)
    from locus.report.terminal import claim_table

    claim_table(console, claimed, top)
    if save is not None:
        from locus.sites import kind_of

        nouns = kind_of(claimed.location.kind).nouns
        console.print(Text(f"{save} holds the claimed {nouns}: {', '.join(claimed.location.names)}."), soft_wrap=True)


@claim_files.app.callback(invoke_without_command=True)
def claims(
    context: typer.Context,
    model: ModelName = None,
    adapter: Adapter = None,
    behaviour: Data = None,
    preset: Preset = "quick",
    config: ConfigFile = None,
    size: ClaimSize = None,
    kind: Annotated[str | None, Option()] = None,
    top: Annotated[int, Option(min=1)] = 20,
    save: Annotated[Path | None, Option()] = None,
    seed: Annotated[int | None, Option()] = None,
    settings: Set = None,
) -> None:
    """Show how a file of somebody's claim is read, and convert it. Without a command it is the former name of `locus probe`."""
    if context.invoked_subcommand is not None:
        return
    terminal.console(stderr=True).print(Text("notice: locus claims is now called locus probe."))
    probe(
        model=model,
        adapter=adapter,
        behaviour=behaviour,
        preset=preset,
        config=config,
        size=size,
        kind=kind,
        top=top,
        save=save,
        seed=seed,
        settings=settings,
    )


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
    settings: Set = None,
) -> None:
    """Find heads by activation patching, at a stated error rate; --claim patch:DIR takes them to the audit."""
    given = flags(settings, out=out, task=task, model=model, adapter=adapter, pairs=pairs, compare=compare, tokens=tokens)
    given |= flags(None, direction=direction, screen=screen, alpha=alpha, seed=seed, config=config)
    patched = locus.patch(**given)
    from locus.report.terminal import patch_table

    patch_table(console, patched.record, out)


app.command()(sweeps.sweep)
app.command()(afterwards.merge)
app.command()(afterwards.report)
app.command()(afterwards.export)
app.command()(afterwards.verify)
app.command()(sizes.power)
app.command()(sizes.calibrate)


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
    from locus.judges.training import ForestRecipe, train_judge

    outputs.check_file(out)
    train_judge(labels, references, out, ForestRecipe(seed=seed), lambda text: console.print(Text(text)))
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
    from locus.judges import compare, kind
    from locus.judges.api import Endpoint
    from locus.report.terminal import judge_table

    outputs.check_folder(out)
    names = judge or ["local"]
    for name in names:
        kind.check_judge(name)
    read = compare.read_labels(labels, datasets.load(references) if references else None)
    opened = [kind.open_truth_judge(name, Endpoint(url, cap, prices)) for name in names]
    compare.check_labels(opened, read)
    kept = read if seen else compare.unseen(opened, read)
    for one in compare.outlook(opened, kept):
        console.print(Text(one))
    comparison = compare.compare_judges(opened, kept)
    if gone := compare.left_out(read, kept):
        comparison["left_out"] = gone
    compare.write_comparison(comparison, out)
    judge_table(console, comparison, len(read.rows) - len(kept.rows))
    console.print(Text(f"{out / 'figures.json'}   {out / 'judgements.csv'}"), soft_wrap=True)


def main() -> None:
    """Run the command line and turn errors into exit statuses."""
    threads.settle()  # before a command imports torch
    atexit.register(gc.freeze)  # else Python, as it ends, goes through all that torch has made once more, for a second or two
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for bars in ("HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE"):  # also those of loading weights, which would cut through ours
        os.environ.setdefault(bars, "1")
    ending.end(app)
