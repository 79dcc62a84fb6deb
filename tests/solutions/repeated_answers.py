"""Exercise 4.3a solved: a scorer of your own for whole conversations.

Begin with:  genai/exercises/repeated_answers.py
Run it:      uv run python tests/solutions/repeated_answers.py
"""

import click
import mlflow
from mlflow.entities import SpanType, Trace

from utils.exercise_cli import exercise_command
from utils.genai_evaluation import quiet_evaluation
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions

NAME = "repeats_itself"
RULES = """Answer in one sentence from the passage only.

Passage: The library opens at nine. A book may be kept for three weeks. A lost card costs four euros."""
ASKED = {
    "ada": ("When does the library open?", "How long may a book be kept?", "What does a lost card cost?"),
    "ben": ("What does a lost card cost?", "And what does a new card cost?", "And a stolen card?"),
}


def talk(llm: Backend, session: str, questions: tuple[str, ...]) -> None:
    """Each turn is one trace of the session."""
    messages = [("system", RULES)]
    for question in questions:
        with mlflow.start_span("turn", span_type=SpanType.AGENT) as span:
            mlflow.update_current_trace(session_id=session)
            span.set_inputs({"messages": [{"role": "user", "content": question}]})
            messages.append(("user", question))
            messages.append(("assistant", str(llm.chat_model().invoke(messages).text)))
            span.set_outputs(messages[-1][1])


@mlflow.genai.scorer(name=NAME)
def repeats_itself(session: list[Trace]) -> bool:
    """A parameter called session makes it a scorer of whole sessions."""
    answers = [trace.data.spans[0].outputs for trace in session]
    return len(set(answers)) < len(answers)


def judge(traces: list[Trace]) -> None:
    """The traces of both sessions go in, one value for each session comes out."""
    with quiet_evaluation():
        mlflow.genai.evaluate(data=traces, scorers=[repeats_itself])
    click.echo(f"{len(traces)} traces of {len(ASKED)} sessions judged")


@exercise_command("4.3a", llm="mock")
def main(backend: BackendOptions) -> None:
    with open_backend(backend) as llm, mlflow.start_run(run_name="repeated-answers") as run:
        for user, questions in ASKED.items():
            talk(llm, f"{user}-{run.info.run_id[:6]}", questions)
        mlflow.flush_trace_async_logging()
        judge(mlflow.search_traces(run_id=run.info.run_id, return_type="list"))


if __name__ == "__main__":
    main()
