"""5.4a Write questions of your own about an installed package, and measure the search with them.

Write at least ten questions about the package click in the words of somebody who does not know its names, each with
the document that answers it. Log them as a dataset of the run, beside the share that the search finds.

Run it:   uv run python genai/exercises/own_questions.py
Check:    uv run mlflow-learn check 5.4a
Look at:  uv run mlflow ui  ->  5-rag  ->  Training runs  ->  own-questions, and the dataset of the run
Docs:     https://mlflow.org/docs/latest/ml/dataset/
"""

import mlflow
import pandas as pd

from utils.cli import show_table
from utils.embeddings import open_embedding
from utils.evaluation import hit_at_k
from utils.exercise_cli import exercise_command
from utils.known_items import leaks
from utils.library_corpus import read_library
from utils.questions import OWN, Question
from utils.search import HybridIndex

PACKAGE, TOP_K = "click", 5
# Your turn (1): at least ten, none in the words of its document. This one is its document's first line.
QUESTIONS = {"Aborts the execution of the program with a specified error message.": "click.Context.fail"}


@exercise_command("5.4a")
def main() -> None:
    texts = {document.qualified_name: document.text for document in read_library([PACKAGE]).documents}
    names, asked = list(texts), list(QUESTIONS)
    found = HybridIndex(list(texts.values()), open_embedding("lexical")).rank(asked, TOP_K)
    rows = []
    for (question, document), ranking in zip(QUESTIONS.items(), found, strict=True):
        own = Question("own", question, document, None, "", OWN)
        rows.append(
            {
                "question": question,
                "document": document,
                "known": document in texts,
                "copied_runs": leaks([texts.get(document, "")], [own]),
                "found": hit_at_k([names[position] for position in ranking], document, TOP_K),
            }
        )
    frame = pd.DataFrame(rows)
    with mlflow.start_run(run_name="own-questions"):
        # Your turn (2): log the questions and their documents as an input of this run, a dataset named own-questions.
        mlflow.log_metrics(
            {
                "questions": len(rows),
                "unknown_documents": int((~frame["known"]).sum()),
                "copied_questions": int((frame["copied_runs"] > 0).sum()),
                "hit_at_5": float(frame["found"].mean()),
            }
        )
    show_table(rows)


if __name__ == "__main__":
    main()
