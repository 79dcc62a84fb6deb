"""Module 5: RAG."""

from utils.curriculum import Evidence
from utils.goals.entries import asked, proved, run, trace

DOCUMENTS = "uv run mlflow-sample-documents"
RAG = "uv run mlflow-spark-llamaindex-rag"
TUNE = "uv run mlflow-tune-chunking"
SCALE = "uv run mlflow-spark-rag-at-scale"
LIBRARY = "uv run mlflow-library-documents"

LEARNING = (
    asked("learning", "5.1", "Can you say why a retriever is judged by questions whose document is known before?",
          "uv run mlflow-learn hint 5.1"),
    asked("learning", "5.2", "Can you tell from a trace whether the retriever or the model was at fault?",
          "uv run mlflow-learn hint 5.2"),
    asked("learning", "5.2", "What would a metric be worth that asks only whether there is a source?",
          "uv run mlflow-learn hint 5.2 2"),
    asked("learning", "5.3", "Can you say which cells of a grid may be as good as its winner, and why?",
          "uv run mlflow-learn hint 5.3"),
    asked("learning", "5.4", "Can you say why a question made from a document must not find it by its own words?",
          "uv run mlflow-learn hint 5.4"),
    asked("learning", "5.5", "Can you say what an index has to remember so that it need not be built again?",
          "uv run mlflow-learn hint 5.5"),
)  # fmt: skip

CRITERIA = (
    proved("criterion", "5.1", "At least twelve documents are written and counted.",
           DOCUMENTS, run("metrics.documents >= 12")),
    proved("criterion", "5.1", "The questions are a dataset with a digest.",
           DOCUMENTS, Evidence("dataset", "the questions")),
    proved("criterion", "5.2", "hit@k, MRR and nDCG@k against gold documents stand in a run.",
           RAG, run("metrics.hit_at_k >= 0 AND metrics.mrr >= 0 AND metrics.ndcg_at_k >= 0")),
    proved("criterion", "5.2", "Twenty questions have a trace each, with a retriever span.",
           RAG, trace("rag-question", "span.type = 'RETRIEVER'", 20)),
    proved("criterion", "5.2", "A question was asked by itself (Change it, 5.1).",
           f'{RAG} --query "What erases a deleted run for good?"', run("metrics.questions_asked = 1")),
    proved("criterion", "5.2", "Retrieval was measured with a single passage (Change it, 5.2).",
           f"{RAG} --top-k 1", run("params.top_k = '1'")),
    proved("criterion", "5.2", "Retrieval was measured with another chunk size.",
           f"{RAG} --chunk-size 64 --chunk-overlap 10", run("params.chunk_tokens != '512'")),
    asked("criterion", "5.2", "Did the lesson answer a question about documents of your own, from the right one?",
          f'{RAG} --docs-path my_documents --query "What does the contract say about notice?"'),
    proved("criterion", "5.3", "Sizes and overlaps are compared in nested runs, twelve of them.",
           TUNE, run("params.search = 'vectors'", 12)),
    proved("criterion", "5.3", "The winner has an interval, and it is known how many others may be as good.",
           TUNE, run("metrics.best_ndcg_at_k >= 0 AND metrics.low >= 0 AND metrics.may_be_as_good >= 0")),
    proved("criterion", "5.3", "Words, vectors, both joined and a reranker are compared on the same questions.",
           TUNE, run("params.search = 'both, reranked' AND metrics.tokens_per_answer > 0")),
    proved("criterion", "5.4", "The documentation of the installed packages answers questions about them.",
           LIBRARY, trace("library-question", "span.type = 'RETRIEVER'", 3)),
    proved("criterion", "5.4", "Known items were searched for where their wording was masked.",
           LIBRARY, run("params.index = 'masked' AND metrics.both_hit_at_k >= 0")),
    proved("criterion", "5.4", "All documents of the installed packages were indexed, at least 10,000.",
           f"{LIBRARY} --all", run("metrics.documents >= 10000")),
    proved("criterion", "5.5", "Questions were answered from an index on disk.",
           SCALE, trace("scale-question", "span.type = 'RETRIEVER'", 5)),
    proved("criterion", "5.5", "A second run indexed only what was new (Change it, 5.5).",
           f"{SCALE} --num-documents 1200",
           run("metrics.unchanged_documents > 0 AND metrics.embedded_documents > 0")),
    proved("criterion", "5.5", "Ten thousand documents were indexed.",
           f"{SCALE} --num-documents 10000", run("metrics.documents >= 10000")),
    asked("criterion", "5.5", "Did you kill the job in the middle, and did --resume embed only the rest?",
          f"{SCALE} --resume"),
)  # fmt: skip

CHECKLIST = (
    proved("production", "5.2", "Retrieval is measured against gold documents.",
           RAG, run("metrics.hit_at_k >= 0")),
)  # fmt: skip
