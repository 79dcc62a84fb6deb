"""Module 5: RAG."""

from utils.exercise_checks import rag
from utils.exercises.entries import Exercise

EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        id="5.2a",
        title="Cut the documents by a function of your own, and compare sizes",
        file="spark/exercises/own_chunks.py",
        task="Measure at least two chunk sizes, each in a run nested in the comparison. Write the function that cuts a "
        "document into chunks of whole words, none over the size and nothing left out.",
        proof="at least two chunk sizes as nested runs, no chunk over its size, no word lost, and hit@3 for each",
        hints=(
            "Compare the nested runs in mlflow ui. Does hit@3 rise or fall with the size, and what would explain it?",
            "A chunk grows word by word. What do you ask before you add the next one?",
            "Where would you rather cut: between two words, or between two sentences?",
            "Look at spark/spark_llamaindex_rag.py::chunk_partition; then compare with tests/solutions/own_chunks.py.",
        ),
        check=rag.find_own_chunks,
    ),
    Exercise(
        id="5.2b",
        title="Score every trace by a rule of your own",
        file="spark/exercises/answer_in_passages.py",
        task="Write a scorer that says whether the answer stands in the passages that were retrieved. Log what it says "
        "as feedback on the trace of every question.",
        proof="feedback of your own on the trace of every question, and it agrees with what the traces hold",
        hints=(
            "An answer may be right and yet stand in no passage. Where does it come from then?",
            "Which span of the trace holds the passages, and under which key?",
            "Two texts can differ by a comma. How does utils/evaluation.py::normalize_answer make them alike?",
            "Look at utils/evaluation.py::expected_in_answer; then compare with tests/solutions/answer_in_passages.py.",
        ),
        check=rag.find_answer_in_passages,
    ),
    Exercise(
        id="5.3a",
        title="Join two searches by a rule of your own, and say what it gains",
        file="genai/exercises/own_fusion.py",
        task="Write the function that joins the ranking by vectors with the ranking by words, so that each of them "
        "counts. Log what it gains over vectors alone, with the interval of the difference on the same questions.",
        proof="a ranking that is neither of the two, and its gain over vectors with an interval",
        hints=(
            "One search gives 0.83, the other 11.2. Why can you not add these, and what could you add instead?",
            "A chunk is third in both rankings, another first in one and nowhere in the other. Which would you show?",
            "Two intervals that overlap say little here. What changes when both searches had the same questions?",
            "Look at utils/search.py::reciprocal_rank_fusion and utils/evaluation.py::paired_bootstrap_difference; "
            "then compare with tests/solutions/own_fusion.py.",
        ),
        check=rag.find_own_fusion,
    ),
    Exercise(
        id="5.4a",
        title="Write questions of your own about an installed package, and measure the search with them",
        file="genai/exercises/own_questions.py",
        task="Write at least ten questions about the package click in the words of somebody who does not know its "
        "names, each with the document that answers it. Log them as a dataset of the run, beside the share that the "
        "search finds.",
        proof="ten questions in other words than their documents, as a dataset of the run, and hit@5",
        hints=(
            "Somebody has a task and no idea what the package calls it. What would they type?",
            "Four words in a row that stand in the document give it away. How else can the same thing be asked?",
            "The score of tomorrow must be of the same questions. What does a run keep so that this can be seen?",
            "Look at genai/rag/library_documents.py::log_corpus and utils/known_items.py::leaks; then compare with "
            "tests/solutions/own_questions.py.",
        ),
        check=rag.find_own_questions,
    ),
    Exercise(
        id="5.5a",
        title="Index again, and prove that only what changed was embedded",
        file="spark/exercises/index_again.py",
        task="Add, change and delete files between two runs of an indexing job. Write the comparison that chooses what "
        "the second run embeds and what it takes out of the index.",
        proof="a second run that embedded only what was new or changed, and whose index is right about every document",
        hints=(
            "Two files have the same name and other contents. Which of the two arguments of choose tells you?",
            "What is the difference between a document that is only in the index and one that is only in the folder?",
            "The second run embedded little, and yet wrong_in_index is not 0. Which documents did nobody take out?",
            "Look at utils/incremental_index.py::compare; then compare with tests/solutions/index_again.py.",
        ),
        check=rag.find_only_changed,
    ),
)
