"""Module 7: Production."""

from utils.curriculum.entries import Evidence, Lesson

LESSONS: tuple[Lesson, ...] = (
    Lesson(
        number="7.1",
        title="Prompt, documents, search and model settings as one registered version",
        command="mlflow-register-agent",
        file="genai/deployment/register_agent.py",
        page="models",
        look="open docs-agent: its parameters, its artifacts, and the registered version that it became",
        docs="https://mlflow.org/docs/latest/ml/model/models-from-code/",
        shows=(
            "mlflow.pyfunc.log_model",
            "mlflow.register_model",
            "mlflow.pyfunc.load_model",
            "mlflow.set_logged_model_tags",
            "mlflow.get_trace",
            "mlflow.log_metrics",
        ),
        evidence=(
            Evidence("model", "the agent's versions, logged from code", minimum=2, filter="name = 'docs-agent'"),
            Evidence("run", "versions that a fresh process loaded", filter="metrics.loaded_in_fresh_process >= 2"),
            Evidence("trace", "answers from the fresh process", minimum=2, filter="trace.name = 'predict'"),
            Evidence("prompt", "the prompt that the versions name", name="docs-agent-answer"),
        ),
        hints=(
            "The prompt is fixed by its number, not by an alias. What would an alias change after the tests?",
            "Your agent works here. What does it take from this process or machine without saying so?",
            "Two versions give different answers. Which of their tags tells you why, without loading them?",
            "Look at genai/deployment/register_agent.py::log_agent and genai/deployment/docs_agent.py::DocsAgent.",
        ),
    ),
    Lesson(
        number="7.2",
        title="Into production by an alias that moves only after the tests, and back in one step",
        command="mlflow-promote-agent",
        file="genai/deployment/promote_agent.py",
        page="evaluation-runs",
        look="select gate-version-1 and gate-version-2 and press Compare: which rows changed sides?",
        docs="https://mlflow.org/docs/latest/ml/model-registry/workflow/",
        requires=("7.1",),
        uses_llm=False,
        shows=(
            "mlflow.genai.evaluate",
            "mlflow.genai.scorer",
            "mlflow.pyfunc.load_model",
            "mlflow.search_model_versions",
            "mlflow.log_metrics",
        ),
        evidence=(
            Evidence(
                "run", "versions that went through the gate", filter="metrics.promoted >= 0 AND metrics.refused >= 0"
            ),
            Evidence("run", "a gate with its scores", filter="metrics.`right/mean` >= 0"),
            Evidence("trace", "a scored trace for each row", minimum=20, filter="trace.name = 'gate-question'"),
        ),
        hints=(
            "An alias can be moved by anybody who can write to the registry. Who makes sure that the tests ran first?",
            "A candidate has more rows right, but three that were right are wrong now. Would you let it pass?",
            "Nobody remembers why version 7 was taken back. Where would you look, if not in a chat?",
            "Look at genai/deployment/promote_agent.py::propose and utils/promotion.py::Gate.",
        ),
    ),
    Lesson(
        number="7.3",
        title="The version in production behind HTTP: keys, limits, streaming, figures, a clean stop",
        command="mlflow-serve-agent",
        file="genai/deployment/serve_agent.py",
        page="traces",
        look="the traces answer and answer_stream: their user is the key, the tag agent_version says who answered",
        docs="https://mlflow.org/docs/latest/genai/serving/agent-server/",
        requires=("7.1", "7.2"),
        uses_llm=False,
        shows=(
            "AgentServer",
            "invoke",
            "stream",
            "mlflow.tracing.context",
            "mlflow.update_current_trace",
            "mlflow.log_feedback",
            "mlflow.flush_trace_async_logging",
            "mlflow.search_traces",
            "mlflow.log_metrics",
        ),
        evidence=(
            Evidence("run", "what an answer costs", filter="metrics.p95_ms > 0 AND metrics.requests_per_second > 0"),
            Evidence("run", "what the service had done when it stopped", filter="metrics.asked > 0"),
            Evidence("trace", "answers with their version", minimum=10, filter="tags.agent_version LIKE '%'"),
            Evidence("trace", "what a caller said of an answer", filter="feedback.thumbs_up = 'true'"),
        ),
        hints=(
            "One slow request, and all others wait. Which line of the service holds up whom?",
            "The process gets a signal to stop. What is still in it that nobody has seen or stored yet?",
            "A caller gets 500 when the model's server is down. Whose fault does that say it is, and what would he do?",
            "Requests come faster than the store takes traces. What is lost if nobody decides which ones?",
            "Look at genai/deployment/serve_agent.py::build_app and utils/serving/outcomes.py::Outcomes.",
        ),
    ),
)
