"""Module 1: Fundamentals."""

from utils.curriculum import Evidence
from utils.goals.entries import Goal, asked, proved, run

TRACK = "uv run mlflow-tracking-example"
LINEAGE = "uv run mlflow-logged-model-lineage"
MIGRATION = "uv run mlflow-migration-check"

LEARNING = (
    asked("learning", "1.1", "Can you say what belongs to a run, and what to a logged model?",
          "uv run mlflow-learn hint 1.1"),
    asked("learning", "1.1", "Can you find the best model by a metric without opening a page?",
          "uv run mlflow-learn hint 1.1 2"),
    asked("learning", "1.2", "Can you find the model, prompt version, data and commit behind a trace?",
          "uv run mlflow-learn hint 1.2"),
    asked("learning", "1.3", "Can you find the calls of MLflow 2.x in your own files before they fail?",
          "uv run mlflow-migration-check --check ."),
)  # fmt: skip

CRITERIA = (
    proved("criterion", "1.1", "Three regressors are runs, each with its error on held-out data.",
           TRACK, run("metrics.rmse > 0", 3)),
    proved("criterion", "1.1", "Each of them is a logged model to which its error is linked.",
           TRACK, Evidence("model", "with its error", 3, filter="metrics.rmse > 0")),
    proved("criterion", "1.1", "Three datasets are known by name and digest: autolog's, training and test.",
           TRACK, Evidence("dataset", "three datasets", 3)),
    proved("criterion", "1.1", "A forest of another depth stands beside the first one (Change it, 1.1).",
           TRACK, run("params.max_depth != '5'")),
    proved("criterion", "1.2", "Four checkpoints are logged models, each with its accuracy on the same reviews.",
           LINEAGE, Evidence("model", "with its accuracy", 4, filter="metrics.accuracy >= 0")),
    proved("criterion", "1.2", "The best checkpoint was chosen by a search and its score is in the run.",
           LINEAGE, run("metrics.best_accuracy >= 0")),
    proved("criterion", "1.3", "Each 2.x pattern in an example is found, and none after the move.",
           MIGRATION, run("metrics.findings_in_old_file > 0 AND metrics.findings_in_new_file = 0")),
)  # fmt: skip

CHECKLIST = (
    Goal("Is the store a database that is backed up, and is there room for its growth?", 1, "production",
         command="uv run mlflow-learn doctor"),
)  # fmt: skip
