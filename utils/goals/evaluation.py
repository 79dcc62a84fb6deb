"""Module 6: Evaluation."""

from utils.goals.entries import asked, later, proved, run

JUDGE = "uv run mlflow-custom-judge"
GATE = "uv run mlflow-quality-gate"

LEARNING = (
    later("learning", "6.1", "Evaluation rows are kept so that last month's score can be computed again."),
    later("learning", "6.3", "A difference between three prompts is corrected for having looked three times."),
    asked("learning", "6.4", "Can you say what a judge's kappa has to be compared with before it means something?",
          "uv run mlflow-learn hint 6.4 2"),
    asked("learning", "6.7", "Can you say why a gate has to refuse what it could not measure?",
          "uv run mlflow-learn hint 6.7 2"),
)  # fmt: skip

CRITERIA = (
    later("criterion", "6.1", "A dataset holds expectations, and its earlier version can be loaded by digest."),
    later("criterion", "6.2", "Similarity, correctness, relevance and faithfulness are known by chunk size."),
    later("criterion", "6.3", "Three prompts are compared on the same rows, all pairs."),
    proved("criterion", "6.4", "A judge's agreement with people stands in a run, beside its agreement with itself.",
           JUDGE, run("metrics.`people.kappa` > -1 AND metrics.`turned.share` >= 0")),
    proved("criterion", "6.4", "A metric of your own is known for five versions, each with a run.",
           JUDGE, run("params.prompt_version != '0' AND metrics.`desk_points/mean` >= 0", 5)),
    later("criterion", "6.5", "Quality, cost and latency of several backends are one picture."),
    later("criterion", "6.6", "Whole conversations are scored, real and simulated ones."),
    proved("criterion", "6.7", "The gate passed a version that changed nothing.",
           GATE, run("tags.`gate.verdict` = 'passed'")),
    proved("criterion", "6.7", "The gate refused a version that got worse.",
           GATE, run("tags.`gate.verdict` = 'refused' AND metrics.`gate.right.high` < 0")),
)  # fmt: skip

CHECKLIST = (
    asked("production", "6.7", "Does a gate in your CI stop a change that lowers quality?",
          "uv run mlflow-quality-gate --baseline latest"),
)  # fmt: skip
