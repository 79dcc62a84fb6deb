"""3.3 A template with several variables, and the values that serve best.

New here: a variable's values are tried as nested runs, so the store, not a notebook, knows which combination won.
Run it:   uv run mlflow-prompt-variables
          uv run mlflow-prompt-variables --tone formal --tone enthusiastic --length "one sentence" --max-words 20
          uv run mlflow-prompt-variables --num-questions 60 --length "one sentence" --length "three sentences"
Look at:  uv run mlflow ui  ->  3-prompts  ->  Training runs: open prompt-variables, its heat map is under Artifacts
Change:   run it with --max-words 12; the lengths are now as good as each other. What did each of them lose?
Docs:     https://mlflow.org/docs/latest/genai/prompt-registry/
"""

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import mlflow
from mlflow.entities import Run, SpanType
from mlflow.entities.model_registry import PromptVersion

from utils.cli import Steps, lesson, show, show_table, track
from utils.errors import InputError
from utils.evaluation import expected_in_answer, holm_correction, is_declined, mcnemar_exact, wilson_interval
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions
from utils.prompt_utils import use_alias
from utils.questions import load_questions, with_passages
from utils.sample_documents import CORPUS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROMPT = "desk-answer"
TEMPLATE = (
    "Answer the question in {{language}}, in a {{tone}} tone, for {{audience}}, in {{length}}. "
    "Use only the passage.\n\nPassage: {{passage}}\n\nQuestion: {{question}}"
)
TONES = ("neutral", "friendly")
LENGTHS = ("one sentence", "at most 6 words")
AUDIENCES = ("engineers", "newcomers")
LANGUAGES = ("English",)
ALPHA = 0.05  # how often, of all comparisons together, an equal combination may be called worse


@dataclass(frozen=True)
class Values:
    """One value for each variable of the template."""

    tone: str
    length: str
    audience: str
    language: str


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    best: Values
    useful: float
    not_told_apart: list[Values]


def is_useful(answer: str, expected: str, max_words: int) -> bool:
    """What the desk wants: the expected words are in the answer, and a reader gets through it."""
    return expected_in_answer(answer, expected) and not is_declined(answer) and len(answer.split()) <= max_words


def score(
    llm: Backend, prompt: PromptVersion, values: Values, rows: list[dict[str, str]], max_words: int
) -> list[bool]:
    """One combination is one nested run with one trace; returns which answers were useful."""
    client = llm.openai_client()
    with (
        mlflow.start_run(run_name=" / ".join(asdict(values).values()), nested=True),
        mlflow.start_span("score-combination", span_type=SpanType.EVALUATOR) as span,
    ):
        mlflow.genai.load_prompt(prompt.uri)  # links this run and this trace to the version
        mlflow.log_params(asdict(values))
        span.set_inputs(asdict(values))
        answers = []
        for row in rows:
            filled = str(prompt.format(passage=row["passage"], question=row["question"], **asdict(values)))
            messages: list[Any] = [{"role": "user", "content": filled}]
            reply = client.chat.completions.create(model=llm.model, messages=messages, temperature=0)
            answers.append(reply.choices[0].message.content or "")
        useful = [is_useful(a, row["expected"], max_words) for a, row in zip(answers, rows, strict=True)]
        measured = {
            "useful": sum(useful) / len(rows),
            "right": sum(expected_in_answer(a, row["expected"]) for a, row in zip(answers, rows, strict=True))
            / len(rows),
            "words_per_answer": sum(len(answer.split()) for answer in answers) / len(rows),
        }
        mlflow.log_metrics(measured)
        mlflow.set_tag("trace_id", span.trace_id)
        span.set_outputs(measured)
    return useful


def ranked_runs(parent_run_id: str) -> list[Run]:
    """The combinations as the store ranks them: the most useful first, of equals the one with fewer words."""
    return mlflow.search_runs(
        filter_string=f"tags.`mlflow.parentRunId` = '{parent_run_id}'",
        order_by=["metrics.useful DESC", "metrics.words_per_answer ASC"],
        output_format="list",
    )


def values_of(run: Run) -> Values:
    return Values(**{name: run.data.params[name] for name in Values.__dataclass_fields__})


def not_told_apart(best: Values, outcomes: dict[Values, list[bool]]) -> list[Values]:
    """Combinations that these rows cannot tell from the best: McNemar's p, corrected for having looked often (Holm)."""
    others = [values for values in outcomes if values != best]
    p_values = []
    for values in others:
        pairs = list(zip(outcomes[best], outcomes[values], strict=True))
        p_values.append(mcnemar_exact(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)))
    corrected = holm_correction(p_values) if p_values else []
    return [values for values, p in zip(others, corrected, strict=True) if p >= ALPHA]


def heat_map(runs: list[Run]) -> "Figure":
    """Lengths down, all other variables across; darker is more useful."""
    from matplotlib.figure import Figure

    cells = {values_of(run): run.data.metrics["useful"] for run in runs}
    lengths = list(dict.fromkeys(values.length for values in cells))
    across = sorted({(v.tone, v.audience, v.language) for v in cells})
    grid = [[cells[Values(t, length, a, g)] for t, a, g in across] for length in lengths]
    figure = Figure(figsize=(2.5 + 1.4 * len(across), 1.8 + 0.7 * len(lengths)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(grid, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(across)), ["\n".join(names) for names in across])
    axes.set_yticks(range(len(lengths)), lengths)
    for row, column in itertools.product(range(len(lengths)), range(len(across))):
        shade = "white" if grid[row][column] > 0.6 else "black"
        axes.text(column, row, f"{grid[row][column]:.2f}", ha="center", va="center", color=shade)
    figure.colorbar(image, label="share of useful answers")
    axes.set_title("Useful answers by the values of the template")
    return figure


def combinations(
    tones: tuple[str, ...], lengths: tuple[str, ...], audiences: tuple[str, ...], languages: tuple[str, ...]
) -> list[Values]:
    """Every value with every other. Raises InputError for an empty value."""
    for option, values in (
        ("--tone", tones),
        ("--length", lengths),
        ("--audience", audiences),
        ("--language", languages),
    ):
        if not all(value.strip() for value in values):
            raise InputError(f"a value of {option} is empty", f'{option} "one that says something"')
    return [Values(*each) for each in dict.fromkeys(itertools.product(tones, lengths, audiences, languages))]


def run(llm: Backend, grid: list[Values], rows: list[dict[str, str]], max_words: int) -> Outcome:
    steps = Steps(4)
    mlflow.openai.autolog()
    # 1. One template, several variables
    needs = ("tone", "length", "audience", "language", "passage", "question")
    uri = use_alias(PROMPT, "production", TEMPLATE, needs=needs, commit_message="Tone, length, audience, language")
    with mlflow.start_run(run_name="prompt-variables") as active:
        prompt = mlflow.genai.load_prompt(uri)
        steps(f"{prompt.uri} has the variables {', '.join(sorted(prompt.variables))}")
        mlflow.log_params({"questions": len(rows), "max_words": max_words, "combinations": len(grid)})

        # 2. Every combination on the same questions, each in a run of its own
        outcomes = {values: score(llm, prompt, values, rows, max_words) for values in track(grid, "combinations")}
        steps(f"{len(grid)} combinations, each on the same {len(rows)} questions")

        # 3. The store ranks them
        runs = ranked_runs(active.info.run_id)
        best = values_of(runs[0])
        low, high = wilson_interval(sum(outcomes[best]), len(rows))
        steps(
            f"Best: {' / '.join(asdict(best).values())}, {runs[0].data.metrics['useful']:.3f} ({low:.3f} to {high:.3f})"
        )
        show_table(list(table(runs, outcomes)))

        # 4. Which of the others might be as good
        equals = not_told_apart(best, outcomes)
        steps(f"{len(equals)} of the {len(grid) - 1} others cannot be told from it with {len(rows)} questions")
        mlflow.log_figure(heat_map(runs), "heat_map.png")
        mlflow.log_metrics({"best_useful": runs[0].data.metrics["useful"], "low": low, "high": high})
        mlflow.log_metric("not_told_apart", len(equals))
        mlflow.set_tags({f"best_{name}": value for name, value in asdict(best).items()})
    return Outcome(active.info.run_id, runs[0].data.tags["trace_id"], best, runs[0].data.metrics["useful"], equals)


def table(runs: list[Run], outcomes: dict[Values, list[bool]]) -> Iterator[dict[str, object]]:
    equals = not_told_apart(values_of(runs[0]), outcomes)
    for rank, run_ in enumerate(runs):
        values = values_of(run_)
        verdict = "best" if rank == 0 else "may be as good" if values in equals else "worse"
        shown = {name: run_.data.metrics[name] for name in ("useful", "right", "words_per_answer")}
        yield {**asdict(values), **shown, "verdict": verdict}


@lesson("3.3", llm="mock")
@click.option("--tone", "tones", multiple=True, default=TONES, show_default=True, help="May be repeated.")
@click.option("--length", "lengths", multiple=True, default=LENGTHS, show_default=True, help="May be repeated.")
@click.option("--audience", "audiences", multiple=True, default=AUDIENCES, show_default=True, help="May be repeated.")
@click.option("--language", "languages", multiple=True, default=LANGUAGES, show_default=True, help="May be repeated.")
@click.option("--num-questions", type=click.IntRange(min=2), default=40, show_default=True)
@click.option("--max-words", type=click.IntRange(min=1), default=25, show_default=True, help="Of a useful answer.")
@click.option("--questions", type=click.Path(path_type=Path), metavar="FILE", help="Your own questions, CSV or JSONL.")
@click.option("--docs-path", type=click.Path(path_type=Path), default=CORPUS, help="Default: the sample documents.")
def main(
    tones: tuple[str, ...],
    lengths: tuple[str, ...],
    audiences: tuple[str, ...],
    languages: tuple[str, ...],
    num_questions: int,
    max_words: int,
    questions: Path | None,
    docs_path: Path,
    backend: BackendOptions,
) -> None:
    grid = combinations(tones, lengths, audiences, languages)
    known = with_passages(load_questions(questions), docs_path)[:num_questions]
    rows = [{"question": q.question, "passage": text, "expected": q.expected_answer} for q, text in known]
    with open_backend(backend) as llm:
        outcome = run(llm, grid, rows, max_words)
    measured = {"combinations": len(grid), "best_useful": outcome.useful, **asdict(outcome.best)}
    show("3.3", measured, run_id=outcome.run_id, trace_id=outcome.trace_id, trace_ids=len(grid))


if __name__ == "__main__":
    main()
