"""Exercise 6.1a solved: make evaluation rows of what users complained about.

Begin with:  genai/exercises/rows_from_complaints.py
Run it:      uv run python tests/solutions/rows_from_complaints.py
"""

import click
import mlflow
from mlflow.entities import AssessmentSource, SpanType, Trace

from utils.evaluation import expected_in_answer
from utils.exercise_cli import exercise_command
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions

DATASET = "library-complaints"
RULES = """Answer in one sentence from the passage only.

Passage: The library opens at nine. A book may be kept for three weeks. A lost card costs four euros."""
# What is asked, and what a person at the desk would have said.
ASKED = {
    "When does the library open?": "nine",
    "What does a lost card cost?": "four euros",
    "Where can I return books on Sunday?": "in the box at the back door",
    "How many books may I borrow at once?": "twelve",
    "How long may a book be kept?": "three weeks",
}


def answer_and_rate(llm: Backend) -> list[Trace]:
    """One trace for each question, with the user's thumb as feedback named helpful."""
    traces = []
    for question, expected in ASKED.items():
        with mlflow.start_span("desk", span_type=SpanType.AGENT) as span:
            span.set_inputs({"question": question})
            answer = str(llm.chat_model().invoke([("system", RULES), ("user", f"Question: {question}")]).text)
            span.set_outputs(answer)
        mlflow.flush_trace_async_logging()
        user = AssessmentSource(source_type="HUMAN", source_id="user")
        helpful = expected_in_answer(answer, expected)
        mlflow.log_feedback(trace_id=span.trace_id, name="helpful", value=helpful, source=user)
        traces.append(mlflow.get_trace(span.trace_id))
    return traces


def keep_complaints(traces: list[Trace], experiment_id: str) -> int:
    """How many traces became rows."""
    complaints = []
    for trace in traces:
        if not any(item.value is False for item in trace.search_assessments("helpful")):
            continue
        question = trace.search_spans(name="desk")[0].inputs["question"]
        mlflow.log_expectation(trace_id=trace.info.trace_id, name="expected_response", value=ASKED[question])
        complaints.append(mlflow.get_trace(trace.info.trace_id))
    found = list(mlflow.genai.search_datasets(experiment_ids=[experiment_id], filter_string=f"name = '{DATASET}'"))
    dataset = found[0] if found else mlflow.genai.create_dataset(name=DATASET, experiment_id=[experiment_id])
    dataset.merge_records(complaints)
    return len(complaints)


@exercise_command("6.1a", llm="mock")
def main(backend: BackendOptions) -> None:
    with open_backend(backend) as llm, mlflow.start_run(run_name="rows-from-complaints") as run:
        traces = answer_and_rate(llm)
        kept = keep_complaints(traces, run.info.experiment_id)
        mlflow.log_metric("rows_kept", kept)
    click.echo(f"{len(traces)} answers, {kept} of them kept as rows")


if __name__ == "__main__":
    main()
