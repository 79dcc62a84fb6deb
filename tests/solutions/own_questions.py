"""Exercise 5.4a solved: write questions of your own about an installed package, and measure the search with them.

Begin with:  genai/exercises/own_questions.py
Run it:      uv run python tests/solutions/own_questions.py
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
QUESTIONS = {
    "How can I let people confirm with yes or no before something is deleted?": "click.confirm",
    "How do I show progress while a loop runs?": "click.progressbar",
    "What lets me ask the user to type a value?": "click.prompt",
    "How do I write coloured text to the terminal?": "click.secho",
    "How do I make a value only one of a few given words?": "click.Choice",
    "What opens somebody's text editor to write a message?": "click.edit",
    "How can long output be read page by page?": "click.echo_via_pager",
    "How do I wipe what is on the screen?": "click.clear",
    "How do I read a single key press?": "click.getchar",
    "Where should my program keep its settings file?": "click.get_app_dir",
    "What hides a password while it is typed?": "click.password_option",
}


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
        dataset = mlflow.data.from_pandas(frame[["question", "document"]], name="own-questions")
        mlflow.log_input(dataset, context="evaluation")
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
