"""The verbs: each takes names or open things, does what its command does, and gives what can be asked further."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locus.door.asked import asked
from locus.door.run import Run
from locus.door.showing import Wanted, note, showing

if TYPE_CHECKING:
    from locus.claims.claim import Claim
    from locus.door.behaviour import Behaviour
    from locus.door.patched import Patched
    from locus.door.planned import Planned
    from locus.models.model import Model

LADDER = (1, 2, 4, 8)  # rounds of the shorter searches of a budget curve
TEMPORARY = "This run lives in the temporary folder {}; out=FOLDER keeps one, and so does .save(FOLDER)."
KEPT = "{} trials are finished already; going on from there."
INTERRUPTED = "Interrupted. What was finished is kept; the same call with out={!r} goes on from there."


def audit(
    model: "str | Model | None" = None,
    behaviour: "str | Behaviour | Any | None" = None,
    claim: "str | Claim | Sequence[str | Claim] | None" = None,
    *,
    out: str | Path | None = None,
    preset: str = "quick",
    config: str | Path | None = None,
    adapter: str | None = None,
    claim_size: int | None = None,
    random: int | None = None,
    alpha: float | None = None,
    metric: str | None = None,
    seed: int | None = None,
    budget_curve: bool = False,
    twin: bool | int = False,
    transfer: str | Sequence[str] | None = None,
    also: "str | Behaviour | Sequence[str | Behaviour | Any] | None" = None,
    part: str | None = None,
    sign: bool = True,
    progress: Wanted = None,
    **settings: Any,
) -> Run:
    """Audit a claim: the optimal edit there, at random Locations, everywhere, and everywhere but there.

    Args:
        model: a name, or as `load` or `wrap` give it; the default model by default.
        behaviour: a name or path, or anything that `behaviour` takes; `misconceptions`, or a planted model's own, by default.
        claim: `probe`, sites such as `12.3,14.0` or `mlp.7`, a file of them, `patch:DIR`, what `claim`, `probe` or `patch`
            gave, or several of these; `probe` by default.
        out: run folder; the same call again goes on where it stopped. Without it the run lives in a temporary folder.
        preset: quick, standard or paper.
        config: a TOML file with any of the settings.
        adapter: none, merged, or an adapter's folder, where one lies beside the weights of a model by name.
        claim_size: sites of a probe claim.
        random: random Locations.
        alpha: level of the tests.
        metric: what decides; `locus.registry.entries("metrics")` has what there is. margin by default (mc2 where
            edits are trained by small steps), with a judge true_info or wanted.
        seed: of splits, draws, starts and resampling.
        budget_curve: look at searches after 1, 2, 4 and 8 rounds too, where they are longer, and show the verdict of each
            (setting `lengths`).
        twin: audit a twin of the model instead: the same architecture, its weights redrawn at random with the same spectra, by
            the audit's seed or by this one (setting `twin`). What is found there is what the method finds where there is nothing;
            `run.report(compare=[TWIN])` says so on the page of the model's own run.
        transfer: one or more other prompt formats (chat, qa, primer, bare) in which the edits are scored as well, untrained.
        also: one or more other behaviours, each as `behaviour`, on whose test questions the edits are scored as well, untrained:
            what else do they move?
        part: such as `3/8`: do only this share of the plan, where several machines share it, each with a folder of its own;
            `merge` puts these together.
        sign: sign the receipt with your key.
        progress: a bar by default; False for silence; or a function, called with what is done and its share of the whole, 0 to 1.
        settings: any other setting, by name (docs/configuration.md).

    Returns:
        The run; in a notebook it shows as a card.

    Raises:
        UserError: for everything that the user can fix, all preconditions at once, before weights load.
        KeyboardInterrupt: as it came; finished trials are kept.

    Example:
        >>> import locus
        >>> run = locus.audit("planted:localized:3", claim="1.1", epochs=4, train=36, progress=False, sign=False)
        >>> run.verdict.special.standing
        'supported'

    Source: Wang & Veitch 2025, arXiv 2502.11447.
    """
    from locus.machine.threads import settle
    from locus.machine.torchrun import leads

    settle()
    given: dict[str, object] = {
        "adapter": adapter,
        "claim_size": claim_size,
        "random": random,
        "alpha": alpha,
        "metric": metric,
        "seed": seed,
    }
    given |= {} if isinstance(twin, bool) else {"twin": twin}
    given |= {} if transfer is None else {"transfer": (transfer,) if isinstance(transfer, str) else tuple(transfer)}
    resolved, opened = asked(model, behaviour, claim, preset, config, {**settings, **given}, out, also)
    if twin is True:
        resolved = resolved.model_copy(update={"twin": resolved.seed if resolved.twin is None else resolved.twin})
    if budget_curve:
        resolved = resolved.model_copy(update={"lengths": tuple(rounds for rounds in LADDER if rounds < resolved.rounds)})
    from locus.plan.parts import Part
    from locus.plan.preconditions import early

    mine = None if part is None else Part.parse(part)
    if out is not None:
        early(resolved, Path(out), opened)
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="locus-run-"))
    progress = progress if leads() else False
    from locus.audit import audit as run_audit
    from locus.machine.ranks import together
    from locus.plan.opened import NOTHING
    from locus.records.store import finished

    if out is None:
        note(TEMPORARY.format(folder), progress)
    if leads() and (kept := finished(folder / "trials.sqlite")):
        note(KEPT.format(kept), progress)
    try:
        with showing(progress) as say, together(folder, resolved.tp_plan is not None) as folder:
            run_audit(resolved, folder, say, sign, opened or NOTHING, mine)
    except KeyboardInterrupt as error:
        error.add_note(INTERRUPTED.format(str(folder)))
        note(INTERRUPTED.format(str(folder)), progress)
        raise
    return Run(folder, temporary=out is None)


def plan(
    model: "str | Model | None" = None,
    behaviour: "str | Behaviour | Any | None" = None,
    claim: "str | Claim | Sequence[str | Claim] | None" = None,
    *,
    preset: str = "quick",
    config: str | Path | None = None,
    adapter: str | None = None,
    claim_size: int | None = None,
    random: int | None = None,
    alpha: float | None = None,
    metric: str | None = None,
    seed: int | None = None,
    also: "str | Behaviour | Sequence[str | Behaviour | Any] | None" = None,
    progress: Wanted = None,
    **settings: Any,
) -> "Planned":
    """Say what an audit would run and what it would take, before it is begun: nothing is trained, scored or written.

    Args:
        model: as of `audit`, as are all that follow.
        behaviour: the questions.
        claim: the claims; one that a probe would have to find is reckoned as a random Location of its size.
        preset: quick, standard or paper.
        config: a TOML file.
        adapter: of a model by name.
        claim_size: sites of a probe claim.
        random: random Locations.
        alpha: level of the tests.
        metric: of the verdict.
        seed: of splits and draws.
        also: other behaviours on which edits are scored.
        progress: as of `audit`.
        settings: any other setting.

    Returns:
        Trials, multiply-adds and seconds by kind of trial; `.seconds` are the multiply-adds at the rate of a matrix product on
        this machine now, of which an audit reaches some three quarters on a CPU.

    Raises:
        UserError: as `audit`.

    Example:
        >>> import locus
        >>> cost = locus.plan("planted:localized:3", claim="1.1", progress=False)
        >>> cost.trials, cost.macs > 0
        (29, True)
    """
    given = {"adapter": adapter, "claim_size": claim_size, "random": random, "alpha": alpha, "metric": metric, "seed": seed}
    resolved, opened = asked(model, behaviour, claim, preset, config, {**settings, **given}, also=also)
    from locus.plan.preconditions import early

    early(resolved, opened=opened)
    from locus.door.planned import planned
    from locus.plan.opened import NOTHING

    with showing(progress) as say:
        return planned(resolved, opened or NOTHING, say)


def merge(*runs: "str | Path | Run", out: str | Path, sign: bool = True) -> Run:
    """Put the parts of an audit together into one run, and conclude; all of it or nothing.

    Args:
        runs: the parts, as folders or as `audit(part=...)` gave them; what two of them hold alike is taken once.
        out: a new run folder.
        sign: sign the receipt with your key.

    Returns:
        The run, as one machine would have made it.

    Raises:
        UserError: if they are not parts of one plan, contradict one another, or leave something out.

    Example:
        >>> import locus, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> asked = dict(claim="1.1", epochs=4, train=36, progress=False, sign=False)
        >>> halves = [locus.audit("planted:localized:3", out=f"{folder}/{n}", part=f"{n}/2", **asked) for n in (1, 2)]
        >>> locus.merge(*halves, out=f"{folder}/RUN", sign=False).verdict.special.standing
        'supported'
    """
    from locus.merge import merge as merge_runs

    merge_runs([one.folder if isinstance(one, Run) else Path(one) for one in runs], Path(out), sign)
    return Run(Path(out))


def patch(
    model: "str | Model | None" = None,
    *,
    out: str | Path | None = None,
    task: str | None = None,
    adapter: str | None = None,
    pairs: int | None = None,
    compare: bool = False,
    tokens: Sequence[str] | None = None,
    direction: str | None = None,
    screen: int | None = None,
    alpha: float | None = None,
    seed: int | None = None,
    config: str | Path | None = None,
    progress: Wanted = None,
    **settings: Any,
) -> "Patched":
    """Find heads by activation patching, at a stated error rate.

    Args:
        model: a name, or as `load` or `wrap` give it.
        out: folder for the map; the same call again goes on where it stopped. Without it, a temporary folder.
        task: ioi, greater-than, factual, arithmetic, docstring, induction, or FILE.jsonl with pairs.
        adapter: none, merged, or an adapter's folder, where one lies beside the weights of a model by name.
        pairs: examples.
        compare: every metric, both corruptions, windows: where would conclusions differ?
        tokens: which tokens of ioi are corrupted: S2, S1+IO, ABC.
        direction: denoise (is it enough?) or noise (is it needed?).
        screen: patch only so many exactly, those that attribution ranks first.
        alpha: error rate of detection.
        seed: of pairs, noise, samples and sign flips.
        config: a TOML file with any of the settings.
        progress: as of `audit`.
        settings: any other setting of patching.

    Returns:
        The map; its `claim` goes to `audit`.

    Raises:
        UserError: for everything that the user can fix.

    Source: Zhang & Nanda 2023, arXiv 2309.16042.
    """
    from locus.door.model import taken
    from locus.door.patched import Patched
    from locus.machine.threads import settle
    from locus.patching.settings import resolve

    settle()
    open_model = taken(model)
    own = {"model": model} if open_model is None else dict(open_model.settings)
    flags: dict[str, object] = {
        "task": task,
        "adapter": adapter,
        "pairs": pairs,
        "seed": seed,
        "screen": screen,
    }
    flags |= {"tokens": tuple(tokens) if tokens else None, "alpha": alpha}
    given = {**settings, **{name: value for name, value in {**flags, **own}.items() if value is not None}}
    resolved = resolve(None if config is None else Path(config), compare=compare, direction=direction, **given)
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="locus-patch-"))
    if out is None:
        note(TEMPORARY.format(folder), progress)
    from locus.patch import find

    with showing(progress) as say:
        return Patched(folder, find(resolved, folder, say, open_model))
