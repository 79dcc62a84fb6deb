"""Module 6: Evaluation."""

from utils.curriculum.entries import Evidence, Lesson

LESSONS: tuple[Lesson, ...] = (
    Lesson(
        number="6.1",
        title="Keep evaluation rows, so that last month's score can be computed again",
        command="mlflow-evaluation-dataset",
        file="genai/evaluation/evaluation_dataset.py",
        page="datasets",
        look="document-questions: each row with its expectation, its tags and where it came from",
        docs="https://mlflow.org/docs/latest/genai/datasets/",
        shows=(
            "mlflow.genai.create_dataset",
            "mlflow.genai.search_datasets",
            "mlflow.genai.get_dataset",
            "mlflow.genai.set_dataset_tags",
            "mlflow.log_expectation",
            "mlflow.log_input",
            "mlflow.log_dict",
            "mlflow.artifacts.load_dict",
            "mlflow.genai.evaluate",
        ),
        evidence=(
            Evidence("run", "versions of the rows, kept and scored", minimum=2, filter="params.rows_digest != ''"),
            Evidence("dataset", "the rows under their digest"),
            Evidence("trace", "an answer for every row", minimum=2, filter="trace.name = 'dataset-question'"),
            Evidence("prompt", "the prompt that answers from documents", name="document-answer"),
        ),
        hints=(
            "The score fell by three points since last month. Did the system get worse, or did somebody change rows?",
            "You merge the same file again. Which digest should stay as it is, and which one does not?",
            "A user's question failed. What has to be added to its trace before it is worth anything as a row?",
            "Look at utils/evaluation_rows.py::content_digest and at "
            "genai/evaluation/evaluation_dataset.py::load_version.",
        ),
    ),
    Lesson(
        number="6.2",
        title="Similarity, correctness, relevance and faithfulness of a RAG, by chunk size",
        command="mlflow-evaluate-rag",
        file="genai/evaluation/evaluate_rag.py",
        page="evaluation-runs",
        look="select two chunks-… runs and press Compare; open a row to read what each judge said and why",
        docs="https://mlflow.org/docs/latest/genai/eval-monitor/scorers/llm-judge/predefined/",
        shows=(
            "mlflow.genai.evaluate",
            "mlflow.genai.scorer",
            "built_in.Correctness",
            "built_in.RelevanceToQuery",
            "built_in.RetrievalGroundedness",
            "built_in.RetrievalRelevance",
            "built_in.RetrievalSufficiency",
            "mlflow.start_span",
            "mlflow.log_metrics",
            "mlflow.log_figure",
        ),
        evidence=(
            Evidence("run", "an index of each chunk size, judged", minimum=2, filter="params.index = 'documents'"),
            Evidence("run", "a control that cannot be right", filter="params.index = 'control'"),
            Evidence(
                kind="trace",
                what="a judged answer with its passages",
                minimum=2,
                filter="trace.name = 'judged-question' AND span.type = 'RETRIEVER'",
            ),
        ),
        hints=(
            "An answer repeats a passage word for word, and it is wrong. Which of the criteria says yes to it?",
            "The judge failed on three of twelve rows. Is the mean over nine or over twelve, and what did those three "
            "have in common?",
            "A system that always says that it does not know: how faithful is it, and how grounded do you call it?",
            "Look at utils/rag_judgement.py::measure and genai/evaluation/evaluate_rag.py::build_scorers.",
        ),
    ),
    Lesson(
        number="6.3",
        title="Compare three prompts on the same rows, all pairs, corrected",
        command="mlflow-compare-prompts",
        file="genai/evaluation/compare_prompts.py",
        page="evaluation-runs",
        look="select the three compared-label runs and press Compare; sort by right: which rows decide?",
        docs="https://mlflow.org/docs/latest/genai/eval-monitor/",
        shows=(
            "mlflow.genai.evaluate",
            "mlflow.genai.scorer",
            "mlflow.genai.load_prompt",
            "mlflow.log_input",
            "mlflow.log_metrics",
            "mlflow.log_table",
        ),
        evidence=(
            Evidence("run", "three prompts on the same rows", minimum=3, filter="params.prompt != ''"),
            Evidence("run", "all pairs, corrected", filter="metrics.pairs >= 3 AND metrics.cochran_p >= 0"),
            Evidence("trace", "a scored answer for every row", minimum=3, filter="trace.name = 'compared-label'"),
            Evidence("prompt", "the three wordings", name="compared-label"),
        ),
        hints=(
            "Twenty equal prompts are compared, each with each. How many of the 190 pairs would you expect below 0.05?",
            "Two prompts have 50 rows right of 60 each. Are they the same, and which number in the table tells you?",
            "The best prompt wins most of its rows on one kind of review. What would you look at before you use it?",
            "Look at utils/pairwise.py::compare_pairs and genai/evaluation/compare_prompts.py::deciding_rows.",
        ),
    ),
)
