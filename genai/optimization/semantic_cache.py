"""8.5 A semantic cache, its threshold, and the wrong answers that it gives.

New here: what a cache saves is only half of its figures; the other half is how often it answers another question.
Run it:   uv run mlflow-semantic-cache
          uv run mlflow-semantic-cache --max-false-hits 0.3 --mock-latency-ms 200
          uv run mlflow-semantic-cache --threshold 0.7 --num-requests 40
          uv run mlflow-semantic-cache --cache my_cache.sqlite --expire-hours 1
Look at:  uv run mlflow ui  ->  8-advanced  ->  Training runs  ->  semantic-cache: Artifacts, thresholds.png
Change:   --embed-type fastembed, or a question of your own in --questions; which look-alikes still come through?
Docs:     https://mlflow.org/docs/latest/genai/tracing/
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
import mlflow
from mlflow import MlflowClient
from mlflow.entities import AssessmentSource, AssessmentSourceType, Metric, SpanType
from mlflow.entities.model_registry import PromptVersion

from utils.cache_questions import CacheQuestion, Request, halves, load_cache_questions, made_up_traffic, meanings
from utils.cache_savings import IDENTICAL, MODEL, SIMILAR, Reply, count_replies
from utils.cache_scores import (
    GRID,
    CacheScores,
    Probe,
    by_difference,
    choose,
    draw_curve,
    embed_all,
    probe,
    score,
    score_row,
)
from utils.cli import Steps, lesson, show, show_table, track
from utils.embeddings import default_embed_type, open_embedding
from utils.evaluation import is_declined
from utils.lesson_context import current_tags
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions, EmbedOptions
from utils.pricing import describe_price
from utils.prompt_utils import use_alias
from utils.semantic_cache import Entry, SemanticCache, scope_of

if TYPE_CHECKING:
    from openai import OpenAI

PROMPT = "cached-answer"
TEMPLATE = (
    "Answer the question in one short sentence, from the facts only.\n\nContext:\n{{facts}}\n\nQuestion: {{question}}"
)
HOURS = 3600  # seconds
SHOWN, SHOWN_EVERY = 3, 5  # wrong answers, thresholds: for the terminal
SHOWN_FIGURES = (
    "threshold", "hit_rate", "false_hit_rate", "precision", "requests", "answered_by_model", "declined_not_kept",
    "hits_identical", "hits_similar", "hits_similar_first", "hits_similar_wrong",
    "share_saved", "share_saved_by_similar", "saved_usd_per_1000_requests", "model_seconds", "saved_seconds",
    "lookup_ms_mean",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """The flags that decide the figures. threshold None: to be chosen."""

    max_false_hits: float
    threshold: float | None
    num_requests: int
    expire_hours: float
    seed: int


@dataclass(frozen=True)
class Outcome:
    """threshold None: there is none that lets few enough through, and `held_out` is None with it."""

    run_id: str
    trace_id: str
    threshold: float | None
    held_out: CacheScores | None
    figures: dict[str, float]


@dataclass(frozen=True)
class Answering:
    """Everything that one request needs. threshold None: no similarity is enough, only the same text."""

    llm: Backend
    client: "OpenAI"
    prompt: PromptVersion
    embed: Callable[[Sequence[str]], Any]
    cache: SemanticCache
    threshold: float | None
    meanings: dict[str, str]  # of every text that can be in the cache

    def look_up(self, text: str) -> tuple[str, Entry | None, float, Any]:
        """The same text first, which needs no vector; else the most similar, if it is similar enough."""
        if entry := self.cache.identical(text):
            return IDENTICAL, entry, 1.0, None
        vector = self.embed([text])[0]
        match = self.cache.nearest(vector)
        near = match is not None and self.threshold is not None and match.similarity >= self.threshold
        return SIMILAR if near else MODEL, match.entry if match else None, match.similarity if match else 0.0, vector

    def ask_model(self, text: str, facts: str, vector: Any) -> Entry:
        """The model's answer; one that says it does not know is not kept, for tomorrow it might know."""
        messages: list[Any] = [{"role": "user", "content": str(self.prompt.format(facts=facts, question=text))}]
        started = time.perf_counter()
        reply = self.client.chat.completions.create(
            model=self.llm.model, messages=messages, temperature=self.llm.settings.temperature
        )
        latency_ms = (time.perf_counter() - started) * 1000
        answer, usage = reply.choices[0].message.content or "", reply.usage
        prompt_tokens, completion_tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (None, None)
        entry = Entry(text, answer, prompt_tokens, completion_tokens, latency_ms)
        if answer.strip() and not is_declined(answer):
            self.cache.put(entry, vector)
        return entry


def answer(given: Answering, request: Request) -> Reply:
    """One request, one trace: the look-up, and the model's call where the cache has nothing."""
    with mlflow.start_span("cached-answer", span_type=SpanType.CHAIN) as root:
        root.set_inputs({"question": request.text})
        started = time.perf_counter()
        with mlflow.start_span("cache-lookup", span_type=SpanType.MEMORY) as span:
            span.set_inputs({"question": request.text, "threshold": given.threshold})
            source, entry, similarity, vector = given.look_up(request.text)
            span.set_outputs({"found": source, "nearest": entry.question if entry else None, "similarity": similarity})
        lookup_ms = (time.perf_counter() - started) * 1000
        mlflow.update_current_trace(tags={"answered_by": source})
        right = None
        if source == MODEL or entry is None:
            entry = given.ask_model(request.text, request.facts, vector)
        else:
            given.cache.used(entry)
            right = given.meanings.get(entry.question) == request.meaning
        root.set_outputs({"answer": entry.answer})
    return Reply(request, source, entry, similarity, right, lookup_ms, root.trace_id)


def log_curve(scores: Sequence[CacheScores], chosen: float | None) -> None:
    """The curve three times: as a picture, as a table, and as metrics with the threshold in percent as their step."""
    now, run_id = int(time.time() * 1000), mlflow.active_run().info.run_id
    curve = [
        Metric(f"curve/{name}", value, now, round(each.threshold * 100))
        for each in scores
        for name, value in each.metrics().items()
    ]
    MlflowClient().log_batch(run_id, metrics=curve)  # one transaction instead of one for each threshold
    mlflow.log_figure(draw_curve(scores, chosen), "thresholds.png")
    rows = [score_row(each) for each in scores]
    mlflow.log_table({name: [row[name] for row in rows] for name in rows[0]}, "thresholds.json")


def judge_hits(replies: Sequence[Reply]) -> None:
    """Whether the entry was the right one stands on its trace: filter by it in the UI."""
    source = AssessmentSource(AssessmentSourceType.CODE, "cache_questions")
    for reply in replies:
        if reply.source == SIMILAR:
            why = f"{reply.similarity:.3f} to: {reply.entry.question}"
            mark: dict[str, Any] = {"trace_id": reply.trace_id, "source": source, "metadata": current_tags()}
            mlflow.log_feedback(name="right_entry", value=reply.right, rationale=why, **mark)


def choose_threshold(
    questions: Sequence[CacheQuestion], vectors: dict[str, Any], wanted: float | None, max_false_hits: float
) -> float | None:
    """On the first half; the curve that it was chosen from is in the run."""
    probes = probe(questions, vectors)
    scores = [score(probes, threshold) for threshold in GRID]
    threshold = wanted if wanted is not None else getattr(choose(scores, max_false_hits), "threshold", None)
    log_curve(scores, threshold)
    show_table([score_row(each) for each in scores[::SHOWN_EVERY]])
    return threshold


def report(probes: Sequence[Probe], threshold: float) -> CacheScores:
    """On the second half, which chose nothing."""
    held_out = score(probes, threshold)
    mlflow.log_metrics(held_out.metrics() | {"threshold": threshold})
    show_table([score_row(held_out)])
    show_table(by_difference(probes, threshold), "Look-alikes, by what they differ in:")
    return held_out


def show_wrong(replies: Sequence[Reply]) -> None:
    wrong = [reply for reply in replies if reply.right is False]
    rows = [{"asked": r.request.text, "answered as": r.entry.question, "answer": r.entry.answer} for r in wrong]
    distinct = list({row["asked"]: row for row in rows}.values())
    show_table(distinct[:SHOWN], f"Wrong answers, {min(SHOWN, len(distinct))} of {len(distinct)} questions:")


def run(
    llm: Backend,
    embed: Callable[[Sequence[str]], Any],
    questions: Sequence[CacheQuestion],
    open_cache: Callable[..., SemanticCache],
    plan: Plan,
) -> Outcome:
    steps = Steps(4)
    mlflow.openai.autolog()
    uri = use_alias(PROMPT, "production", TEMPLATE, needs=("facts", "question"))
    with mlflow.start_run(run_name="semantic-cache") as active:
        prompt = mlflow.genai.load_prompt(uri, cache_ttl_seconds=0)  # once: what is loaded in a run is linked to it
        # 1. The threshold, on one half of the questions
        first, second = halves(questions, plan.seed)
        mlflow.log_params(asdict(plan) | {"questions": len(questions)})
        vectors = embed_all(embed, questions)
        threshold = choose_threshold(first, vectors, plan.threshold, plan.max_false_hits)
        steps(chosen(threshold, plan, len(first)))

        # 2. Its figures, on the other half
        held_out = None
        if threshold is not None:
            steps(f"At {threshold:.2f} on the {len(second)} questions that chose nothing:")
            held_out = report(probe(second, vectors), threshold)
        else:
            steps("Nothing to report: the cache answers a text that it has, and no other")

        # 3. Made-up traffic through a cache on disk
        with open_cache(prompt) as cache:
            kept = len(cache)
            given = Answering(llm, llm.openai_client(), prompt, embed, cache, threshold, meanings(second))
            traffic = made_up_traffic(second, plan.num_requests, plan.seed)
            replies = [answer(given, request) for request in track(traffic, "requests", len(traffic))]
            steps(
                f"{len(traffic)} made-up requests; the cache held {kept} entries before them and holds {len(cache)} now"
            )
            show_wrong(replies)
        mlflow.flush_trace_async_logging()
        judge_hits(replies)
        figures = count_replies(replies, llm.model, llm.llm_type) | {"entries_before": kept}

        # 4. Closed and opened again; and with a clock that is ahead
        with open_cache(prompt) as cache:
            again = len(cache)
        with open_cache(prompt, clock=lambda: time.time() + plan.expire_hours * HOURS) as cache:
            later = len(cache)
        steps(f"Opened again: {again} entries. With a clock {plan.expire_hours:g} hours ahead: {later}")
        mlflow.log_metrics(figures | {"entries_opened_again": again, "entries_expired": again - later})
    return Outcome(active.info.run_id, replies[0].trace_id, threshold, held_out, figures)


def chosen(threshold: float | None, plan: Plan, questions: int) -> str:
    limit = f"at most {plan.max_false_hits:.0%} of the look-alikes answered"
    if plan.threshold is not None:
        return f"Threshold {plan.threshold:.2f}, as you said; the table is of {questions} questions"
    if threshold is None:
        return f"On {questions} questions no threshold has a right hit and {limit}"
    return f"Threshold {threshold:.2f}: the highest hit rate on {questions} questions with {limit}"


@lesson("8.5", llm="mock", embed=True)
@click.option("--questions", "questions_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Your own, CSV or JSONL: question, paraphrase, look_alike; maybe rewording, facts.")  # fmt: skip
@click.option("--max-false-hits", type=click.FloatRange(0, 1), default=0.1, show_default=True,
              help="Share of the look-alikes that the chosen threshold may let through.")  # fmt: skip
@click.option("--threshold", type=click.FloatRange(0, 1), help="Of the similarity; default: chosen on one half.")
@click.option("--num-requests", type=click.IntRange(min=1), default=60, show_default=True, help="Made-up traffic.")
@click.option("--cache", "cache_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Where the entries are kept for the next run; default: a file of this run alone.")  # fmt: skip
@click.option("--max-entries", type=click.IntRange(min=1), default=1000, show_default=True, help="Of the cache.")
@click.option("--expire-hours", type=click.FloatRange(0, min_open=True), default=24, show_default=True,
              help="An entry older than this is not given out.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Halves and traffic.")
def main(
    questions_file: Path | None, cache_file: Path | None, max_entries: int, backend: BackendOptions,
    embedding: EmbedOptions, **flags: Any,
) -> None:  # fmt: skip
    plan = Plan(**flags)
    questions = load_cache_questions(questions_file)
    embed_type = embedding.embed_type or default_embed_type(backend.llm_type)
    model = open_embedding(embed_type, embedding.embed_model, base_url=backend.openai_base_url,
                           ollama_url=backend.ollama_url)  # fmt: skip
    with open_backend(backend) as llm, TemporaryDirectory() as folder:

        def open_cache(prompt: PromptVersion, clock: Callable[[], float] = time.time) -> SemanticCache:
            facts = sorted({(each.question, each.facts) for each in questions})
            asked = (llm.llm_type, llm.model, llm.settings.temperature, prompt.name, prompt.version, prompt.template)
            server = "" if llm.llm_type in ("mock", "local") else llm.settings.base_url  # theirs is another each time
            scope = scope_of(*asked, server, embed_type, model.model_name, facts)
            path, age = cache_file or Path(folder) / "cache.sqlite", plan.expire_hours * HOURS
            return SemanticCache(path, scope, max_entries=max_entries, max_age_s=age, clock=clock)

        outcome = run(llm, model.get_text_embedding_batch, questions, open_cache, plan)
        click.echo(f"Cost:    {describe_price(llm.model, llm.llm_type)}")
        if embed_type == "openai":
            click.echo("         what the embeddings cost is not counted")
    held_out = outcome.held_out.metrics() if outcome.held_out else {}
    found = {"threshold": outcome.threshold, **held_out, **outcome.figures}
    measured = {name: found[name] for name in SHOWN_FIGURES if name in found}
    show("8.5", measured, run_id=outcome.run_id, trace_id=outcome.trace_id, trace_ids=plan.num_requests)


if __name__ == "__main__":
    main()
