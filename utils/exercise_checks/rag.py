"""Module 5: chunks that lose nothing, and feedback that is true."""

from typing import TYPE_CHECKING

from utils.evaluation import expected_in_answer, is_declined, normalize_answer
from utils.exercise_checks.common import TRIES, exercise_runs, first_lack

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run, Trace

LEAST_SIZES, LEAST_TRACES = 2, 5
LEAST_OWN_QUESTIONS, OWN_QUESTIONS = 10, "own-questions"
TINY = 1e-6
FEEDBACK = "answer_in_passages"


def find_own_chunks(client: "MlflowClient", experiments: list[str]) -> str | None:
    """5.2a: nested runs of different chunk sizes, no chunk over the size, no word lost, hit@3 logged."""
    runs = exercise_runs(client, experiments, "5.2a")

    def lacks(run: "Run") -> str | None:
        name = run.info.run_name
        nested = [child for child in runs if child.data.tags.get("mlflow.parentRunId") == run.info.run_id]
        if len(nested) < LEAST_SIZES:
            return f"the run {name} has {len(nested)} nested runs: start one with nested=True for each chunk size"
        if not all(child.data.params.get("chunk_tokens", "").isdigit() for child in nested):
            return f"a run nested in {name} has no parameter chunk_tokens that is a whole number"
        sizes = {child.data.params["chunk_tokens"] for child in nested}
        if len(sizes) < LEAST_SIZES:
            return f"all runs nested in {name} have the chunk size {sizes.pop()}: compare at least {LEAST_SIZES}"
        return next(filter(None, map(_lacks_sound_chunks, nested)), None)

    return first_lack([run for run in runs if "mlflow.parentRunId" not in run.data.tags], lacks)


def find_only_changed(client: "MlflowClient", experiments: list[str]) -> str | None:
    """5.5a: a first and a second nested run; the second embedded what was new or changed, and its index is right."""
    runs = exercise_runs(client, experiments, "5.5a")

    def lacks(run: "Run") -> str | None:
        nested = {
            child.info.run_name: child.data.metrics
            for child in runs
            if child.data.tags.get("mlflow.parentRunId") == run.info.run_id
        }
        if not {"first", "second"} <= nested.keys():
            return f"the run {run.info.run_name} has not the nested runs first and second"
        return _lacks_a_small_second_run(nested["second"])

    return first_lack([run for run in runs if "mlflow.parentRunId" not in run.data.tags], lacks)


def _lacks_a_small_second_run(metrics: dict[str, float]) -> str | None:
    for name in ("documents", "new_or_changed", "gone", "embedded_documents", "wrong_in_index"):
        if name not in metrics:
            return f"the nested run second has no metric {name}"
    changed, embedded = int(metrics["new_or_changed"]), int(metrics["embedded_documents"])
    if not changed or not metrics["gone"]:
        missing = "added or changed" if not changed else "deleted"
        return f"no file was {missing} between the two runs: write change_files"
    if metrics["wrong_in_index"]:
        return f"after the run second the index is wrong about {metrics['wrong_in_index']:.0f} documents"
    if changed >= metrics["documents"]:
        return "every file was changed between the two runs: leave most of them alone, or nothing can be saved"
    if embedded != changed:
        return f"the run second embedded {embedded} documents, but {changed} were new or changed"
    return None


def find_answer_in_passages(client: "MlflowClient", experiments: list[str]) -> str | None:
    """5.2b: feedback on every trace of a run, and none that contradicts what its trace holds."""

    def lacks(run: "Run") -> str | None:
        traces = client.search_traces(locations=experiments, run_id=run.info.run_id, max_results=TRIES)
        if len(traces) < LEAST_TRACES:
            return (
                f"the run {run.info.run_name} holds {len(traces)} traces: ask at least {LEAST_TRACES} questions in it"
            )
        return next(filter(None, map(_lacks_true_feedback, traces)), None)

    return first_lack(exercise_runs(client, experiments, "5.2b"), lacks)


def find_own_fusion(client: "MlflowClient", experiments: list[str]) -> str | None:
    """5.3a: a ranking that is neither of the two, and its gain over vectors with an interval that holds it."""
    return first_lack(exercise_runs(client, experiments, "5.3a"), _lacks_fusion)


def find_own_questions(client: "MlflowClient", experiments: list[str]) -> str | None:
    """5.4a: ten questions, every document there, none in its document's words, and the dataset of the run."""
    return first_lack(exercise_runs(client, experiments, "5.4a"), _lacks_questions)


def _lacks_fusion(run: "Run") -> str | None:
    name, metrics = run.info.run_name, run.data.metrics
    for search in ("vectors", "words"):
        if not metrics.get(f"differs_from_{search}"):
            return f"the run {name} ranks every question as the {search} alone do: join both rankings"
    for metric in ("ndcg_vectors", "ndcg_own", "gain", "gain_low", "gain_high"):
        if metric not in metrics:
            return f"the run {name} has no metric {metric}"
    gain = metrics["ndcg_own"] - metrics["ndcg_vectors"]
    if abs(metrics["gain"] - gain) > TINY:
        return f"the gain of the run {name} is {metrics['gain']:.3f}, but its two means differ by {gain:.3f}"
    low, high = metrics["gain_low"], metrics["gain_high"]
    if not low - TINY <= gain <= high + TINY or high - low < TINY:
        return f"the interval of the run {name}, {low:.3f} to {high:.3f}, is not one of a gain of {gain:.3f}"
    return None


def _lacks_questions(run: "Run") -> str | None:
    name, metrics = run.info.run_name, run.data.metrics
    asked = int(metrics.get("questions", 0))
    if asked < LEAST_OWN_QUESTIONS:
        return f"the run {name} has {asked} questions: write at least {LEAST_OWN_QUESTIONS}"
    if metrics.get("unknown_documents", 1):
        return (
            f"{metrics.get('unknown_documents', 1):.0f} questions of the run {name} name a document that is not there"
        )
    if metrics.get("copied_questions", 1):
        return f"{metrics.get('copied_questions', 1):.0f} questions of the run {name} use the words of their document"
    if "hit_at_5" not in metrics:
        return f"the run {name} has no metric hit_at_5"
    if OWN_QUESTIONS not in [item.dataset.name for item in run.inputs.dataset_inputs]:
        return f"the run {name} has no dataset {OWN_QUESTIONS} among its inputs: mlflow.log_input logs one"
    return None


def _lacks_sound_chunks(run: "Run") -> str | None:
    name, size, metrics = run.info.run_name, int(run.data.params["chunk_tokens"]), run.data.metrics
    for metric in ("longest_chunk_tokens", "words_kept", "hit_at_3"):
        if metric not in metrics:
            return f"the nested run {name} has no metric {metric}"
    if metrics["longest_chunk_tokens"] > size:
        return f"the longest chunk of the run {name} has {metrics['longest_chunk_tokens']:.0f} tokens, over {size}"
    if metrics["words_kept"] < 1:
        return f"the chunks of the run {name} hold only {metrics['words_kept']:.1%} of the documents' words"
    return None


def _lacks_true_feedback(trace: "Trace") -> str | None:
    identifier = trace.info.trace_id
    given = [item for item in trace.info.assessments if item.name == FEEDBACK and item.valid is not False]
    if not given:
        return f"the trace {identifier} has no feedback {FEEDBACK}"
    says = max(given, key=lambda item: item.create_time_ms).value  # a corrected scorer may have spoken again
    if not isinstance(says, bool):
        return f"the feedback {FEEDBACK} of the trace {identifier} is {says!r}, neither True nor False"
    root = next(span for span in trace.data.spans if span.parent_id is None)
    retrieved = [span.outputs or [] for span in trace.data.spans if span.span_type == "RETRIEVER"]
    passages = [passage["page_content"] for found in retrieved for passage in found]
    answer = str((root.outputs or {}).get("answer", ""))
    if not normalize_answer(answer):
        return f"the root span of the trace {identifier} has no answer among its outputs"
    if says and not _may_stand_in(passages, answer):
        return f"the feedback of the trace {identifier} is True, but its answer stands in none of its passages"
    if not says and not is_declined(answer) and any(expected_in_answer(text, answer) for text in passages):
        return f"the feedback of the trace {identifier} is False, but its answer stands in one of its passages"
    return None


def _may_stand_in(passages: list[str], answer: str) -> bool:
    """Generous, since learners may compare in other ways: half of the answer's words are in one passage."""
    words = set(normalize_answer(answer).split())
    shared = [len(words & set(normalize_answer(text).split())) for text in passages]
    return not is_declined(answer) and max(shared, default=0) >= len(words) / 2
