"""Module 4: Agents."""

from utils.goals.entries import Goal, asked, later, proved, run, trace

SIMPLE = "uv run mlflow-simple-agent"
TALK = "uv run mlflow-conversational-agent"

LEARNING = (
    asked("learning", "4.1", "Can you explain an agent's answer step by step from its trace?",
          "uv run mlflow-learn hint 4.1 2"),
    later("learning", "4.2", "Which tools help is known from measurements, not from the list of tools."),
    asked("learning", "4.3", "Can you say what of a conversation must be on disk, and what only in its traces?",
          "uv run mlflow-learn hint 4.3 2"),
    later("learning", "4.4", "An agent fails in a way that its user and its trace both show."),
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
    later("criterion", "4.4", "Time to first token, retries, a fallback and an approval are visible in traces."),
    later("criterion", "4.5", "A follow-up question is answered with sources, or declined."),
)  # fmt: skip

CHECKLIST: tuple[Goal, ...] = ()
