"""What an audit takes, and what it would take on a larger model and on many GPUs: prints the tables of docs/cost.md.

python studies/cost/cost.py RUN [--data QUESTIONS] [--share 0.5]
python studies/cost/cost.py SETTINGS --measure

RUN is a run folder. Where its trials were not counted they are counted from plan, questions, tokenizer and shapes; what was said
is read from its texts. A run that is still going is taken as far as it is. Nothing in RUN is written.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from locus import behaviours as datasets
from locus.claims import given
from locus.conclude.rule import rule
from locus.engine.cost import KINDS, Sizes, Work
from locus.models.locate import locate
from locus.models.model import Model
from locus.plan import context, reading, trials
from locus.plan import document as plan_file
from locus.plan.config import resolve
from locus.plan.forecast import Forecast
from locus.records.plan import PlanRecord
from locus.report.derived import copied_store
from locus.run import bank as run
from locus.run.setup import set_up

GPU = "H200 (SXM)"
PEAK = (
    989e12 / 2
)  # multiply-adds a second, dense bfloat16: the data sheet's 1,979 TFLOPS are with sparsity, and a multiply-add is two
BANDWIDTH = 4.8e12  # bytes a second, its data sheet
ROWS = 64  # texts that speak at once (locus/engine/generate.py)
LLAMA_8B = LlamaConfig(
    hidden_size=4096,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    intermediate_size=14336,
    vocab_size=128256,
)


@dataclass(frozen=True)
class Taken:
    """A run's trials: what each took, and in how many seconds, if it was run."""

    work: dict[str, dict[str, Work]]
    seconds: dict[str, float]
    roles: dict[str, str]
    answer_tokens: int
    counted: bool


def hollow(name: str) -> Model:
    """A model without its weights: tokenizer and shapes only."""
    if name.startswith("planted:"):
        from locus.models.load import load

        return load(name, device="cpu")  # it is drawn, not loaded
    folder = locate(name)[0]
    with torch.device("meta"):
        hf = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    return Model(hf, AutoTokenizer.from_pretrained(folder), name)


def take(folder: Path, plan: PlanRecord, data: str, model: Model) -> Taken:
    """The work of every trial of a plan: as counted, or else from the plan and what was said."""
    names = [one.name for one in fields(Work)]
    roles = {trial.id: trial.role for trial in plan.trials}
    with copied_store(folder) as store:
        rows, counts = store.trials(), store.costs()
        answer_lengths: dict[str, dict[str, int]] = {}
        for row in rows:
            texts = store.texts(row.id, "test")
            # One more than the words: the token that ended the text, or the length at which it was cut.
            lengths = {
                item: len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) + 1 for item, text in texts.items()
            }
            answer_lengths[row.id] = {item: min(length, int(plan.config["max_new_tokens"])) for item, length in lengths.items()}
    seconds = {row.id: float(row.seconds) for row in rows}
    spoken = sum(sum(one.values()) for one in answer_lengths.values())
    if counts.keys() >= set(roles):
        work = {
            id_: {kind: Work(**{name: one[name] for name in names}) for kind, one in kinds.items()}
            for id_, kinds in counts.items()
        }
        return Taken(work, seconds, roles, spoken, True)
    return Taken(Forecast(plan, datasets.load(data), model, answer_lengths).trials(), seconds, roles, spoken, False)


def grown(work: Work, factor: float) -> Work:
    """The same work in a model of so many times the layers, edited at the same relative depth."""
    return replace(work, layers=work.layers * factor, pairs=work.pairs * factor, reused=work.reused * factor)


def whole(kinds: Mapping[str, Work]) -> Work:
    """All work of a trial."""
    return sum(kinds.values(), Work())


def by_kind(taken: Taken, sizes: Sizes) -> list[str]:
    """A row a kind of work."""
    lines = ["| work | tokens | multiply-adds | % | spared by held residuals |", "| --- | ---: | ---: | ---: | ---: |"]
    sums = {kind: sum((one.get(kind, Work()) for one in taken.work.values()), Work()) for kind in KINDS}
    total = sum(sums.values(), Work())
    for words, work in [*((KINDS[kind], work) for kind, work in sums.items() if work.macs(sizes)), ("all", total)]:
        share = 100 * work.macs(sizes) / total.macs(sizes)
        lines.append(f"| {words} | {work.tokens:,.0f} | {work.macs(sizes):.3g} | {share:.1f} | {work.reused * sizes.layer:.3g} |")
    return lines


def by_role(taken: Taken, sizes: Sizes) -> list[str]:
    """A row a kind of trial: multiply-adds, seconds of those that were run, and the rate."""
    lines = [
        "| trials | number | multiply-adds each | run | seconds each | multiply-adds a second |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for role in [*dict.fromkeys(taken.roles.values()), "all"]:
        ids = [one for one, mine in taken.roles.items() if role in (mine, "all")]
        ran = [one for one in ids if one in taken.seconds]
        macs = {one: whole(taken.work[one]).macs(sizes) for one in ids}
        spent = sum(taken.seconds[one] for one in ran)
        each = f"{spent / len(ran):.1f} | {sum(macs[one] for one in ran) / spent:.3g}" if ran else "- | -"
        lines.append(f"| {role} | {len(ids)} | {sum(macs.values()) / len(ids):.3g} | {len(ran)} | {each} |")
    return lines


def projected(taken: Taken, sizes: Sizes, target: Sizes, share: float) -> list[str]:
    """Seconds on one GPU and on 100, of the same trials in a model of the target's sizes."""
    factor = target.n_layers / sizes.n_layers
    weights = 2 * (target.n_layers * target.layer + target.head)  # bytes
    times = {}
    for trial, kinds in taken.work.items():
        seconds = 0.0
        for kind, work in kinds.items():
            compute = grown(work, factor).macs(target) / (PEAK * share)
            # Every token that is spoken needs all weights read once for the texts that speak at the same time.
            reading = work.scored / ROWS * weights / BANDWIDTH if kind == "speak" else 0.0
            seconds += max(compute, reading)
        times[trial] = seconds
    total, longest = sum(times.values()), max(times.values())
    macs = sum(grown(whole(kinds), factor).macs(target) for kinds in taken.work.values())
    many = max(longest, total / 100)
    return [f"| {macs:.3g} | {total:.0f} | {longest:.1f} | {many:.1f} | {min(100, len(times))} |"]


def measured(settings: Path) -> None:
    """Run the bank of an audit that holds the ceiling, in this process alone; print its rate beside that of a plain product.

    Both a second of processor time, since that does not count what else the machine does meanwhile.
    """
    torch.set_num_threads(1)
    config = resolve(file=settings)
    dataset = datasets.load(config.data)
    bench = set_up(config, dataset, lambda what, share: None)
    made = [given(source) for source in config.claims]
    plan = trials.make(
        config, bench.model.layout, made, plan_file.basis(bench, dataset, [], rule(bench.config)), context.memory_budget(bench)
    )
    banks = [[plan.trial(one) for one in bank] for bank in plan.banks]
    bank = next(bank for bank in banks if any(trial.role == "ceiling" for trial in bank))

    def product() -> float:
        rows, matrix, start = torch.randn(512, 576), torch.randn(1536, 576), time.process_time()
        for _ in range(300):
            torch.nn.functional.linear(rows, matrix)
        return 300 * rows.numel() * len(matrix) / (time.process_time() - start)

    rates = [product()]
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        results = run.run_bank(bank, bench, Path(folder), lambda share: None)
        spent = time.process_time() - start
    rates.append(product())
    macs, best = sum(one["macs"] for result in results for one in result.cost.values()), statistics.fmean(rates)
    print(f"{', '.join(trial.role for trial in bank)}: {macs:.4g} multiply-adds in {spent:.1f} s of one processor, ", end="")
    print(f"{macs / spent:.3g} a second: {100 * macs / spent / best:.0f} % of the {best:.3g} of a plain product")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "--measure", action="store_true", help="RUN is a file of settings: measure the share of the machine's rate"
    )
    parser.add_argument("--data", help="the questions, where the plan's path is not this machine's")
    parser.add_argument("--share", type=float, default=0.5, help="of the GPU's peak that is reached")
    told = parser.parse_args()
    if told.measure:
        measured(told.run)
        return
    plan = reading.read_plan(told.run)
    model = hollow(plan.model.name)
    sizes = Sizes.of(model)
    taken = take(told.run, plan, told.data or str(plan.config["data"]), model)
    with torch.device("meta"):
        target = Sizes.of(Model(AutoModelForCausalLM.from_config(LLAMA_8B), None, "llama-3.1-8b"))
    how = "as each trial counted it" if taken.counted else "from the plan, and the texts of the trials that were run"
    print(
        f"{len(taken.work)} trials, {len(taken.seconds)} of them run; counted {how}. {sizes}; "
        f"{taken.answer_tokens:,} tokens said.\n"
    )
    print("\n".join([*by_kind(taken, sizes), "", *by_role(taken, sizes), ""]))
    print(f"On {target}, {GPU} at {100 * told.share:.0f} % of {PEAK:.4g} multiply-adds a second:\n")
    print("| multiply-adds | one GPU, s | longest trial, s | 100 GPUs, s | of which busy |\n| ---: | ---: | ---: | ---: | ---: |")
    print("\n".join(projected(taken, sizes, target, told.share)))


if __name__ == "__main__":
    main()
