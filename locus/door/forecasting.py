"""What an audit or a sweep would take on one device and on many: the schedule of banks, played through."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from locus.door.asked import asked
from locus.door.planned import counted, in_words
from locus.door.showing import Wanted, showing
from locus.engine.cost import Sizes, Work
from locus.errors import UserError
from locus.machine.rate import REACHED, matrix_rate
from locus.models.model import Model
from locus.plan.opened import NOTHING
from locus.plan.shape import Shape, shape_of
from locus.run.schedule import waves
from locus.run.simulated import Fleet, Played, play, played
from locus.shown import visible

if TYPE_CHECKING:
    from locus.plan.config import AuditConfig
    from locus.plan.opened import Opened

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
MOST = 100_000  # devices
BEGIN = 10.0  # seconds until a worker has imported what it needs
HALF = 0.5  # share of the devices' time that is used, under which it bends
SPREAD = 0.1  # of what banks of like work take on a machine that does nothing else
HALVED = 2  # bytes of a number in bfloat16, in which a larger model is reckoned
ROWS = 64  # texts that are spoken at once
AUDITS_DRAWN = 16  # runs of a sweep that are played through
ALONE = ("read", "linearise")  # kinds of work that the driver does before there are banks to share


@dataclass(frozen=True)
class Machine:
    """One device of many that are alike.

    Attributes:
        rate: multiply-adds a second that banks reach.
        memory: bytes; None where that does not matter.
        link: bytes a second at which weights, and what the base model made, come to it; None for at once.
        bandwidth: bytes a second of its own memory, which bounds speech; None where that does not matter.
        spread: standard deviation of the logarithm of what banks take.
        failures: of a device, an hour.
        loading: seconds until a process has the model, where somebody measured it; None to reckon it by the link.
        opening: seconds until a further worker has it, likewise.
        cores: that all devices share, where a device is a process with one thread; None where each has its own.
    """

    rate: float
    memory: float | None = None
    link: float | None = None
    bandwidth: float | None = None
    spread: float = SPREAD
    failures: float = 0.0
    loading: float | None = None
    opening: float | None = None
    cores: int | None = None

    def slowed(self, busy: int) -> float:
        """How many times as long something takes while so many devices are busy."""
        return 1.0 if self.cores is None else max(1.0, busy / self.cores)


@dataclass(frozen=True)
class Load:
    """What one audit is made of, for a machine.

    Attributes:
        alone: seconds of what is done once, before there are banks.
        waves: seconds of banks.
        held: bytes on a device.
        loading: seconds until a process has the model.
        opening: seconds until a further worker has it, with what the base model made.
        notes: what is reckoned otherwise than it would be run.
        apart: whether even one device is a worker beside the process that began, as with Ray.
    """

    alone: float
    waves: tuple[tuple[float, ...], ...]
    held: float = 0.0
    loading: float = 0.0
    opening: float = 0.0
    notes: tuple[str, ...] = ()
    apart: bool = False


@dataclass(frozen=True)
class Point:
    """So many devices.

    Attributes:
        devices: how many.
        seconds: until all is done: the median of the runs that were played through.
        least, most: of nine in ten of them.
        efficiency: the share of the devices' time that one device alone would have needed for the same.
        ended: share of runs that ended because a bank's workers died twice; the same command goes on.
    """

    devices: int
    seconds: float
    least: float
    most: float
    efficiency: float
    ended: float


@dataclass(frozen=True)
class Forecasted:
    """What an audit, or a sweep of them, would take.

    Attributes:
        what: it is.
        audits: how many.
        points: by number of devices.
        banks: of the largest wave: more devices are of no use to one audit.
        held: bytes on a device.
        machine: which device.
        notes: what is assumed.
    """

    what: str
    audits: int
    points: tuple[Point, ...]
    banks: int
    held: float
    machine: Machine
    notes: tuple[str, ...]

    @property
    def bend(self) -> Point:
        """The most devices of which half the time, or more, is used."""
        return max((one for one in self.points if one.efficiency >= HALF), key=lambda one: one.devices, default=self.points[0])

    def at(self, devices: int) -> Point:
        """The point of so many devices.

        Raises:
            KeyError: if it was not asked for.
        """
        for point in self.points:
            if point.devices == devices:
                return point
        raise KeyError(f"no forecast for {devices} devices")

    def __repr__(self) -> str:
        lines = [f"Forecast: {visible(self.what, 200)}"]
        lines += [f"  {'devices':>8}{'time':>10}{'nine in ten':>20}{'device-hours':>14}{'of use':>9}"]
        for one in self.points:
            between = f"{in_words(one.least)} to {in_words(one.most)}"
            hours = one.devices * one.seconds / 3600
            lines += [f"  {one.devices:>8,}{in_words(one.seconds):>10}{between:>20}{hours:>14,.2f}{one.efficiency:>8.0%}"]
        bend, last = self.bend, self.points[-1]
        lines += [f"  Half of the devices' time or more is used up to {bend.devices:,}: {in_words(bend.seconds)}."]
        if self.audits == 1:
            lines += [f"  Its largest wave has {self.banks:,} banks: more devices are of no use to it."]
        if last.ended:
            lines += [f"  With {last.devices:,} devices {last.ended:.0%} of runs end early, a bank's workers having died twice."]
        room = self.machine.memory
        fits = "" if room is None else "; it fits" if self.held <= room else f"; it does not fit into {room / 1e9:.0f} GB"
        lines += [f"  On a device: {self.held / 1e9:.1f} GB{fits}.", *(f"  {note}" for note in self.notes)]
        return "\n".join(lines)


def forecast(
    model: Any = None,
    behaviour: Any = None,
    claim: Any = None,
    *,
    sweep: str | Path | None = None,
    devices: int | Sequence[int] = COUNTS,
    rate: float | None = None,
    memory: float | None = None,
    link: float | None = None,
    bandwidth: float | None = None,
    spread: float = SPREAD,
    failures: float = 0.0,
    loading: float | None = None,
    opening: float | None = None,
    cores: int | None = None,
    shape: str | Path | None = None,
    preset: str = "quick",
    config: str | Path | None = None,
    also: Any = None,
    progress: Wanted = None,
    **settings: Any,
) -> Forecasted:
    """Say what an audit, or a sweep, would take on one device and on many, before it is begun: its banks are played through.

    Args:
        model: as of `audit`, as are behaviour and claim.
        behaviour: the questions.
        claim: the claims.
        sweep: instead, the TOML file of a sweep, whose audits are dealt to the devices whole (`--part`).
        devices: numbers of them.
        rate: multiply-adds a second that a device reaches; by default three quarters of what a core (or the GPU) here does now.
        memory: gigabytes of a device, which decide how many edits share a bank; by default as here.
        link: gigabytes a second at which weights come to a device; by default at once.
        bandwidth: gigabytes a second of its own memory, which bounds how fast is spoken; by default that does not count.
        spread: standard deviation of the logarithm of what banks of like work take.
        failures: deaths of a device, an hour.
        loading: seconds until a process has the model and has checked it, where that was measured; by default by the link.
        opening: seconds until a further worker has it, likewise.
        cores: that all devices share, each a process with one thread (as local workers do); by default each has its own.
        shape: config.json of another, larger model, in which the same plan is reckoned: sites at the same relative depth.
        preset: quick, standard or paper.
        config: a TOML file with settings of the audit.
        also: other behaviours on which edits are scored.
        progress: as of `audit`.
        settings: any other setting of an audit, by name.

    Returns:
        `.points`, `.at(8).seconds`, `.bend`.

    Raises:
        UserError: as `plan`; or for a machine that there cannot be.

    Example:
        >>> import locus
        >>> cost = locus.forecast("planted:localized:3", claim="1.1", rate=1e9, devices=[1, 4], spread=0, progress=False)
        >>> 1 < cost.at(1).seconds / cost.at(4).seconds < 4
        True
    """
    counts = tuple(sorted({devices} if isinstance(devices, int) else set(devices)))
    amounts = {"rate": rate, "memory": memory, "link": link, "bandwidth": bandwidth, "loading": loading, "opening": opening}
    _check(counts, amounts | {"cores": cores}, spread, failures)
    target = None if shape is None else shape_of(Path(shape))
    room, sent, wide = (None if one is None else one * 1e9 for one in (memory, link, bandwidth))
    machine = Machine(0.0, room, sent, wide, spread, failures, loading, opening, cores)
    with showing(progress) as say:
        if sweep is None:
            resolved, opened = asked(model, behaviour, claim, preset, config, settings, also=also)
            cells = [(resolved, opened or NOTHING)]
        else:
            from locus.door.swept import cells_of

            cells = [(cell.config, cell.opened) for cell in cells_of(sweep, settings)]
        from locus.plan.preconditions import early

        known: dict[str, tuple[Load, str]] = {}
        loads = []
        for number, (own, held) in enumerate(cells):
            # Audits that differ in their seed alone take about the same.
            key = f"{own.model_copy(update={'seed': 0}).model_dump_json()} {id(held) if held is not NOTHING else ''}"
            if key not in known:
                early(own, opened=held, fitted=False)
                known[key], machine = load_of(own, held, machine, rate, target, lambda what, share: None)
            loads.append(known[key])
            say("counting", (number + 1) / len(cells))
    what = loads[0][1] if sweep is None else f"{len(loads)} audits of {visible(str(sweep), 120)}"
    several = [load for load, _ in loads]
    points = points_of(several, counts, machine)
    banks, held_most = max(len(wave) for load in several for wave in load.waves), max(load.held for load in several)
    notes = list(dict.fromkeys(note for load in several for note in load.notes))
    notes += [f"{machine.rate:.3g} multiply-adds a second of a device."]
    notes += ["Each device does whole audits, one after another."] if len(several) > 1 else []
    return Forecasted(what, len(several), points, banks, held_most, machine, tuple(notes))


def _check(counts: Sequence[int], amounts: dict[str, float | None], spread: float, failures: float) -> None:
    """Refuse a machine that there cannot be.

    Raises:
        UserError: naming the first thing that is wrong with it.
    """
    if not counts or not all(1 <= one <= MOST for one in counts):
        raise UserError(f"1 to {MOST:,} devices", str(list(counts))[:80], "Use --devices 1,8,64.")
    for name, value in amounts.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"a {name} above 0", str(value), f"Mend --{name}.")
    for name, value, most in (("spread", spread, 3.0), ("failures", failures, 3600.0)):
        if not 0 <= value <= most:
            raise UserError(f"{name} from 0 to {most:g}", str(value), f"Mend --{name}.")


def load_of(
    config: "AuditConfig", opened: "Opened", machine: Machine, rate: float | None, target: Shape | None, progress: Any
) -> tuple[tuple[Load, str], Machine]:
    """What one audit is made of, and the machine with its rate."""
    room = machine.memory

    def edits(model: Model) -> int:
        """The device's memory, as many times smaller as an edit of the larger model is larger."""
        assert room is not None, "asked only for a device of known memory"
        return int(room / _wider(model, target))

    found = counted(config, opened, progress, None if room is None else edits)
    model = found.model
    if not machine.rate:
        on_gpu = model.device.type != "cpu"
        own = 1 if on_gpu else found.context.arithmetic.own
        machine = replace(machine, rate=REACHED * matrix_rate(model.device) / own if rate is None else rate)
    sizes = found.sizes if target is None else target.sizes
    deeper = sizes.n_layers / found.sizes.n_layers
    wider = _wider(model, target)
    weights = found.memory.weights if target is None else HALVED * target.parameters
    made = (found.memory.gradients + found.memory.residuals) * wider
    seconds = {trial: seconds_of(works, sizes, deeper, weights, machine) for trial, works in found.works.items()}
    alone = sum(one for works in seconds.values() for kind, one in works.items() if kind in ALONE)
    by_id = {trial.id: trial for trial in found.plan.trials}
    banks = [[by_id[one] for one in bank] for bank in found.plan.banks]
    costs = [sum(one for trial in bank for kind, one in seconds[trial.id].items() if kind not in ALONE) for bank in banks]
    cut = tuple(tuple(costs[number] for number in wave) for wave in waves(list(range(len(banks))), banks))
    loading, opening = (
        told if told is not None else 0.0 if machine.link is None else BEGIN + one / machine.link
        for told, one in ((machine.loading, weights), (machine.opening, weights + made))
    )
    held = weights + made + found.memory.training * wider
    name = visible(model.name, 120) if target is None else f"a model of {target.parameters / 1e9:.1f} billion parameters"
    what = f"{name} on {visible(found.dataset, 120)}, {len(by_id):,} trials in {len(banks):,} banks"
    apart = config.executor.partition(":")[0] == "ray"
    return (Load(alone, cut, held, loading, opening, found.notes, apart), what), machine


def _wider(model: Model, target: Shape | None) -> float:
    """How many times as many bytes the activations of a larger model take."""
    if target is None:
        return 1.0
    grown = target.sizes.n_layers * target.d_model * HALVED
    return grown / (model.layout.n_layers * model.layout.d_model * model.dtype.itemsize)


def seconds_of(works: dict[str, Work], sizes: Sizes, deeper: float, weights: float, machine: Machine) -> dict[str, float]:
    """Kind of work -> seconds of one trial's."""
    found = {}
    for kind, work in works.items():
        grown = replace(work, layers=work.layers * deeper, pairs=work.pairs * deeper, bare=work.bare)
        computed = grown.macs(sizes) / machine.rate
        # Every token that is spoken needs all weights read once, for the texts that are spoken at once.
        reading = work.scored / ROWS * weights / machine.bandwidth if kind == "speak" and machine.bandwidth else 0.0
        found[kind] = max(computed, reading)
    return found


def points_of(loads: Sequence[Load], counts: Sequence[int], machine: Machine) -> tuple[Point, ...]:
    """Every number of devices: of one audit its banks are shared, of several each is done whole."""

    taken = _taken(loads, machine) if len(loads) > 1 else []

    def runs(count: int) -> list[Played]:
        if len(loads) > 1:
            loading = max(load.loading for load in loads)
            busy, slowed = min(count, len(loads)), machine.slowed(min(count, len(loads)))
            ends = [slowed * max(float(took[number::count].sum()) for number in range(busy)) for took in taken]
            return [Played(loading + end, float(took.sum())) for end, took in zip(ends, taken, strict=True)]
        (load,) = loads
        # One device does what there is in the process that began; more of them are workers, each of which opens the model.
        slowed = machine.slowed(min(count, max(map(len, load.waves), default=1)))
        opening = slowed * load.opening if count > 1 or load.apart else 0.0
        waves = [[slowed * bank for bank in wave] for wave in load.waves]
        return played(load.loading + load.alone, waves, Fleet(count, opening, machine.spread, machine.failures))

    single = float(np.median([one.seconds for one in runs(1) if not one.ended] or [np.inf]))
    points = []
    for count in counts:
        went = runs(count)
        whole = [one.seconds for one in went if not one.ended] or [float("inf")]
        middle, least, most = (float(one) for one in np.quantile(whole, (0.5, 0.05, 0.95), method="nearest"))
        ended = sum(one.ended for one in went) / len(went)
        points.append(Point(count, middle, least, most, min(1.0, single / (count * middle)), ended))
    return tuple(points)


def _taken(loads: Sequence[Load], machine: Machine) -> list[npt.NDArray[np.float64]]:
    """Seconds of whole audits, drawn several times; a device that dies goes on after its last finished bank."""
    found, fleet = [], Fleet(1, 0.0, machine.spread)
    lost = float(np.mean([load.loading + max(map(max, load.waves)) / 2 for load in loads]))  # what a death costs
    for draw in range(AUDITS_DRAWN if machine.spread or machine.failures else 1):
        generator = np.random.default_rng([1, draw])
        took = np.array([play(load.alone, load.waves, fleet, generator).seconds for load in loads])
        found.append(took + generator.poisson(took * machine.failures / 3600) * lost)
    return found
