"""Exercise 5.2b solved: score every trace by a rule of your own.

Begin with:  spark/exercises/answer_in_passages.py
Run it:      uv run python tests/solutions/answer_in_passages.py
"""

import mlflow
import numpy as np
from mlflow.entities import SpanType, Trace
from mlflow.genai import scorer

from utils.cli import show_table
from utils.document_files import list_documents, read_document
from utils.evaluation import expected_in_answer, is_declined
from utils.exercise_cli import exercise_command
from utils.lexical import embed_lexically
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions
from utils.questions import Question, load_questions, spread
from utils.sample_documents import CORPUS

TOP_K = 3
PROMPT = """Context information is below.
---------------------
{context}
---------------------
Answer the question from the context information only, in one sentence.
If the context information does not hold the answer, say: I do not know.

Question: {question}
Answer:"""


@scorer
def answer_in_passages(trace: Trace) -> bool:
    """Whether the answer of the root span stands in a passage of the RETRIEVER span."""
    answer = trace.search_spans(name="question")[0].outputs["answer"]
    passages = [found["page_content"] for found in trace.search_spans(span_type=SpanType.RETRIEVER)[0].outputs]
    return not is_declined(answer) and any(expected_in_answer(passage, answer) for passage in passages)


def retrieve(question: str, passages: list[str], vectors: np.ndarray) -> list[str]:
    with mlflow.start_span("retrieve", span_type=SpanType.RETRIEVER) as span:
        span.set_inputs({"question": question})
        likeness = vectors @ embed_lexically([question])[0]
        found = [passages[i] for i in np.argsort(-likeness)[:TOP_K]]
        span.set_outputs([{"page_content": passage} for passage in found])
    return found


def ask_all(llm: Backend, questions: list[Question], passages: list[str]) -> list[str]:
    """One trace for each question; returns their ids."""
    chat_model, vectors, trace_ids = llm.chat_model(), embed_lexically(passages), []
    for question in questions:
        with mlflow.start_span("question", span_type=SpanType.CHAIN) as span:
            span.set_inputs({"question": question.question})
            context = "\n\n".join(retrieve(question.question, passages, vectors))
            answer = chat_model.invoke(PROMPT.format(context=context, question=question.question)).text
            span.set_outputs({"answer": answer})
        trace_ids.append(span.trace_id)
    return trace_ids


def score_all(trace_ids: list[str]) -> list[dict[str, object]]:
    rows = []
    for trace_id in trace_ids:
        trace = mlflow.get_trace(trace_id)
        says = answer_in_passages(trace=trace)
        mlflow.log_feedback(trace_id=trace_id, name=answer_in_passages.name, value=says)
        rows.append({"answer": trace.search_spans(name="question")[0].outputs["answer"], answer_in_passages.name: says})
    return rows


@exercise_command("5.2b", llm="mock")
def main(backend: BackendOptions) -> None:
    texts = [read_document(file.path) for file in list_documents(CORPUS)]
    passages = [passage for text in texts for passage in text.split("\n\n")]
    with open_backend(backend) as llm, mlflow.start_run(run_name="answer-in-passages"):
        mlflow.langchain.autolog(silent=True)
        trace_ids = ask_all(llm, spread(load_questions(), 6, seed=7), passages)
        mlflow.flush_trace_async_logging()  # the scorer reads what is in the store
        show_table(score_all(trace_ids))


if __name__ == "__main__":
    main()
