"""What can be done with a run afterwards: hold it against its receipt, repeat some of it, take what it made elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locus.door.run import Run
from locus.door.showing import Wanted, showing
from locus.errors import UserError

if TYPE_CHECKING:
    from locus.door.behaviour import Behaviour
    from locus.models.model import Model
    from locus.report.verify import Repeated, Verification


def verify(
    run_or_receipt: str | Path | Run,
    *,
    expect: str | None = None,
    rerun: int = 0,
    seed: int | None = None,
    model: "str | Model | None" = None,
    adapter: str | None = None,
    revision: str | None = None,
    behaviour: "str | Behaviour | Any | None" = None,
    also: "Sequence[str | Behaviour | Any] | None" = None,
    text: str | None = None,
    judge: str | None = None,
    judge_url: str | None = None,
    own: Sequence[str] | None = None,
    trust_remote_code: bool = False,
    progress: Wanted = None,
) -> "Verification":
    """Check hashes and signature, derive the verdict anew from the stored scores, and repeat random trials if asked to.

    A run chooses nothing that is opened, run or asked: what does not come with the package is what you give here, and it is held
    against the run's fingerprints.

    Args:
        run_or_receipt: run folder, receipt.json, or a numbered record of a paper.
        expect: trusted name or public key that must have signed all of it; or its id or hash.
        rerun: also repeat this many random trials on the model.
        seed: of the draw of trials to repeat; unforeseeable by default.
        model: your own model, where the run's does not come with the package: a name, or as `load` or `wrap` give it.
        adapter: likewise the adapter: none, merged, or its folder.
        revision: of a hub model.
        behaviour: your own copy of the questions.
        also: likewise the other behaviours on which edits are scored: all of them, in the run's order.
        text: likewise the text for KL and cross-entropy.
        judge: likewise the judge; none: no judge.
        judge_url: endpoint of api:MODEL.
        own: metrics and edits of the run that do not come with the package and may be imported, as `metrics:NAME`.
        trust_remote_code: run the Python code that comes with the model you give.
        progress: as of `audit`.

    Returns:
        What held; `.line` is the answer in one line, `.repeated` what was found by repeating trials.

    Raises:
        VerificationError: with the first thing that does not hold.
        UserError: if there is nothing to verify, or what is needed was not given.
    """
    from dataclasses import replace

    from locus.report.verify import verify as check

    path = run_or_receipt.folder if isinstance(run_or_receipt, Run) else Path(run_or_receipt)
    verification = check(path, expect)
    if not rerun:
        return verification
    named = {"model": model, "adapter": adapter, "revision": revision, "behaviour": behaviour, "also": also, "text": text}
    asked = {"judge": judge, "judge_url": judge_url, "own": own, "trust_remote_code": trust_remote_code}
    return replace(verification, repeated=repeated(verification, path, rerun, seed, progress, **named, **asked))


def repeated(
    verification: "Verification", path: Path, count: int, seed: int | None = None, progress: Wanted = None, **given: Any
) -> "Repeated":
    """Repeat random trials of a run that was verified.

    Args:
        verification: by verifying it.
        path: the run folder.
        count: how many trials are drawn.
        seed: of the draw.
        progress: as of `audit`.
        given: the user's own model, adapter, revision, behaviour, also, text, judge, judge_url, own and trust_remote_code, as of
            `verify`.

    Raises:
        UserError, VerificationError: as `verify`.
    """
    from locus.door.behaviour import taken as questions
    from locus.door.model import taken
    from locus.plan.opened import Opened
    from locus.report.consent import Given
    from locus.report.rerun import rerun

    if verification.kind != "run":
        raise UserError("a run folder to repeat trials of", f"a {verification.kind}", "Give the run's folder.")
    model, own = given.pop("model", None), tuple(given.pop("own", None) or ())
    open_model, (data, dataset) = taken(model), questions(given.pop("behaviour", None))
    others = [questions(one) for one in given.pop("also", None) or ()]
    named = model if open_model is None else open_model.name
    word = Given(model=named, data=data, own=own, also=tuple(str(source) for source, _ in others), **given)
    held = {str(source): one for source, one in others if one is not None}
    with showing(progress) as say:
        return rerun(path, count, seed, say, word, Opened(open_model, dataset, also=held))


def export(
    run: str | Path | Run,
    to: str | Path,
    *,
    trial: str | None = None,
    form: str = "auto",
    model: "str | Model | None" = None,
    adapter: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> list[str]:
    """Export a trial's edit as a PEFT adapter or a bias, or what others' tools read of a run: scores, logs, receipt, card.

    Args:
        run: the run, or its folder.
        to: a new or empty folder.
        trial: whose edit: claim, ceiling, complement, random-11, shift, or a trial's id.
        form: peft (a rank-1 edit), bias (a shift, in a copy of the model), vector (a shift of the stream, as a GGUF of control
            vectors); scores, inspect (.eval logs), attestation (the receipt in a DSSE envelope), badge, card (for a model card),
            cite; or auto: an edit if a trial is named, else scores.
        model: your own model, where the run's does not come with the package: a name, or as `load` or `wrap` give it.
        adapter: likewise the adapter: none, merged, or its folder.
        revision: of a hub model.
        trust_remote_code: run the Python code that comes with the model you give.

    Returns:
        What was written, and what its user should know, a sentence each.

    Raises:
        UserError: if there is no such edit, the form is not exact for it, or the model is another or was not given.
    """
    from typing import get_args

    from locus.door.model import taken
    from locus.report.consent import Given
    from locus.report.export import Form, export_edit
    from locus.report.outside import FORMS

    folder, place = run.folder if isinstance(run, Run) else Path(run), Path(to)
    forms: dict[str, Form] = {name: name for name in get_args(Form)}
    form = "scores" if form == "auto" and trial is None else form
    if form in FORMS:
        return [f"wrote {name}" for name in FORMS[form].write(folder, place, trial)]
    if form not in forms:
        raise UserError(f"--as {', '.join(forms)}, {', '.join(FORMS)}", repr(form), "Choose one of them.")
    if trial is None:
        raise UserError("--trial with a name or an id", "none", "Give --trial claim, for example, or --as scores.")
    open_model = taken(model)
    named: Any = model if open_model is None else None
    given = Given(model=named, revision=revision, trust_remote_code=trust_remote_code, adapter=adapter)
    return [f"wrote {place}", *export_edit(folder, trial, place, forms[form], given, open_model)]
