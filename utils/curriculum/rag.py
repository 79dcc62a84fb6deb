"""Module 5: RAG."""

from utils.curriculum.entries import Evidence, Lesson

LESSONS: tuple[Lesson, ...] = (
    Lesson(
        number="5.1",
        title="Write the sample documents",
        command="mlflow-sample-documents",
        file="utils/sample_documents.py",
        page="runs",
        look="the run sample-documents, and the digest of its questions",
        docs="https://mlflow.org/docs/latest/ml/dataset/",
        uses_llm=False,
        shows=("mlflow.start_run", "mlflow.data.from_pandas", "mlflow.log_input", "mlflow.log_metrics"),
        evidence=(
            Evidence("run", "the corpus and its size", filter="metrics.documents > 0"),
            Evidence("dataset", "the questions whose gold document is known"),
        ),
        hints=(
            "How do you know that a retriever found the right document, and not just any document?",
            "What makes a question hard for a search by words?",
            "Look at utils/sample_documents.py::load_questions.",
        ),
    ),
    Lesson(
        number="5.2",
        title="RAG with Spark and LlamaIndex, judged against gold documents",
        command="mlflow-spark-llamaindex-rag",
        file="spark/spark_llamaindex_rag.py",
        page="traces",
        look="open one: the retriever span shows the passages and their scores",
        docs="https://mlflow.org/docs/latest/genai/tracing/integrations/listing/llama_index/",
        shows=(
            "mlflow.llama_index.autolog",
            "mlflow.start_span",
            "mlflow.start_run",
            "mlflow.log_metrics",
            "mlflow.log_table",
        ),
        evidence=(
            Evidence("run", "retrieval scores against gold documents", filter="metrics.hit_at_k >= 0"),
            Evidence(
                kind="trace",
                what="a trace for every question, with a retriever span",
                filter="trace.name = 'rag-question' AND span.type = 'RETRIEVER'",
            ),
        ),
        hints=(
            "An answer can be wrong although the right passage was found. Which span tells you?",
            "What does hit@3 count, and what would a metric that asks only for *a* source count?",
            "Halve --chunk-size: which number moves first, and why?",
            "Look at spark/spark_llamaindex_rag.py::ask.",
        ),
        tour_args=("--create-sample-docs",),
    ),
)
