"""The figures of judges as figures.json has them: dictionaries whose entries are named."""

from typing import NotRequired, TypedDict


class Spread(TypedDict):
    """A value with its 95 % bootstrap interval over questions; NaN where it is undefined."""

    value: float
    low: float
    high: float


class Reliability(TypedDict):
    """Calibration error over bins of answers, its table, and the Brier score."""

    error: float
    brier: float
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    count: tuple[int, ...]
    n: int
    binning: str
    reason: str


class TargetFigures(TypedDict):
    """Of one target on one set of answers, as `evaluate.Figures` explains them."""

    target: str
    n: int
    n_unscored: int
    n_questions: int
    share_yes: float
    accuracy: Spread
    balanced_accuracy: Spread
    auc: Spread
    calibration: Reliability
    mean_gap: float
    confusion: tuple[int, int, int, int]


class JudgeFigures(TypedDict):
    """Every figure of one judge: by target, and by properties of answers (n, accuracy of truth, accuracy of information)."""

    judge: str
    fingerprint: str
    truth: TargetFigures
    truth_of_informative: TargetFigures
    info: TargetFigures
    confusion: dict[str, dict[str, object]]
    by_category: dict[str, tuple[int, float, float]]
    by_length: dict[str, tuple[int, float, float]]
    by_probe: dict[str, tuple[int, float, float]]
    unscored: NotRequired[dict[str, int]]
    unlabelled: NotRequired[dict[str, dict[str, object]]]


class TargetAgreement(TypedDict):
    """Cohen's kappa of two judges, as `stats.Estimate` is written, and the share of answers on which they differ."""

    kappa: dict[str, object]
    differ: float | None


class PairAgreement(TypedDict):
    """How far two judges agree, over answers both scored."""

    judges: list[str]
    n: int
    truth: TargetAgreement
    info: TargetAgreement


class Disputed(TypedDict):
    """An answer on whose truth judges are far apart; truthful is what people say."""

    question: str
    answer: str
    truthful: float | None
    truth: dict[str, float]


class LabelsAbout(TypedDict):
    """Which labelled answers."""

    name: str
    sha256: str
    answers: int


class Comparison(TypedDict):
    """Every figure of every judge, by fingerprint, and how far they agree; judgements are a row for each answer.

    left_out has the questions that a judge learned from, which were not measured on.
    """

    schema: str
    labels: LabelsAbout
    judges: dict[str, JudgeFigures]
    agreement: list[PairAgreement]
    disputed: list[Disputed]
    judgements: list[dict[str, object]]
    left_out: NotRequired[list[str]]
