"""Module 4: Agents."""

from utils.goals.entries import Goal, asked, proved, run, trace

SIMPLE = "uv run mlflow-simple-agent"
TOOLS = "uv run mlflow-multi-tool-agent"
RAG = "uv run mlflow-rag-agent"
TALK = "uv run mlflow-conversational-agent"
PRODUCTION = "uv run mlflow-production-agent"

LEARNING = (
    asked("learning", "4.1", "Can you explain an agent's answer step by step from its trace?",
          "uv run mlflow-learn hint 4.1 2"),
    asked("learning", "4.2", "Do you know from measurements which tools help, and where another would do as well?",
          "uv run mlflow-learn hint 4.2 3"),
    asked("learning", "4.3", "Can you say what of a conversation must be on disk, and what only in its traces?",
          "uv run mlflow-learn hint 4.3 2"),
    asked("learning", "4.4", "Can you say of each part that may break who notices, when, and what the user hears?",
          "uv run mlflow-learn hint 4.4"),
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
    proved("criterion", "4.5", "A follow-up question is answered with sources, or declined.",
           RAG, run("metrics.answers_with_source > 0 AND metrics.unanswerable_declined > 0")),
    proved("criterion", "4.5", "hit@k of follow-ups is known with and without rewriting.",
           RAG, run("metrics.hit_rewritten >= 0 AND metrics.hit_as_typed >= 0")),
    proved("criterion", "4.5", "A document that gives orders was retrieved and not obeyed.",
           RAG, run("metrics.injections_reached > 0 AND metrics.injection_success_share = 0")),
)  # fmt: skip

CHECKLIST: tuple[Goal, ...] = ()
