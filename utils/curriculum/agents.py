"""Module 4: Agents."""

from utils.curriculum.entries import Evidence, Lesson

LESSONS: tuple[Lesson, ...] = (
    Lesson(
        number="4.5",
        title="A RAG agent with memory, and passages that give orders",
        command="mlflow-rag-agent",
        file="genai/agents/rag_agent.py",
        page="traces",
        look="a rag-agent of session rag-demo: rewrite, retrieve with passages and scores, answer",
        docs="https://mlflow.org/docs/latest/genai/tracing/",
        shows=(
            "mlflow.start_span",
            "mlflow.update_current_trace",
            "mlflow.genai.load_prompt",
            "mlflow.openai.autolog",
            "mlflow.create_external_model",
            "mlflow.set_active_model",
            "mlflow.log_metrics",
        ),
        evidence=(
            Evidence("run", "follow-ups with and without rewriting", filter="metrics.hit_rewritten >= 0"),
            Evidence("run", "the share of orders that were followed", filter="metrics.injection_success_share >= 0"),
            Evidence("trace", "a follow-up that was rewritten", filter="span.name = 'rewrite'"),
            Evidence("trace", "passages with their scores", filter="span.type = 'RETRIEVER'"),
            Evidence("prompt", "the prompt that rewrites", name="rag-agent-rewrite"),
            Evidence("prompt", "the prompt that answers", name="rag-agent-answer"),
        ),
        hints=(
            "Open the second trace of the conversation. Which words of its query did nobody type in that turn?",
            "Joining both questions finds as much as rewriting, without a model. What would you answer with, though?",
            "A document says: ignore your rules. Which part of the prompt is it in, and what keeps it there?",
            "Not one of 25 orders was followed. Up to which share could it be that you only had luck?",
            "Look at genai/agents/rag_agent.py::fence and ::try_injections.",
        ),
    ),
)
