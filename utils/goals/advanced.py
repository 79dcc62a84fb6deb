"""Module 8: Advanced."""

from utils.goals.entries import Goal, asked, later, proved, run, trace

TEAM = "uv run mlflow-multi-agent"
FRAMEWORKS = "uv run mlflow-agent-frameworks"

LEARNING = (
    asked("learning", "8.1", "Can you say which agent made an answer wrong, and what ends a loop between two of them?",
          "uv run mlflow-learn hint 8.1"),
    later("learning", "8.4", "An optimiser's prompt is used only when it wins on rows it has not seen."),
    later("learning", "8.6", "Cost is saved at a quality that was chosen beforehand."),
)  # fmt: skip

CRITERIA = (
    proved("criterion", "8.1", "Several agents work on one request within one trace.",
           TEAM, trace("multi-agent", "span.name = 'calculator' AND span.type = 'AGENT'")),
    proved("criterion", "8.1", "Loops end at the budget, with an answer that says so.",
           TEAM, trace("multi-agent", "span.type = 'GUARDRAIL'")),
    proved("criterion", "8.1", "Every specialist is scored by itself.",
           TEAM, run("metrics.rag_right >= 0 AND metrics.calculator_right >= 0 AND metrics.search_right >= 0")),
    later("criterion", "8.2", "A job that was killed went on without asking again what was answered."),
    later("criterion", "8.3", "Accuracy is known by the share of rows that the model sees."),
    later("criterion", "8.4", "The gain of an optimised prompt on held-out rows has an interval."),
    later("criterion", "8.5", "The false-hit rate of the cache is known at its threshold."),
    later("criterion", "8.6", "The operating point was chosen on one half of the rows and reported on the other."),
    later("criterion", "8.7", "The best checkpoint of a fine-tune is the registered one."),
    proved("criterion", "8.8", "The same agent ran in three frameworks on the same tasks.",
           FRAMEWORKS, run("params.frameworks LIKE '%pydantic-ai, smolagents%'")),
)  # fmt: skip

CHECKLIST: tuple[Goal, ...] = ()
