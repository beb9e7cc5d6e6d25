"""Run a plan: what it names and the store lacks, bank by bank, each bank committed whole.

The composition of banks is the plan's, and so is the number of threads that each is computed with: never that of what happens to
be left, so a resumed run computes exactly what an undisturbed one would have. Whoever does a bank, this process alone writes.
"""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from locus import atomic
from locus.engine.cost import Sizes
from locus.judges.base import References
from locus.judges.kind import asker_of
from locus.machine import ranks
from locus.machine.rate import REACHED, matrix_rate
from locus.plan.context import AuditContext, Progress, spoken_parts
from locus.plan.parts import Part
from locus.plan.trials import UNEDITED, Plan, Trial
from locus.records.plan import DRAWN
from locus.records.store import Store
from locus.run.bank import DoneBank, starts_of
from locus.run.executors import Executor, Tasks, executor
from locus.run.task import BankJob, BankWork
from locus.run.training import recipe_rounds


def run(
    plan: Plan,
    store: Store,
    context: AuditContext,
    folder: Path,
    team: Executor,
    progress: Progress,
    enough: Callable[[], bool] = lambda: False,
    part: Part | None = None,
) -> None:
    """Run every bank of the plan that the store lacks.

    Args:
        plan: what is to be done.
        store: what is done.
        context: what it is done on.
        folder: where edits are saved.
        team: does them.
        progress: told what goes on and the fraction of the whole.
        enough: asked before random Locations are drawn: whether more of them can change nothing.
        part: the share of the banks that is done here, where several machines share a plan.
    """
    done = store.done()
    trials = {trial.id: trial for trial in plan.trials}
    banks = [[trials[identity] for identity in bank] for bank in plan.banks]
    costs = [sum(cost(trial, context) for trial in bank) for bank in banks]
    mine = range(len(banks)) if part is None else part.banks(banks, costs)
    shares = [float(set(bank) <= done) for bank in plan.banks]
    left = [number for number in mine if not shares[number]]
    whole = sum(costs[number] for number in mine) or 1.0

    def say(number: int, share: float) -> None:
        shares[number] = share
        arms = ", ".join(dict.fromkeys(trial.arm for trial in banks[number]))
        progress(f"{banks[number][0].role}: {arms}", reached())

    def reached() -> float:
        return float(sum(shares[number] * costs[number] for number in mine)) / whole

    def ran(wave: list[int]) -> bool:
        jobs = [BankJob(tuple(banks[number]), starts_of(banks[number], folder)) for number in wave]
        tasks = Tasks(
            jobs,
            work,
            context.arithmetic.at_once,
            lambda at, share: say(wave[at], share),
            names=[job.called for job in jobs],
            seconds=lambda: reckoned([costs[number] for number in wave], context),
            patience=context.config.patience,
            threads=context.arithmetic.bank or context.arithmetic.own,
            gpu=context.model.device.type != "cpu",
        )
        with closing(doing.run(tasks)) as coming:
            for number in wave:
                if banks[number][0].role in DRAWN and enough():
                    return False  # those that nothing starts from are the plan's last
                bank: DoneBank = next(coming)
                ranks.agree(f"results of bank {number}", bank.content)
                bank.save_edits(folder)
                store.commit(bank.results)
                say(number, 1.0)
        return True

    _prepare([trial for number in left for trial in banks[number]], context, lambda what: progress(what, reached()))
    work = BankWork(context)
    # What is spent on a judge must be counted in one place.
    doing = team if asker_of(context.judge) is None else executor("serial")
    for wave in waves(left, banks):
        if not ran(wave):
            break
    tidy(plan, store, folder)
    progress("", 1.0)


def waves(left: list[int], banks: list[list[Trial]]) -> list[list[int]]:
    """Banks in order, cut so that none of a part starts from an edit of the same part."""
    waves: list[list[int]] = [[]]
    made_here: set[str] = set()
    for number in left:
        if any(start in made_here for trial in banks[number] for start in trial.starts):
            waves.append([])
            made_here.clear()
        waves[-1].append(number)
        made_here |= {trial.id for trial in banks[number]}
    return [wave for wave in waves if wave]


def _prepare(trials: list[Trial], context: AuditContext, say: Callable[[str], None]) -> None:
    """What searches have in common, before there are workers to share it."""
    searched = [trial for trial in trials if trial.recipe is not None and trial.recipe.search == "newton"]
    for free in sorted({trial.form == "free" for trial in searched}):
        say("linearising the base model")
        context.first_order("free" if free else "heads")
    if trials:
        context.manifold()


def tidy(plan: Plan, store: Store, folder: Path) -> None:
    """Remove what is of no finished trial: what workers made ahead of an early end, what a killed process had not committed."""
    done = store.done()
    for trial in plan.trials:
        if trial.edit == UNEDITED or trial.id not in done:
            (folder / f"{trial.id}.safetensors").unlink(missing_ok=True)
    atomic.sweep(folder)


SPOKEN = 3.0  # what generating and judging an answer costs, in forwards of a question tree


def afford(plan: Plan, context: AuditContext) -> None:
    """Refuse, before the first trial, an audit whose judging could cost more than its cap.

    Raises:
        UserError: saying the estimate.
    """
    judge, config = asker_of(context.judge), context.config
    if judge is None:
        return
    items = [item for name in spoken_parts(config) for item in context.items[name]]
    sides = [References(item.wanted, item.unwanted) for item in items]
    most = judge.estimate([item.question for item in items], sides, config.max_new_tokens, len(plan.trials))
    judge.purse.afford(most)


def cost(trial: Trial, context: AuditContext) -> float:
    """Relative price of a trial: forwards and backwards over the layers from its first on."""
    if trial.again:
        return 0.0
    depth = 1 - trial.first_layer / context.model.layout.n_layers
    sizes = {name: len(part.trie) for name, part in context.parts.items()}
    scored = sizes["validation"] + sizes["test"] + sum(len(part.trie) for part in context.read_elsewhere.values())
    trained = 0.0
    if trial.recipe is not None and not trial.shorter:
        share = 1.0 if trial.recipe.batching == "questions" or trial.recipe.search == "newton" else 4.0
        ways = 2 if trial.starts else 1
        trained = 2.2 * (recipe_rounds(trial.recipe) * ways + trial.further) * sizes["train"] * share
    return (trained + scored) * (depth + 0.2) + (SPOKEN * sizes["test"] if context.judge else 0.0)


def reckoned(costs: list[float], context: AuditContext) -> list[float]:
    """About how many seconds banks take on a machine like this, by its rate at a matrix product now; speech counts for little."""
    sizes, threads = Sizes.of(context.model, context.space.kind.point), context.arithmetic
    share = (threads.bank or threads.own) / threads.own if context.model.device.type == "cpu" else 1.0
    rate = REACHED * share * matrix_rate(context.model.device)
    return [one * sizes.n_layers * sizes.layer / rate for one in costs]
