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
    Lesson(
        number="5.4",
        title="Ask the documentation of the installed packages",
        command="mlflow-library-documents",
        file="genai/rag/library_documents.py",
        page="traces",
        look="open a library-question: its passages name package and version",
        docs="https://mlflow.org/docs/latest/genai/tracing/",
        shows=(
            "mlflow.openai.autolog",
            "mlflow.start_run",
            "mlflow.log_input",
            "mlflow.data.from_pandas",
            "mlflow.trace",
            "mlflow.start_span",
            "mlflow.genai.load_prompt",
            "mlflow.log_metrics",
        ),
        evidence=(
            Evidence("run", "the corpus and its size", filter="metrics.documents > 0"),
            Evidence("run", "scores on the masked index", filter="params.index = 'masked'"),
            Evidence("dataset", "the documents with their content hashes"),
            Evidence(
                kind="trace",
                what="a question with its passages",
                filter="trace.name = 'library-question' AND span.type = 'RETRIEVER'",
            ),
        ),
        hints=(
            "A question was made from the first sentence of a document. Which search would not find that document?",
            "Compare hit@k of the whole and of the masked index. How much of the first number was the question itself?",
            "A colleague has another version of a package. Which parts of the passages tell you whose answer is right?",
            "Look at genai/rag/library_documents.py::score_index and at utils/known_items.py::mask.",
        ),
    ),
    Lesson(
        number="5.5",
        title="RAG at scale: an index on disk that is kept up to date",
        command="mlflow-spark-rag-at-scale",
        file="spark/spark_rag_at_scale.py",
        page="traces",
        look="open a scale-question: the retriever span shows which chunks were read from the table on disk",
        docs="https://mlflow.org/docs/latest/genai/tracing/integrations/listing/llama_index/",
        shows=(
            "mlflow.start_run",
            "mlflow.log_params",
            "mlflow.log_input",
            "mlflow.data.from_pandas",
            "mlflow.log_metrics",
            "mlflow.llama_index.autolog",
            "mlflow.start_span",
            "mlflow.log_table",
        ),
        evidence=(
            Evidence("run", "an index of documents, read back", filter="metrics.chunks > 0"),
            Evidence("dataset", "the documents with their content hashes"),
            Evidence(
                kind="trace",
                what="a question answered from the table on disk",
                filter="trace.name = 'scale-question' AND span.type = 'RETRIEVER'",
            ),
        ),
        hints=(
            "Ten of ten thousand files were edited last night. What has to be known of the index to embed only those?",
            "A worker is killed after it wrote its chunks and before it could say so. What keeps them from being there "
            "twice when Spark runs its partition again?",
            "Which flags make every vector of the index useless, and what does the command say when you change one?",
            "Look at utils/incremental_index.py::compare and ::replace, then at "
            "spark/spark_rag_at_scale.py::embed_and_commit.",
        ),
    ),
)
