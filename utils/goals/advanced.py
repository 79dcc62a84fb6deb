"""Module 8: Advanced."""

from utils.curriculum import Evidence
from utils.goals.entries import Goal, asked, proved, run, trace

TEAM = "uv run mlflow-multi-agent"
BATCH = "uv run mlflow-spark-batch-inference"
OPTIMIZE = "uv run mlflow-optimize-prompt"
CACHE = "uv run mlflow-semantic-cache"
FRAMEWORKS = "uv run mlflow-agent-frameworks"
HYBRID = "uv run mlflow-hybrid-classifier"
ROUTES = "uv run mlflow-route-models"
FINETUNE = "uv run mlflow-finetune-tracking"

LEARNING = (
    asked("learning", "8.1", "Can you say which agent made an answer wrong, and what ends a loop between two of them?",
          "uv run mlflow-learn hint 8.1"),
    asked("learning", "8.2", "Can you say what a killed job has paid for, and how many calls its resume will make?",
          "uv run mlflow-learn hint 8.2"),
    proved("learning", "8.4", "An optimiser's prompt is used only when it wins on rows it has not seen.",
           OPTIMIZE, run("metrics.registered >= 0 AND metrics.held_out_in_use >= 0")),
    proved("learning", "8.6", "Cost is saved at a quality that was chosen beforehand.",
           ROUTES, run("metrics.confidence_saved <= 1 AND params.keep != ''")),
)  # fmt: skip

CRITERIA = (
    proved("criterion", "8.1", "Several agents work on one request within one trace.",
           TEAM, trace("multi-agent", "span.name = 'calculator' AND span.type = 'AGENT'")),
    proved("criterion", "8.1", "Loops end at the budget, with an answer that says so.",
           TEAM, trace("multi-agent", "span.type = 'GUARDRAIL'")),
    proved("criterion", "8.1", "Every specialist is scored by itself.",
           TEAM, run("metrics.rag_right >= 0 AND metrics.calculator_right >= 0 AND metrics.search_right >= 0")),
    proved("criterion", "8.2", "Each distinct text of a job was asked once, and several rows in a call are measured.",
           BATCH, run("metrics.llm_calls > 0 AND metrics.accuracy_low > 0 AND params.rows_per_call = '5'")),
    asked("criterion", "8.2", "Did you kill a job of 8.2 and resume it, and was nothing asked again?",
          "uv run mlflow-spark-batch-inference --num-rows 5000 --rows-per-call 1 --output my_job"),
    proved("criterion", "8.3", "Accuracy is known by the share of rows that the model sees.",
           HYBRID, run("metrics.share_to_llm >= 0 AND metrics.accuracy_low >= 0 AND params.threshold != ''")),
    asked("criterion", "8.3", "Did you run 8.3 on rows of your own, and on which rows was its threshold chosen?",
          "uv run mlflow-hybrid-classifier --input my_reviews.csv --text-column comment --label-column verdict "
          "--held-out 20"),
    proved("criterion", "8.4", "The gain of an optimised prompt on held-out rows has an interval.",
           OPTIMIZE, run("metrics.gain_low > -2 AND metrics.gain_high > -2 AND metrics.candidates >= 2")),
    proved("criterion", "8.5", "The false-hit rate of the cache is known at its threshold.",
           CACHE, run("metrics.false_hit_rate >= 0 AND metrics.false_hit_rate_high > 0 AND metrics.threshold >= 0")),
    proved("criterion", "8.6", "The operating point was chosen on one half of the rows and reported on the other.",
           ROUTES, run("metrics.confidence_quality >= 0 AND params.threshold_confidence != ''")),
    proved("criterion", "8.7", "The best checkpoint of a fine-tune is the registered one.",
           FINETUNE, Evidence("model", "the registered one", filter="metrics.report_accuracy >= 0")),
    asked("criterion", "8.7", "Did you kill a training and resume it, and are its curves those of an unbroken one?",
          "uv run mlflow-finetune-tracking --max-epochs 60 --patience 60"),
    proved("criterion", "8.8", "The same agent ran in three frameworks on the same tasks.",
           FRAMEWORKS, run("params.frameworks LIKE '%pydantic-ai, smolagents%'")),
)  # fmt: skip

CHECKLIST: tuple[Goal, ...] = ()
