"""What can be named: behaviours, sites, claims, edits, metrics, judges and the other `KINDS`. Code is imported when asked for.

An entry is a name, the place of its code (`module:attribute`), a line of help, and the extra whose packages it needs. Our own are
listed here; another package's are found through entry points of the groups `locus.behaviours`, `locus.claims` and so on; and a
script or notebook may `register` one of its own.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal, TypeVar, get_args

from locus.errors import UserError

T = TypeVar("T")
Kind = Literal["behaviours", "readers", "sites", "claims", "importers", "edits", "metrics", "judges", "executors", "models"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MEMORY = "memory:"  # begins the name of what lay in somebody's memory, which no name opens again


@dataclass(frozen=True)
class Entry:
    """Something that can be named.

    Attributes:
        name: what it is called; what follows a colon in what a user writes is its argument.
        target: where it is, as `module:attribute`.
        help: what it is, in a line.
        extra: the extra of this package that brings what it needs, or "".
        value: the thing itself, where it was registered and is not to be looked up.
        embedded: whether a behaviour lies in the package whole, so that its name alone opens it.
        usage: how a name with an argument is written, for messages; the name itself by default.
        within: a regular expression for what, behind the name, opens only what lies in the package; nothing does by default. Of
            a claim's heuristic it is all that may stand there.
    """

    name: str
    target: str
    help: str
    extra: str = ""
    value: Any = None
    embedded: bool = False
    usage: str = ""
    within: str | None = None

    def load(self) -> Any:
        """What the name stands for; imported now.

        Raises:
            UserError: if what it needs is not installed, or it is not where it is said to be.
        """
        if self.value is not None:
            return self.value
        module, _, attribute = self.target.partition(":")
        try:
            thing = import_module(module)
        except ModuleNotFoundError as error:
            if not self.extra or (error.name or "").startswith("locus"):
                raise
            raise UserError(
                f"the packages that {self.name!r} needs",
                f"none by the name of {error.name!r}",
                f"pip install 'locus-audit[{self.extra}]'.",
            ) from error
        try:
            for part in attribute.split("."):
                thing = getattr(thing, part)
        except AttributeError as error:
            raise UserError(f"{self.name!r} at {self.target}", str(error)[:160], "Mend what registers it.") from error
        return thing


def _embedded(name: str, help: str) -> Entry:
    """A behaviour that comes with the package."""
    return Entry(name, f"locus.behaviours.{name}:open_behaviour", help, embedded=True)


def _reader(name: str, help: str, module: str = "") -> Entry:
    """A reader of a published shape."""
    return Entry(name, f"locus.behaviours.readers.{module or name}:READER", help)


def _judge(name: str, target: str, help: str, usage: str = "", within: str | None = None, extra: str = "") -> Entry:
    """A judge; what follows its name is in its usage."""
    return Entry(name, f"locus.judges.{target}", help, extra, usage=usage, within=within)


def _importer(name: str, help: str) -> Entry:
    """An importer of a published claim."""
    return Entry(name, f"locus.claims.importers.{name.replace('-', '_')}:IMPORTER", help)


OWN: dict[Kind, tuple[Entry, ...]] = {
    "behaviours": (
        _embedded("misconceptions", "common misconceptions, with the package"),
        _embedded("antonym", "the opposite of a word, not one of like meaning"),
        _embedded("language", "answers in French, not in English"),
        _embedded("agreement", "a verb that fits its subject in number"),
        _embedded("refusal", "declines an improper request"),
        _embedded("shutdown", "resists being switched off"),
        _embedded("bias", "says that it cannot be told who did it"),
        _embedded("sentiment", "whether a remark is pleased, in a word"),
        _embedded("formality", "a formal wording, not a casual one"),
        _embedded("hedging", "leaves room for doubt about what is to come"),
        _embedded("sycophancy", "prefers what the user prefers"),
        Entry("truthfulqa", "locus.behaviours.truthfulqa:open_behaviour", "TruthfulQA, from the hub or truthfulqa:FILE"),
        Entry("task", "locus.behaviours.tasks:open_behaviour", "task:NAME, the prompts of a patching task as questions"),
        Entry("exchange", "locus.behaviours.exchange:open_behaviour", "exchange:NAME, another with its sides exchanged"),
        Entry("planted", "locus.models.planted.named:open_behaviour", "planted:KIND:SEED, the questions of a planted model"),
    ),
    "readers": (
        _reader("caa", "CAA and Anthropic's evals: answer_matching_behavior, letters or texts"),
        _reader("bbq", "BBQ: a context, a question, three answers and a label"),
        _reader("blimp", "BLiMP: sentence_good and sentence_bad"),
        _reader("stereoset", "StereoSet: sentences labelled stereotype and anti-stereotype"),
        _reader("crows-pairs", "CrowS-Pairs: sent_more and sent_less", "crows_pairs"),
        _reader("preferences", "preference pairs: chosen and rejected, texts or chat lists"),
        _reader("lm-eval", "multiple choice of lm-eval: logged samples, or question, choices and answer", "lm_eval"),
        _reader("inspect", "samples of Inspect: input, choices and target", "inspect_samples"),
        _reader("word-pairs", "function vectors: input and output", "word_pairs"),
        _reader("axbench", "AxBench: answers with and without a concept; axbench:PATH#ID takes one concept"),
        _reader("mapping", "TOML that maps the fields of a file, or of a data set on the hub"),
    ),
    "sites": (
        Entry("head", "locus.sites.head:KIND", "12.3 or L12H3, an attention head"),
        Entry("neuron", "locus.sites.neuron:KIND", "n12.345, a neuron of an MLP"),
        Entry("attn", "locus.sites.attn:KIND", "attn.12, an attention module"),
        Entry("mlp", "locus.sites.mlp:KIND", "mlp.12, an MLP"),
        Entry("resid", "locus.sites.resid:KIND", "resid.12, the residual stream entering a layer"),
        Entry("direction", "locus.sites.direction:KIND", "FILE.npy@12 or means@12, a direction of the stream entering a layer"),
        Entry(
            "off-direction", "locus.sites.off_direction:KIND", "the stream but for a direction: what directions are held against"
        ),
    ),
    "models": (
        Entry(
            "planted",
            "locus.models.planted.named:load_named",
            "planted:KIND:SEED, a model whose location is known",
        ),
    ),
    "claims": (
        Entry("probe", "locus.claims.probe:heuristic", "the heads whose probes do best on validation questions"),
        Entry("mass-mean", "locus.claims.mass_mean:heuristic", "the heads whose class means' difference does best on them"),
        Entry("attribution", "locus.claims.attribution:heuristic", "the heads that to first order do most for the margin"),
        Entry(
            "random",
            "locus.claims.chance:heuristic",
            "sites drawn at random: a negative control; random:2 is a second one",
            usage="random:N",
            within="(:[1-9][0-9]{0,2})?",
        ),
    ),
    "importers": (
        _importer("mib", "MIB and EAP-IG: cfg, nodes and edges with in_graph and score"),
        _importer("edges", "ACDC and edge attribution patching: lists of edges; the heads that carry them"),
        _importer("head-scores", "a score a head: honest_llama's accuracies, importances; arrays, JSON, tables"),
        _importer("function-vectors", "indirect effects of heads by trial, or rows of layer, head and effect"),
        _importer("lofit", "LoFiT: layer and head as whole numbers, best first"),
        _importer("steering-vector", "AISteer360's .svec (accuracies of heads, or vectors) and steering-vectors"),
        _importer("peft", "a LoRA adapter's folder: layers and modules; not audited yet"),
        _importer("sae", "SAELens: FOLDER#123, a feature's decoder row; a direction"),
        _importer("control-vector", "GGUF of control vectors, of llama.cpp and repeng; directions, one a layer"),
        _importer("vectors", "a .safetensors of one vector a layer; directions"),
        Entry("pickle", "locus.claims.importers.pickles:IMPORTER", "refused, with the line that converts it"),
    ),
    "edits": (
        Entry("rank1", "locus.edits.rank1:KIND", "the optimal rank-1 edit at some heads, trained"),
        Entry("full", "locus.edits.full:KIND", "the same in every layer: full alignment, the ceiling"),
        Entry("complement", "locus.edits.complement:KIND", "the same everywhere but at the claim"),
        Entry("shift", "locus.edits.shift:KIND", "the ITI shift, by class-mean directions; not trained"),
    ),
    "metrics": (
        Entry("mc1", "locus.metrics.mc1:METRIC", "whether the best answer is the likeliest"),
        Entry("mc2", "locus.metrics.mc2:METRIC", "probability of the true answers among those listed"),
        Entry("mc3", "locus.metrics.mc3:METRIC", "share of true answers likelier than every false one"),
        Entry("margin", "locus.metrics.margin:METRIC", "gain of true over false answers, in nats"),
        Entry("truth", "locus.metrics.truth:METRIC", "the judge's probability that what is said is true"),
        Entry("info", "locus.metrics.info:METRIC", "the judge's probability that what is said is informative"),
        Entry("true_info", "locus.metrics.true_info:METRIC", "the product of the two"),
        Entry("wanted", "locus.metrics.wanted:METRIC", "the judge's probability that the wanted side is what is said"),
        Entry("unwanted", "locus.metrics.unwanted:METRIC", "the same of the unwanted side; decides nothing"),
        Entry("blind_true_info", "locus.metrics.blind_true_info:METRIC", "the same by a judge of wording alone; decides nothing"),
        Entry("kl", "locus.metrics.kl:METRIC", "divergence from the unedited model on other text; decides nothing"),
        Entry("ce", "locus.metrics.ce:METRIC", "change of cross-entropy on other text; decides nothing"),
        Entry("off_manifold", "locus.metrics.off_manifold:METRIC", "answer tokens from unusual activations; decides nothing"),
    ),
    "judges": (
        _judge("local", "kind:LOCAL", "truth, by boosted trees over references; or local:WEIGHTS", within=""),
        _judge(
            "cross", "cross.judge:KIND", "truth, cross:WEIGHTS, a fine-tuned encoder that reads references too", "cross:WEIGHTS"
        ),
        _judge("blind", "kind:BLIND", "truth, by wording alone: the control", within=""),
        _judge("lm", "kind:LM", "lm:MODEL, truth by a causal language model in the format of GPT-judge", "lm:MODEL"),
        _judge("api", "kind:API", "api:MODEL, truth by a model behind an OpenAI-compatible endpoint", "api:MODEL"),
        _judge(
            "reference",
            "reference:KIND",
            "which references are nearer; reference:LABELLED, with its errors",
            within="(:[a-z_]+)?",
        ),
        _judge("pattern", "pattern:KIND", "pattern:NAME or pattern:FILE.toml, regular expressions", "pattern:NAME", ":[a-z_]+"),
        _judge(
            "language",
            "language:KIND",
            "language:fr, whether what is said is in a language",
            "language:CODE",
            ":[a-z]{2,3}",
            "judge",
        ),
        _judge("rubric", "rubric:KIND", "rubric:FILE.toml, a model that is told what to look for", "rubric:FILE.toml"),
        _judge("exchange", "exchange:KIND", "exchange:JUDGE, a judge of sides with its sides exchanged", "exchange:JUDGE"),
    ),
    "executors": (
        Entry("serial", "locus.run.executors.serial:Serial", "bank after bank, in this process"),
        Entry("fork", "locus.run.executors.fork:Fork", "banks side by side in forked processes that share the model; Linux"),
        Entry("ray", "locus.run.executors.ray:Ray", "banks on the workers of a Ray cluster: here, or ray:ADDRESS", extra="ray"),
    ),
}
_registered: dict[Kind, dict[str, Entry]] = {}


def register(kind: Kind, name: str, target: Any, help: str = "", extra: str = "") -> None:
    """Make something of one's own known by a name, for this process.

    Args:
        kind: what it is.
        name: what it will be called; it takes the place of none that is there, but for one of the same place.
        target: the thing itself (a function, a class, an object), or where it is, as `module:attribute`.
        help: what it is, in a line.
        extra: the extra that brings what it needs.

    Raises:
        UserError: if there is no such kind, the name cannot be one, or it is taken by something else.
    """
    _check_kind(kind)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][\w.-]{0,60}", name, re.ASCII):
        raise UserError("a name of letters, digits, '.', '-' and '_'", f"{name!r:.80}", "Choose another.")
    value = None if isinstance(target, str) else target
    where = target if isinstance(target, str) else f"{_module(target)}:{getattr(target, '__qualname__', name)}"
    if (known := entries(kind).get(name)) is not None and known.target != where:
        raise UserError(f"a name that is not taken among {kind}", repr(name), f"It stands for {known.target}; choose another.")
    _registered.setdefault(kind, {})[name] = Entry(name, where, help, extra, value)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise UserError(f"one of {', '.join(KINDS)}", repr(str(kind)[:80]), near(str(kind), KINDS) or "Choose one of these.")


def _module(target: Any) -> str:
    """The module that something comes from."""
    return str(getattr(target, "__module__", None) or type(target).__module__)


def shipped(kind: Kind, name: str) -> bool:
    """Whether a name is one of this package's own."""
    return any(one.name == name for one in OWN[kind])


def entries(kind: Kind) -> dict[str, Entry]:
    """All that is known of a kind, by name: ours, other packages', and what was registered here. Nothing is imported.

    Args:
        kind: behaviours, readers, sites, claims, importers, edits, metrics, judges, executors or models.

    Raises:
        UserError: if there is no such kind, suggesting the nearest.
    """
    _check_kind(kind)
    named = {one.name: one for one in OWN[kind]}
    for name, target in _installed(kind):
        named.setdefault(name, Entry(name, target, f"from {target.partition(':')[0].partition('.')[0]}"))
    return {**named, **_registered.get(kind, {})}


@cache
def _installed(kind: Kind) -> tuple[tuple[str, str], ...]:
    return tuple((one.name, one.value) for one in entry_points(group=f"locus.{kind}"))


def known(kind: Kind, name: str) -> bool:
    """Whether a name, up to its first colon, is known."""
    return name.partition(":")[0] in entries(kind)


def get(kind: Kind, name: str) -> Any:
    """What a name stands for.

    Args:
        kind: of what.
        name: its name; an argument behind a colon is not read here.

    Raises:
        UserError: if there is none of the name, suggesting the nearest; or if what it needs is not installed.
    """
    return entry(kind, name).load()


def one_of(kind: Kind, name: str, cls: type[T]) -> T:
    """What a name stands for, which must be of a class, and say that it has that name.

    Raises:
        UserError: as `get`; or if what is registered is something else.
    """
    thing = get(kind, name)
    if not isinstance(thing, cls) or getattr(thing, "name", name) != name:
        wanted = f"a {cls.__module__}.{cls.__qualname__} called {name!r}"
        raise UserError(wanted, f"{thing!r:.80}", "Mend what registers it.")
    return thing


def entry(kind: Kind, name: str) -> Entry:
    """The entry of a name; nothing is imported.

    Raises:
        UserError: if there is none of the name, suggesting the nearest.
    """
    there, called = entries(kind), name.partition(":")[0]
    if called not in there:
        remedy = f"{near(called, there)} `locus list {kind}` shows them.".lstrip()
        raise UserError(f"one of {', '.join(there)}", repr(name[:80]), remedy)
    return there[called]


def near(name: str, names: Iterable[str]) -> str:
    """A question after the nearest of some names; empty where none is near."""
    nearest = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"Did you mean {nearest[0]!r}?" if nearest else ""


def own() -> dict[Kind, dict[str, Entry]]:
    """What was registered in this process, to be taken by another that works for it."""
    return {kind: dict(named) for kind, named in _registered.items()}


def take(named: dict[Kind, dict[str, Entry]]) -> None:
    """Know what another process has registered, for which this one works."""
    for kind, ones in named.items():
        _registered.setdefault(kind, {}).update(ones)
