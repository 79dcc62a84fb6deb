"""From the scores of rows to the figures of a RAG with intervals; judges that failed are counted, never averaged in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utils.evaluation import Interval, bootstrap_interval, wilson_interval
from utils.row_scores import RowScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Our name → the assessment's name, of criteria that a judge says yes or no to, once a row.
JUDGED = {"correctness": "correctness", "relevance": "relevance_to_query", "sufficiency": "retrieval_sufficiency"}
GROUNDED, PASSAGE_RELEVANCE = "retrieval_groundedness", "retrieval_relevance"
JUDGES = (*JUDGED.values(), GROUNDED, PASSAGE_RELEVANCE)
CODE = ("similarity", "hit", "declined")
# Criteria of the answer: where there is none, it fulfils none of them. The others judge what was retrieved.
OF_THE_ANSWER = ("correctness", "relevance", "groundedness", "similarity")


@dataclass(frozen=True)
class Measured:
    """A mean between 0 and 1 over `rows` rows with its interval at 95 %; None where there is nothing to say it of.
    errors: rows that the judge did not judge, which are in no mean."""

    mean: float | None
    interval: Interval | None
    rows: int
    errors: int = 0

    def metrics(self, name: str) -> dict[str, float]:
        found: dict[str, float] = {f"{name}_rows": self.rows, f"{name}_errors": self.errors}
        if self.mean is not None:
            found[name] = self.mean
        if self.interval is not None:
            found |= {f"{name}_low": self.interval[0], f"{name}_high": self.interval[1]}
        return found


def measure(scores: RowScores) -> dict[str, Measured]:
    """similarity, correctness, relevance, groundedness, faithfulness, sufficiency, passage_relevance, hit.

    groundedness: of all rows, those with an answer that claims something and is supported by what was retrieved; a
    declined answer claims nothing, so it is not grounded. faithfulness: of the answers that claim something, those
    that are supported.
    """
    declined = {key for key, values in scores.values["declined"].items() if values[0]}
    found = {name: _shares(scores, name, assessment) for name, assessment in JUDGED.items()}
    grounded = {k: float(all(values)) for k, values in _verdicts(scores, GROUNDED)[0].items()}
    errors = len(_verdicts(scores, GROUNDED)[1])
    claims = {key: value for key, value in grounded.items() if key not in declined}
    spoken = {key: 0.0 if key in declined else value for key, value in grounded.items()}
    found["groundedness"] = _measured([*spoken.values(), *(0.0 for _ in scores.failed)], errors, binary=True)
    found["faithfulness"] = _measured(list(claims.values()), errors, binary=True)
    passages, unjudged = _verdicts(scores, PASSAGE_RELEVANCE)
    shares = [sum(values) / len(values) for values in passages.values()]
    found["passage_relevance"] = _measured(shares, len(unjudged))
    similar = [float(values[0]) for values in scores.values["similarity"].values()]
    found["similarity"] = _measured([*similar, *(0.0 for _ in scores.failed)], len(scores.errors["similarity"]))
    hits = [float(values[0]) for values in scores.values["hit"].values()]
    found["hit"] = _measured(hits, len(scores.errors["hit"]), binary=True)
    return found


def correct_rows(scores: RowScores, keys: Sequence[str]) -> list[bool | None]:
    """For each row whether its answer was judged correct; None where the judge failed."""
    verdicts, _ = _verdicts(scores, JUDGED["correctness"])
    return [False if key in scores.failed else all(verdicts[key]) if key in verdicts else None for key in keys]


def judged_in_all(versions: Mapping[str, Sequence[bool | None]]) -> dict[str, list[bool]]:
    """Only the rows that were judged in every version: a comparison row by row needs both sides."""
    complete = [None not in row for row in zip(*versions.values(), strict=True)]
    return {
        name: [bool(value) for value, kept in zip(values, complete, strict=True) if kept]
        for name, values in versions.items()
    }


def judge_errors(scores: RowScores) -> int:
    """Judgements that failed, over all criteria."""
    return sum(len(_verdicts(scores, name)[1]) for name in JUDGES)


def draw_by_size(figures: Mapping[int, Mapping[str, Measured]], names: Sequence[str]) -> "Figure":
    """One line for each criterion over the chunk sizes (tokens), with its intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    sizes = sorted(figures)
    for shift, name in enumerate(names):
        points = [(place, figures[size][name]) for place, size in enumerate(sizes)]
        known = [(place, m.mean, m.interval) for place, m in points if m.mean is not None and m.interval is not None]
        xs = [place + 0.04 * (shift - len(names) / 2) for place, _, _ in known]
        means = [mean for _, mean, _ in known]
        below = [max(0.0, mean - interval[0]) for _, mean, interval in known]
        above = [max(0.0, interval[1] - mean) for _, mean, interval in known]
        axes.errorbar(xs, means, yerr=[below, above], marker="o", capsize=3, label=name)
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlim(-0.3, len(sizes) - 0.2)  # room for the legend
    axes.set(xlabel="chunk (tokens)", ylabel="mean, with 95 % interval", ylim=(-0.05, 1.05))
    axes.set_title("What each chunk size is worth")
    axes.legend(loc="best")
    return figure


def _verdicts(scores: RowScores, assessment: str) -> tuple[dict[str, list[bool]], set[str]]:
    """Yes and no by row, and the rows where the judge gave neither."""
    said, errors = {}, set(scores.errors[assessment])
    for key, values in scores.values[assessment].items():
        words = [str(value).strip().lower() for value in values]
        if all(word in ("yes", "no") for word in words):
            said[key] = [word == "yes" for word in words]
        else:
            errors.add(key)
    return said, errors


def _shares(scores: RowScores, name: str, assessment: str) -> Measured:
    verdicts, errors = _verdicts(scores, assessment)
    values = [float(all(each)) for each in verdicts.values()]
    if name in OF_THE_ANSWER:
        values += [0.0 for _ in scores.failed]
    return _measured(values, len(errors), binary=True)


def _measured(values: list[float], errors: int, *, binary: bool = False) -> Measured:
    if not values:
        return Measured(None, None, 0, errors)
    mean = sum(values) / len(values)
    if binary:
        return Measured(mean, wilson_interval(round(sum(values)), len(values)), len(values), errors)
    return Measured(mean, bootstrap_interval(values) if len(values) > 1 else None, len(values), errors)


def shown(measured: Measured) -> Any:
    """For a table: the mean, and how many rows are missing in it."""
    if measured.mean is None:
        return "-"
    return f"{measured.mean:.3f}" + (f" ({measured.errors} not judged)" if measured.errors else "")
