"""Module 4: Agents."""

from utils.goals.entries import Goal, asked, later, proved, run, trace

SIMPLE = "uv run mlflow-simple-agent"
TOOLS = "uv run mlflow-multi-tool-agent"
RAG = "uv run mlflow-rag-agent"

LEARNING = (
    asked("learning", "4.1", "Can you explain an agent's answer step by step from its trace?",
          "uv run mlflow-learn hint 4.1 2"),
    asked("learning", "4.2", "Do you know from measurements which tools help, and where another would do as well?",
          "uv run mlflow-learn hint 4.2 3"),
    later("learning", "4.3", "An agent remembers a conversation, also after a restart."),
    later("learning", "4.4", "An agent fails in a way that its user and its trace both show."),
    asked("learning", "4.5", "Can you say why a passage is material, and what keeps it from becoming an instruction?",
          "uv run mlflow-learn hint 4.5 3"),
)  # fmt: skip

CRITERIA = (
    proved("criterion", "4.1", "A question to the agent is one trace with its model and tool calls.",
           SIMPLE, trace("answer-question", "span.type = 'TOOL'")),
    proved("criterion", "4.2", "Right tool, right arguments and right answer are scored apart.",
           TOOLS, run("metrics.right_tool >= 0 AND metrics.right_arguments >= 0 AND metrics.right_answer >= 0")),
    proved("criterion", "4.2", "What an answer loses without each tool was measured.",
           TOOLS, run("metrics.`lost/calculator` > -1000")),
    later("criterion", "4.3", "A conversation is one session that goes on after a restart."),
    later("criterion", "4.4", "Time to first token, retries, a fallback and an approval are visible in traces."),
    proved("criterion", "4.5", "A follow-up question is answered with sources, or declined.",
           RAG, run("metrics.answers_with_source > 0 AND metrics.unanswerable_declined > 0")),
    proved("criterion", "4.5", "hit@k of follow-ups is known with and without rewriting.",
           RAG, run("metrics.hit_rewritten >= 0 AND metrics.hit_as_typed >= 0")),
    proved("criterion", "4.5", "A document that gives orders was retrieved and not obeyed.",
           RAG, run("metrics.injections_reached > 0 AND metrics.injection_success_share = 0")),
)  # fmt: skip

CHECKLIST: tuple[Goal, ...] = ()
