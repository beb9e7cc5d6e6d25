"""How the edits of a bank are found: by epochs of small steps, or by the search for an optimum."""

from collections.abc import Callable, Mapping, Sequence

from locus.edits import Edit, Place, Trainable, kind
from locus.edits.rank1 import Rank1
from locus.edits.stream import at
from locus.engine.cost import Tally
from locus.engine.descent import descend, objective_of
from locus.engine.train import Fit, TrainingRecipe, train
from locus.errors import UserError
from locus.plan.context import AuditContext
from locus.plan.trials import Trial


def fit_bank(
    trials: Sequence[Trial], context: AuditContext, starts: Mapping[str, Edit], say: Callable[[float], None], tally: Tally
) -> list[Fit]:
    """The fitted edits of trials that share a forward.

    Args:
        trials: of one bank, all of them trained.
        context: what they are run on.
        starts: by the ids of their trials, the edits from which some of them are searched for as well.
        say: told the share that is done.
        tally: where the work is counted.
    """
    if trials[0].recipe is not None and trials[0].recipe.search == "adamw":
        edits = [_trainable(trial, context) for trial in trials]
        return train(context.training_set, edits, _recipes(trials), progress=say, tally=tally)
    fits: dict[int, Fit] = {}
    for form in dict.fromkeys(trial.form == "free" for trial in trials):
        places = [place for place, trial in enumerate(trials) if (trial.form == "free") == form]
        counted = Tally(len(places))
        found = _descended([trials[place] for place in places], context, starts, say, counted)
        fits |= dict(zip(places, found, strict=True))
        for place, works in zip(places, counted.by_edit, strict=True):
            for name, work in works.items():
                tally.add(name, [place], work)
    return [fits[place] for place in range(len(trials))]


def _descended(
    trials: Sequence[Trial], context: AuditContext, starts: Mapping[str, Edit], say: Callable[[float], None], tally: Tally
) -> list[Fit]:
    """The ends of searches, and where those stood that shorter trials ask for; the edits are of one form."""
    whole = [trial for trial in trials if not trial.shorter]
    places = {trial.search: place for place, trial in enumerate(whole)}
    counted = Tally(len(whole))
    stops = sorted({trial.recipe.rounds for trial in trials if trial.shorter and trial.recipe is not None})
    found = descend(
        context.training_set,
        [_searched(trial, context) for trial in whole],
        _recipes(whole),
        context.first_order("free" if trials[0].form == "free" else "heads"),
        starts=[_padded(trial, context, starts) for trial in whole],
        stops=stops,
        further=[trial.further for trial in whole],
        progress=say,
        tally=counted,
    )
    for trial, works in zip(whole, counted.by_edit, strict=True):
        for name, work in works.items():
            tally.add(name, [trials.index(trial)], work)
    return [found[places[trial.search]][trial.recipe.rounds] for trial in trials if trial.recipe is not None]


def _recipes(trials: Sequence[Trial]) -> list[TrainingRecipe]:
    return [trial.recipe for trial in trials if trial.recipe is not None]


def _padded(trial: Trial, context: AuditContext, starts: Mapping[str, Edit]) -> list[Rank1]:
    """A trial's edit as the best of those from which it is searched for as well, with zeros elsewhere; none where it has none."""
    if not trial.starts:
        return []
    inner = min((starts[identity] for identity in trial.starts), key=_loss)
    outer = _searched(trial, context)
    if trial.rank > 1 and trial.recipe is not None:  # what it has beyond the others begins where an edit at the identity does
        context.first_order(outer.form).aim(outer, objective_of(context.training_set, trial.recipe))
    outer.pad(inner, lambda layer: context.model.weight(layer, outer.point))
    return [outer]


def _loss(edit: Edit) -> float:
    certificate = edit.about.get("certificate")
    return float(certificate["loss"]) if isinstance(certificate, dict) else float("inf")


def made(trial: Trial, context: AuditContext) -> Edit:
    """The edit of a trial as its kind makes it."""
    about = (context.model.layout, trial.location, trial.read, trial.form, trial.alpha, trial.seed)
    return at(kind(trial.edit), Place(*about, rank=trial.rank, directions=context.steer, vectors=context.book))


def _trainable(trial: Trial, context: AuditContext) -> Trainable:
    """The trainable edit of a trial, at the identity.

    Raises:
        UserError: if its kind says that it is trained and makes something else.
    """
    edit = made(trial, context)
    if not isinstance(edit, Trainable):
        raise UserError(
            "a locus.edits.Trainable, of a kind that is trained", f"{type(edit).__name__} of {trial.edit!r}", "Mend it."
        )
    return edit


def _searched(trial: Trial, context: AuditContext) -> Rank1:
    edit = made(trial, context)
    assert isinstance(edit, Rank1), "the settings allow a newton search of rank-1 edits alone"
    if edit.about.get("rank", 1) != trial.rank:
        raise UserError(f"a kind of edit that has rank {trial.rank}, too", repr(trial.edit), "Leave out ranks, or make it so.")
    return edit


def recipe_rounds(recipe: TrainingRecipe) -> int:
    """About how many epochs' work a recipe is."""
    return recipe.rounds if recipe.search == "newton" else recipe.epochs
