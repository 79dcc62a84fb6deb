"""Module 4: Agents."""

from utils.goals.entries import Goal, asked, later, proved, run, trace

SIMPLE = "uv run mlflow-simple-agent"
TALK = "uv run mlflow-conversational-agent"
PRODUCTION = "uv run mlflow-production-agent"

LEARNING = (
    asked("learning", "4.1", "Can you explain an agent's answer step by step from its trace?",
          "uv run mlflow-learn hint 4.1 2"),
    later("learning", "4.2", "Which tools help is known from measurements, not from the list of tools."),
    asked("learning", "4.3", "Can you say what of a conversation must be on disk, and what only in its traces?",
          "uv run mlflow-learn hint 4.3 2"),
    asked("learning", "4.4", "Can you say of each part that may break who notices, when, and what the user hears?",
          "uv run mlflow-learn hint 4.4"),
)  # fmt: skip

CRITERIA = (
    proved("criterion", "4.1", "A question to the agent is one trace with its model and tool calls.",
           SIMPLE, trace("answer-question", "span.type = 'TOOL'")),
    later("criterion", "4.2", "Right tool, right arguments and right answer are scored apart."),
    proved("criterion", "4.3", "A conversation is a session: each turn is one trace that carries its name.",
           TALK, trace("turn", "metadata.`mlflow.trace.session` != ''", minimum=2)),
    proved("criterion", "4.3", "What the agent remembered after each turn stands in a run of the session.",
           TALK, run("metrics.messages >= 4 AND params.session != ''")),
    proved("criterion", "4.3", "Whole conversations have a score for retention, completeness and frustration.",
           TALK, trace("turn", "feedback.knowledge_retention LIKE '%'")),
    proved("criterion", "4.4", "The time to the first token stands in a run, beside the time to the last.",
           PRODUCTION, run("metrics.first_token_ms > 0 AND metrics.total_ms > 0")),
    proved("criterion", "4.4", "A call that failed and the answer that came all the same are one trace.",
           PRODUCTION, trace("predict_stream", "span.status = 'ERROR' AND tags.outcome = 'answered'")),
    proved("criterion", "4.4", "A side effect waited for a person.",
           PRODUCTION, trace("predict_stream", "tags.outcome = 'waiting'")),
    proved("criterion", "4.4", "What a person said of an answer is on the trace of the answer.",
           PRODUCTION, trace("predict_stream", "feedback.thumbs_up = 'true'")),
    later("criterion", "4.5", "A follow-up question is answered with sources, or declined."),
)  # fmt: skip

CHECKLIST: tuple[Goal, ...] = ()
