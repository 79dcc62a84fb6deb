"""6.3 Compare three prompts on the same rows, all pairs, corrected for having looked three times.

New here: with three versions there are three differences to be lucky with; Holm's correction pays for that, and the
rows on which two prompts differ say why one is better.
Run it:   uv run mlflow-compare-prompts
          uv run mlflow-compare-prompts --num-rows 30
          uv run mlflow-compare-prompts --input my.csv --text-column comment --label-column verdict
          uv run mlflow-compare-prompts --prompt prompts:/compared-label/1 --prompt prompts:/compared-label/2
Look at:  uv run mlflow ui  ->  6-evaluation  ->  Evaluation runs: select the three prompts and press Compare
Change:   give WORDINGS a fourth; how many pairs are there now, and what happens to their p?
Docs:     https://mlflow.org/docs/latest/genai/eval-monitor/
"""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import click
import mlflow
from mlflow.entities import SpanType
from mlflow.entities.model_registry import PromptVersion
from mlflow.exceptions import MlflowException

from utils.cli import Steps, lesson, show, show_table, track
from utils.errors import InputError
from utils.evaluation_rows import row_key
from utils.genai_evaluation import quiet_evaluation
from utils.lesson_context import tagged_in_threads
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions, InputOptions
from utils.pairwise import Pair, best_and_equals, cochran_q, compare_pairs
from utils.prompt_utils import get_or_register
from utils.row_scores import read_row_scores
from utils.sentiment_job import JobRows, load_job_rows, parse_label
from utils.span_tree import roots

PROMPT = "compared-label"
WORDINGS = {
    "Ask": "What is the sentiment of this review?\n\n{{text}}",
    "Ask for one word": "Classify the sentiment of the review.\nAnswer with one word: {{labels}}.\n\nReview: {{text}}",
    "Ask for one word, and say please": (
        "Please classify the sentiment of the review.\nAnswer with one word: {{labels}}. Thank you.\n\nReview: {{text}}"
    ),
}
FIELDS = {"text", "labels"}  # what a prompt may ask for
LEAST_ROWS = 7  # with fewer, three prompts can never be told apart at 5 %, not even where all rows differ
SHOWN = 3  # rows that decide


@dataclass(frozen=True)
class Scored:
    """One prompt on the rows: what it answered, and whether it is right, in their order."""

    run_id: str
    answers: list[str]
    right: list[bool]
    unparsed: int


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    scored: dict[str, Scored]
    pairs: list[Pair]
    best: str
    as_good: list[str]


def load_prompts(uris: Sequence[str]) -> dict[str, PromptVersion]:
    """The prompts by name and version: the learner's, or the three wordings of the lesson.

    Raises:
        InputError: there is no such prompt, one is named twice, or it cannot be filled with a review.
    """
    if not uris:
        found = [get_or_register(PROMPT, wording, commit_message=why) for why, wording in WORDINGS.items()]
        return {f"{prompt.name}/{prompt.version}": prompt for prompt in found}
    prompts: dict[str, PromptVersion] = {}
    for uri in uris:
        try:
            prompt = mlflow.genai.load_prompt(uri, link_to_model=False)
        except MlflowException as error:
            problem = f"there is no prompt {uri} in this store: {error.message.splitlines()[0]}"
            raise InputError(
                problem, "--prompt prompts:/NAME/VERSION; uv run mlflow-prompt-search lists some"
            ) from error
        name = f"{prompt.name}/{prompt.version}"
        if "text" not in prompt.variables or not set(prompt.variables) <= FIELDS or not prompt.is_text_prompt:
            raise InputError(
                f"{name} cannot be filled with a review", "a text prompt with {{text}}, and maybe {{labels}}"
            )
        if name in prompts:
            raise InputError(f"{name} is named twice", "--prompt once for each version")
        prompts[name] = prompt
    if len(prompts) < 2:
        raise InputError("one prompt has nothing to be compared with", "--prompt … --prompt …")
    return prompts


def build_scorers(labels: tuple[str, ...]) -> list[Any]:
    @mlflow.genai.scorer
    def right(outputs: str, expectations: dict[str, Any]) -> bool:
        return parse_label(outputs, labels) == expectations["label"]

    @mlflow.genai.scorer
    def parsed(outputs: str) -> bool:
        """A program can read exactly one label in it."""
        return parse_label(outputs, labels) is not None

    return [right, parsed]


def evaluate_prompt(
    llm: Backend, name: str, prompt: PromptVersion, rows: list[dict], labels: tuple[str, ...]
) -> Scored:
    """One evaluation run for one prompt, on the same rows as the others."""
    client = llm.openai_client()

    @tagged_in_threads
    @mlflow.trace(name="compared-label", span_type=SpanType.CHAIN)
    def label(text: str) -> str:
        loaded = mlflow.genai.load_prompt(f"prompts:/{name}")
        given = {"text": text, "labels": ", ".join(labels)}
        filled = str(loaded.format(**{field: given[field] for field in prompt.variables}))
        messages: list[Any] = [{"role": "user", "content": filled}]
        reply = client.chat.completions.create(model=llm.model, messages=messages, temperature=0)
        return reply.choices[0].message.content or ""

    with mlflow.start_run(run_name=name.replace("/", "-"), nested=True) as active, quiet_evaluation():
        mlflow.log_params({"prompt": name, "rows": len(rows)})
        mlflow.genai.evaluate(data=rows, predict_fn=label, scorers=build_scorers(labels))
    keys = [row_key(row["inputs"]) for row in rows]
    scores = read_row_scores(active.info.run_id, ["right", "parsed"], keys)
    right, parsed = scores.of("right"), scores.of("parsed")
    answers = [str(roots(scores.traces[key])[0].outputs) for key in keys]
    return Scored(active.info.run_id, answers, [bool(right[key]) for key in keys], sum(not v for v in parsed.values()))


def pair_row(pair: Pair) -> dict[str, str]:
    """A pair for the terminal."""
    winner = {pair.first: "the first", pair.second: "the second"}.get(pair.winner or "")
    return {
        "first, second": f"{pair.first}, {pair.second}",
        "rows": f"+{pair.better} -{pair.worse}",
        "gain": f"{pair.gain:+.3f} ({pair.low:+.3f} to {pair.high:+.3f})",
        "p": show_p(pair.p),
        "corrected": show_p(pair.corrected),
        "better": winner or ("none, the same" if pair.same else "not told apart"),
    }


def show_p(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def by_kind(scored: dict[str, Scored], kinds: Sequence[str]) -> list[dict[str, Any]]:
    """Where a prompt gains: right answers by kind of review, and how many nobody can read."""
    rows = []
    for name, each in scored.items():
        shares = {
            kind: f"{sum(r for r, k in zip(each.right, kinds, strict=True) if k == kind)} of {kinds.count(kind)}"
            for kind in dict.fromkeys(kinds)
        }
        rows.append(
            {"prompt": name, "right": f"{sum(each.right)} of {len(kinds)}", **shares, "unreadable": each.unparsed}
        )
    return rows


def deciding_rows(best: Scored, other: Scored, rows: list[dict]) -> list[dict[str, str]]:
    """Rows that only the best prompt has right, with what was said to each."""
    differing = [i for i, (a, b) in enumerate(zip(best.right, other.right, strict=True)) if a and not b]
    return [
        {
            "review": shorten(rows[i]["inputs"]["text"], 60, placeholder=" …"),
            "best": shorten(best.answers[i], 20, placeholder=" …"),
            "other": shorten(other.answers[i], 60, placeholder=" …"),
        }
        for i in differing[:SHOWN]
    ]


def verdict(scored: dict[str, Scored], pairs: list[Pair], best: str, as_good: list[str]) -> str:
    if all(pair.same for pair in pairs):
        return f"The {len(scored)} prompts are equal: not one row has another result"
    if not any(pair.is_real for pair in pairs):
        return f"No pair can be told apart; {best} is ahead, which may be luck"
    rest = f", and {', '.join(as_good)} may be as good" if as_good else ""
    return f"Best: {best}, {sum(scored[best].right)} of {len(scored[best].right)} right{rest}"


def run(llm: Backend, prompts: dict[str, PromptVersion], job: JobRows, alpha: float) -> Outcome:
    steps = Steps(4)
    mlflow.openai.autolog()
    frame = job.frame.drop_duplicates("text")  # one row for each input: MLflow knows a row by nothing else
    kinds = list(frame["kind"]) if "kind" in frame else list(frame["label"])
    rows = [{"inputs": {"text": r.text}, "expectations": {"label": r.label}} for r in frame.itertuples()]
    if len(rows) < LEAST_ROWS:
        raise InputError(f"{len(rows)} different rows cannot tell prompts apart", f"--num-rows {LEAST_ROWS} or more")
    with mlflow.start_run(run_name="compare-prompts") as active:
        # 1. The same rows for every prompt
        mlflow.log_input(mlflow.data.from_pandas(frame, name="compared-reviews"), context="evaluation")
        mlflow.log_params({"prompts": len(prompts), "rows": len(rows), "alpha": alpha})
        steps(f"{len(prompts)} prompts, {len(rows)} different rows ({job.description})")

        # 2. One evaluation run for each
        items = track(prompts.items(), "prompts", len(prompts))
        scored = {name: evaluate_prompt(llm, name, prompt, rows, job.labels) for name, prompt in items}
        right = {name: each.right for name, each in scored.items()}
        steps("Evaluated; right answers by kind of row:")
        show_table(by_kind(scored, kinds))

        # 3. All pairs, corrected
        pairs, (q, p) = compare_pairs(right, alpha), cochran_q(right)
        steps(f"Any difference at all? Cochran's Q {q:.2f}, p {show_p(p)}; {len(pairs)} pairs, corrected by Holm:")
        show_table([pair_row(pair) for pair in pairs])

        # 4. The best, and why
        best, as_good = best_and_equals(right, pairs)
        steps(verdict(scored, pairs, best, as_good))
        lowest = min(scored, key=lambda name: sum(right[name]))
        if sum(right[best]) > sum(right[lowest]):
            click.echo(f"      Without a label that a program can read: {scored[lowest].unparsed} answers to {lowest}, "
                       f"{scored[best].unparsed} to {best}")  # fmt: skip
            click.echo(f"      Rows that {best} has right and {lowest} has not:")
            show_table(deciding_rows(scored[best], scored[lowest], rows))
        for pair in pairs:
            name = f"{pair.first}_{pair.second}".replace("/", "-")
            figures = {"gain": pair.gain, "p": pair.p, "p_corrected": pair.corrected}
            mlflow.log_metrics({f"{key}/{name}": value for key, value in figures.items()})
        mlflow.log_metrics(
            {"cochran_p": p, "pairs": len(pairs), "pairs_told_apart": sum(pair.is_real for pair in pairs)}
        )
        mlflow.set_tag("best_prompt", best)
        mlflow.log_table({k: [pair_row(pair)[k] for pair in pairs] for k in pair_row(pairs[0])}, "pairs.json")
    trace = mlflow.search_traces(run_id=scored[best].run_id, max_results=1, return_type="list")[0]
    return Outcome(active.info.run_id, trace.info.trace_id, scored, pairs, best, as_good)


@lesson("6.3", llm="mock", rows=True)
@click.option("--num-rows", type=click.IntRange(min=LEAST_ROWS), default=45, show_default=True, help="A seeded sample.")
@click.option("--prompt", "uris", multiple=True, metavar="URI", help="prompts:/NAME/VERSION; twice or more.")
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
              help="How often equal prompts may be told apart, over all pairs together.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Which rows.")
def main(
    num_rows: int, uris: tuple[str, ...], alpha: float, seed: int, source: InputOptions, backend: BackendOptions
) -> None:
    job = load_job_rows(source, num_rows, seed)
    if not job.labelled:
        raise InputError("without labels no answer is right or wrong", "--label-column NAME")
    prompts = load_prompts(uris)
    with open_backend(backend) as llm:
        outcome = run(llm, prompts, job, alpha)
    measured = {f"right_{name}": sum(each.right) / len(each.right) for name, each in outcome.scored.items()}
    measured |= {"pairs_told_apart": sum(pair.is_real for pair in outcome.pairs)}
    show("6.3", measured, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
