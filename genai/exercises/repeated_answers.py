"""4.3a Write a scorer of your own for whole conversations.

Two people talk to the desk of a library, each in a session. Write a scorer that gets a whole session, and says True
when an answer of the assistant in it is the same as an earlier one. Name it repeats_itself, and let MLflow store what
it says about both sessions.

Run it:   uv run python genai/exercises/repeated_answers.py
Check:    uv run mlflow-learn check 4.3a
Look at:  uv run mlflow ui  ->  4-agents  ->  Sessions: the column repeats_itself
Docs:     https://mlflow.org/docs/latest/genai/eval-monitor/running-evaluation/multi-turn/
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


def judge(traces: list[Trace]) -> None:
    """The traces of both sessions go in, one value for each session comes out."""
    # Your turn (1): write a scorer with @mlflow.genai.scorer(name=NAME). What must its parameter be called, so that
    #                MLflow gives it all traces of a session instead of one?
    # Your turn (2): let mlflow.genai.evaluate run it over the traces.
    with quiet_evaluation():
        pass
    click.echo(f"{len(traces)} traces of {len(ASKED)} sessions, and nothing judges them yet")


@exercise_command("4.3a", llm="mock")
def main(backend: BackendOptions) -> None:
    with open_backend(backend) as llm, mlflow.start_run(run_name="repeated-answers") as run:
        for user, questions in ASKED.items():
            talk(llm, f"{user}-{run.info.run_id[:6]}", questions)
        mlflow.flush_trace_async_logging()
        judge(mlflow.search_traces(run_id=run.info.run_id, return_type="list"))


if __name__ == "__main__":
    main()
