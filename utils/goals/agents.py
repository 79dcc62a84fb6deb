"""Module 4: Agents."""

from utils.goals.entries import Goal, asked, later, proved, run

RAG = "uv run mlflow-rag-agent"

LEARNING = (
    later("learning", "4.1", "An agent's answer is explained step by step from its trace."),
    later("learning", "4.2", "Which tools help is known from measurements, not from the list of tools."),
    later("learning", "4.3", "An agent remembers a conversation, also after a restart."),
    later("learning", "4.4", "An agent fails in a way that its user and its trace both show."),
    asked("learning", "4.5", "Can you say why a passage is material, and what keeps it from becoming an instruction?",
          "uv run mlflow-learn hint 4.5 3"),
)  # fmt: skip

CRITERIA = (
    later("criterion", "4.1", "A question to the agent is one trace with its model and tool calls."),
    later("criterion", "4.2", "Right tool, right arguments and right answer are scored apart."),
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
