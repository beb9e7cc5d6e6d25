"""Whether a running audit may stop, looked at after fixed numbers of random Locations only.

Before every bank of random Locations it is asked anew. A run has as many banks as it has edits, and concluding reads all that is
finished; so nothing is concluded while there is nothing new to conclude from.
"""

from locus.conclude.record import Record, asked_in
from locus.conclude.scores import settled
from locus.records.plan import DRAWN, PlanRecord
from locus.records.store import Store


class Stopping:
    """Asked before more random Locations are drawn: whether more of them can change nothing.

    Args:
        plan: the run's plan.
        store: its open database.
    """

    def __init__(self, plan: PlanRecord, store: Store):
        self.plan, self.store = plan, store
        (_, config), done = asked_in(self.plan), store.done()
        looks = config.looks if config.sequential else ()
        self.others = [trial.id for trial in self.plan.trials if trial.role not in DRAWN and trial.id not in done]
        # Each way to draw them has its own looks, the next one last.
        spans = list(zip((0, *looks), looks, strict=False))[::-1]
        self.coming = {role: [self._drawn_between(role, *ends) for ends in spans] for role in DRAWN}
        for groups in self.coming.values():
            while groups and done.issuperset(groups[-1]):
                groups.pop()
        # Asked at once, as before it was stopped: what follows hangs on whole looks alone, and not on how far the next one is.
        self.known, self.due = False, bool(looks)

    def __call__(self) -> bool:
        """Whether the verdict is settled."""
        if self._more() or self.due:
            self.known, self.due = settled(Record(self.plan, self.store)), False
        return self.known

    def _more(self) -> bool:
        """Whether a look was reached, or something else finished, since this was asked last."""
        if not any(self.coming.values()):
            return False
        left = [trial for trial in self.others if not self.store.holds(trial)]
        more, self.others = len(left) < len(self.others), left
        for groups in self.coming.values():
            while groups:
                drawn = groups[-1]
                while drawn and self.store.holds(drawn[-1]):
                    drawn.pop()
                if drawn:
                    break
                groups.pop()
                more = True
        return more

    def _drawn_between(self, role: str, first: int, last: int) -> list[str]:
        """Trials of random Locations drawn one way, from one number on up to another, of all claims and read modes."""
        numbers: dict[tuple[str, str], dict[str, int]] = {}
        found = []
        for trial in self.plan.trials:
            if trial.role == role:
                names = numbers.setdefault((trial.claim, trial.read), {})
                if first <= names.setdefault(trial.arm, len(names)) < last:
                    found.append(trial.id)
        return found
