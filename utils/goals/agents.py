"""Module 4: Agents."""

from utils.goals.entries import Goal, asked, later, proved, trace

SIMPLE = "uv run mlflow-simple-agent"

LEARNING = (
    asked("learning", "4.1", "Can you explain an agent's answer step by step from its trace?",
          "uv run mlflow-learn hint 4.1 2"),
    later("learning", "4.2", "Which tools help is known from measurements, not from the list of tools."),
    later("learning", "4.3", "An agent remembers a conversation, also after a restart."),
    later("learning", "4.4", "An agent fails in a way that its user and its trace both show."),
)  # fmt: skip

CRITERIA = (
    proved("criterion", "4.1", "A question to the agent is one trace with its model and tool calls.",
           SIMPLE, trace("answer-question", "span.type = 'TOOL'")),
    later("criterion", "4.2", "Right tool, right arguments and right answer are scored apart."),
    later("criterion", "4.3", "A conversation is one session that goes on after a restart."),
    later("criterion", "4.4", "Time to first token, retries, a fallback and an approval are visible in traces."),
    later("criterion", "4.5", "A follow-up question is answered with sources, or declined."),
)  # fmt: skip

CHECKLIST: tuple[Goal, ...] = ()
