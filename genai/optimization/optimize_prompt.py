"""8.4 Let an optimiser write the prompt, and use it only when it wins on rows it has not seen.

New here: optimize_prompts registers whatever it ends with; here that is held back until held-out rows speak for it.
Run it:   uv run mlflow-optimize-prompt
          uv run mlflow-optimize-prompt --train-rows 15 --held-out-rows 45
          uv run --extra optimize mlflow-optimize-prompt --method gepa --max-calls 120
          uv run --extra optimize mlflow-optimize-prompt --method dspy
Look at:  uv run mlflow ui  ->  8-advanced  ->  Training runs  ->  optimize-prompt: candidates.json under Artifacts
Change:   START asks for one word from the beginning; what is left to gain, and what does the run say?
Docs:     https://mlflow.org/docs/latest/genai/prompt-registry/optimize-prompts/
"""

from dataclasses import dataclass, replace
from typing import Any

import click
import mlflow
from mlflow.entities import Feedback, SpanType
from mlflow.entities.model_registry import PromptVersion

from utils.cli import Steps, lesson, show, show_table
from utils.errors import CheckFailed
from utils.evaluation_rows import row_key
from utils.genai_evaluation import quiet_evaluation
from utils.lesson_context import tagged_in_threads
from utils.llm_backends import Backend, open_backend
from utils.loader import require
from utils.options import BackendOptions, InputOptions
from utils.paired_decision import Decision, decide
from utils.prompt_release import Release
from utils.prompt_trials import (
    LEAST_HELD_OUT,
    LEAST_TRAINING,
    Task,
    Trials,
    check_answer,
    check_tail,
    load_litellm,
    quiet_optimizer,
    reflection,
    split,
)
from utils.prompt_utils import use_alias
from utils.row_scores import read_row_scores
from utils.sentiment_job import load_job_rows, parse_label

PROMPT, ALIAS = "optimized-label", "production"
TAIL = "\n\nReview: {{text}}"
START = f"What is the sentiment of this review?{TAIL}"
RELEASE = Release(PROMPT, ALIAS, "uv run mlflow-optimize-prompt")


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    candidates: int
    decision: Decision | None  # None: nothing new was proposed
    right: dict[str, float]
    in_use: int | None


def ask(llm: Backend, client: Any, prompt: PromptVersion, text: str) -> str:
    """`text` is all that a candidate is filled with: the labels it has to know, and what asks for more gets nothing."""
    if set(prompt.variables) != {"text"}:
        return ""
    messages: list[Any] = [{"role": "user", "content": str(prompt.format(text=text))}]
    reply = client.chat.completions.create(model=llm.model, messages=messages, temperature=llm.settings.temperature)
    return reply.choices[0].message.content or ""


def build_scorer(labels: tuple[str, ...]) -> Any:
    @mlflow.genai.scorer
    def right(outputs: str, expectations: dict[str, Any]) -> Feedback:
        """The rationale is what the optimiser learns from."""
        found = parse_label(outputs, labels)
        why = f"a program reads {found or 'no label'} in it, expected was {expectations['label']}"
        return Feedback(value=float(found == expectations["label"]), rationale=why)

    return right


def hold_back(inner: Any, name: str, trials: Trials) -> Any:
    """The optimiser, whose every candidate is written down and whose result is not registered."""
    from mlflow.genai.optimize.optimizers import BasePromptOptimizer

    class HeldBack(BasePromptOptimizer):
        proposed = ""
        failed = False

        def optimize(self, eval_fn: Any, train_data: Any, target_prompts: Any, enable_tracking: bool = True) -> Any:
            def watched(candidate: dict[str, str], rows: list[dict[str, Any]]) -> Any:
                results = eval_fn(candidate, rows)
                for result in results:
                    check_answer(result.outputs)
                trials.add(candidate[name], [result.score for result in results])
                return results

            output = inner.optimize(watched, train_data, target_prompts, enable_tracking)
            self.proposed = output.optimized_prompts[name]
            self.failed = output.final_eval_score is None  # MetaPrompt only warns, and gives the old prompt back
            return replace(output, optimized_prompts={})  # what is not in here is not registered

    return HeldBack()


def with_mlflow(llm: Backend, task: Task, uri: str, method: str, max_calls: int, seed: int, trials: Trials) -> str:
    """MetaPrompt or GEPA through mlflow.genai.optimize_prompts; the model that reflects is the chosen one."""
    from mlflow.genai.optimize import GepaPromptOptimizer, MetaPromptOptimizer

    client, model = llm.openai_client(), f"openai:/{llm.model}"  # its address is in the environment
    if method == "gepa":
        inner = GepaPromptOptimizer(
            reflection_model=model,
            max_metric_calls=max_calls,
            gepa_kwargs={"seed": seed, "reflection_strategy": reflection(client, llm.model, llm.settings.temperature)},
        )
    else:
        load_litellm()
        inner = MetaPromptOptimizer(reflection_model=model, lm_kwargs={"temperature": llm.settings.temperature})

    @tagged_in_threads
    @mlflow.trace(name="optimize-candidate", span_type=SpanType.CHAIN)
    def predict(text: str) -> str:
        return ask(llm, client, mlflow.genai.load_prompt(uri, link_to_model=False), text)

    held_back = hold_back(inner, PROMPT, trials)
    with quiet_optimizer():
        mlflow.genai.optimize_prompts(
            predict_fn=predict,
            train_data=task.train,
            prompt_uris=[uri],
            optimizer=held_back,
            scorers=[build_scorer(task.labels)],
        )
    if held_back.failed:
        raise CheckFailed(
            f"{llm.model} gave no prompt that can be used: not the JSON asked for, or without {{{{text}}}}",
            "the span metaprompt_reflection shows its reply; a larger --model, or --method gepa",
        )
    return str(held_back.proposed)


def with_dspy(llm: Backend, task: Task, template: str, max_calls: int, seed: int, trials: Trials) -> str:
    """DSPy's own GEPA on a program of one step; its autolog makes a run of the compilation and of each evaluation."""
    import dspy

    load_litellm()
    mlflow.dspy.autolog(log_compiles=True, log_evals=True, log_traces_from_compile=True)
    at = {"api_base": llm.settings.base_url, "api_key": llm.settings.api_key, "temperature": llm.settings.temperature}
    lm = dspy.LM(f"openai/{llm.model}", cache=False, **at)

    class Labeller(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step = dspy.Predict(dspy.Signature("text -> label", template.removesuffix(TAIL)))

        def forward(self, text: str) -> Any:
            answer = self.step(text=text)
            return dspy.Prediction(label=answer.label, instructions=self.step.signature.instructions)

    def metric(gold: Any, pred: Any, *_: Any) -> Any:
        found = parse_label(pred.label, task.labels)
        trials.add(pred.instructions + TAIL, [float(found == gold.label)])
        return dspy.Prediction(score=float(found == gold.label), feedback=f"read {found}, expected {gold.label}")

    rows = [dspy.Example(**row["inputs"], **row["expectations"]).with_inputs("text") for row in task.train]
    optimizer = dspy.GEPA(metric=metric, max_metric_calls=max_calls, reflection_lm=lm, seed=seed, num_threads=1)
    with quiet_optimizer(), dspy.context(lm=lm):
        compiled = optimizer.compile(Labeller(), trainset=rows, valset=rows)
    return str(compiled.step.signature.instructions) + TAIL


def evaluate(llm: Backend, name: str, template: str, task: Task) -> tuple[list[bool], str]:
    """A prompt on the held-out rows, registered or not: right or not by row, and the id of a trace."""
    prompt, client = PromptVersion(name=PROMPT, version=0, template=template), llm.openai_client()

    @tagged_in_threads
    @mlflow.trace(name="optimized-label", span_type=SpanType.CHAIN)
    def label(text: str) -> str:
        return ask(llm, client, prompt, text)

    with mlflow.start_run(run_name=f"held-out-{name}", nested=True) as active, quiet_evaluation():
        mlflow.log_params({"prompt": name, "rows": len(task.held_out)})
        mlflow.log_text(template, "prompt.txt")
        mlflow.genai.evaluate(data=task.held_out, predict_fn=label, scorers=[build_scorer(task.labels)])
    keys = [row_key(row["inputs"]) for row in task.held_out]
    scores = read_row_scores(active.info.run_id, ["right"], keys)
    right = scores.of("right")
    return [bool(right[key]) for key in keys], scores.traces[keys[0]].info.trace_id


def log_candidates(trials: Trials) -> None:
    rows = trials.rows()
    mlflow.log_table({name: [row[name] for row in rows] for name in rows[0]}, "candidates.json")
    for row in rows:
        mlflow.log_text(str(row["prompt"]), f"candidates/{row['candidate']}.txt")
        mlflow.log_metric("candidate_score", float(str(row["score"])), step=int(str(row["candidate"])))
    show_table([{**row, "prompt": str(row["prompt"]).replace("\n", " / ")} for row in rows])


def release(template: str, decision: Decision, method: str, llm: Backend) -> int:
    """Only a prompt that won is registered; the alias moves with it, and its tags say who wrote it."""
    tags, said = {"method": method, "proposed_by": author(llm)}, f"{method}: {gain(decision)} on held-out rows"
    made = mlflow.genai.register_prompt(name=PROMPT, template=template, commit_message=said, tags=tags)
    RELEASE.to(int(made.version))
    return int(made.version)


def run(llm: Backend, task: Task, method: str, max_calls: int, seed: int, alpha: float) -> Outcome:
    steps = Steps(4)
    mlflow.openai.autolog()
    uri = use_alias(PROMPT, ALIAS, START, needs=("text",), commit_message="before any optimiser")
    if method == "dspy":
        check_tail(uri, TAIL)
    with mlflow.start_run(run_name="optimize-prompt") as active:
        # 1. What is in use, and the rows that the optimiser may see
        current = mlflow.genai.load_prompt(uri, cache_ttl_seconds=0)
        template = str(current.template)
        mlflow.log_params({"method": method, "train_rows": len(task.train), "held_out_rows": len(task.held_out),
                           "alpha": alpha, "seed": seed, "prompt_version": current.version})  # fmt: skip
        steps(f"Version {current.version} in use; {len(task.train)} rows to train on, {len(task.held_out)} held out")

        # 2. Candidates
        trials = Trials()
        if method == "dspy":
            candidate = with_dspy(llm, task, template, max_calls, seed, trials)
        else:
            candidate = with_mlflow(llm, task, current.uri, method, max_calls, seed, trials)
        steps(f"{method} tried {len(trials.rows())} prompts on training rows, proposed by {author(llm)}:")
        log_candidates(trials)

        # 3. The one it chose, on rows that it has not seen
        before, trace_id = evaluate(llm, "in-use", template, task)
        right, decision = {"in_use": sum(before) / len(before)}, None
        if candidate.strip() == template.strip():
            steps("No gain: it ends with the prompt that is in use")
        else:
            after, trace_id = evaluate(llm, "candidate", candidate, task)
            decision, right["candidate"] = decide(before, after, alpha), sum(after) / len(after)
            steps(f"Right on held-out rows: {right['in_use']:.3f}, with the candidate {right['candidate']:.3f};")
            click.echo(f"      {gain(decision)}\n\n{candidate}\n")
            figures = {"gain": decision.gain, "gain_low": decision.low, "gain_high": decision.high, "p": decision.p}
            mlflow.log_metrics(figures)
        mlflow.log_metrics({f"held_out_{name}": value for name, value in right.items()})

        # 4. Registered only when it is better
        if decision and decision.is_real:
            steps(f"Registered as version {release(candidate, decision, method, llm)}; {ALIAS} points at it")
        else:
            steps("No gain, or one that may be luck: nothing is registered" if decision else "Nothing is registered")
        in_use = RELEASE.in_use()
        tried = len(trials.rows())
        mlflow.log_metrics({"candidates": tried, "registered": int(in_use != int(current.version))})
    return Outcome(active.info.run_id, trace_id, tried, decision, right, in_use)


def gain(decision: Decision) -> str:
    p = f"p {decision.p:.4f}" if decision.p >= 0.0001 else "p < 0.0001"
    return f"gain {decision.gain:+.3f} ({decision.low:+.3f} to {decision.high:+.3f}), {p}"


def author(llm: Backend) -> str:
    return f"{llm.model}, by fixed rules: a mock" if llm.llm_type == "mock" else f"{llm.llm_type}:{llm.model}"


@lesson("8.4", llm="mock", rows=True)
@click.option("--method", type=click.Choice(["metaprompt", "gepa", "dspy"]), default="metaprompt", show_default=True,
              help="gepa and dspy need: uv sync --extra optimize")  # fmt: skip
@click.option("--train-rows", type=click.IntRange(min=LEAST_TRAINING), default=30, show_default=True)
@click.option("--held-out-rows", type=click.IntRange(min=LEAST_HELD_OUT), default=60, show_default=True)
@click.option("--max-calls", type=click.IntRange(min=10), default=120, show_default=True,
              help="gepa and dspy: calls of the model on training rows.")  # fmt: skip
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
              help="How often equal prompts may be told apart.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Which rows, and the search.")
def main(
    method: str, train_rows: int, held_out_rows: int, max_calls: int, alpha: float, seed: int, source: InputOptions,
    backend: BackendOptions,
) -> None:  # fmt: skip
    if method == "gepa":
        require("gepa", extra="optimize")
    if method == "dspy":
        require("dspy", extra="optimize")
    task = split(load_job_rows(source, train_rows + held_out_rows, seed), train_rows, held_out_rows)
    with open_backend(backend) as llm:
        outcome = run(llm, task, method, max_calls, seed, alpha)
    measured = {"candidates": outcome.candidates, **{f"held_out_{k}": v for k, v in outcome.right.items()}}
    if outcome.decision:
        measured |= {
            "gain": outcome.decision.gain,
            "gain_low": outcome.decision.low,
            "gain_high": outcome.decision.high,
        }
    show("8.4", {**measured, "version_in_use": outcome.in_use}, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
