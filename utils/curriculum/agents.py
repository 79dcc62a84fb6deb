"""Module 4: Agents."""

from utils.curriculum.entries import Evidence, Lesson

LESSONS: tuple[Lesson, ...] = (
    Lesson(
        number="4.1",
        title="An agent that answers from documents, step by step in its trace",
        command="mlflow-simple-agent",
        file="genai/agents/simple_agent.py",
        page="traces",
        look="open the newest answer-question: who asked for which tool, and what came back",
        docs="https://mlflow.org/docs/latest/genai/tracing/integrations/listing/langgraph/",
        shows=(
            "mlflow.langchain.autolog",
            "mlflow.trace",
            "mlflow.update_current_trace",
            "mlflow.genai.load_prompt",
            "mlflow.create_external_model",
            "mlflow.set_active_model",
            "mlflow.log_metrics",
        ),
        evidence=(
            Evidence("run", "what the requests took", filter="metrics.model_calls > 0 AND metrics.tool_calls > 0"),
            Evidence("trace", "requests to the agent", minimum=2, filter="trace.name = 'answer-question'"),
            Evidence("model", "the version that its traces name"),
            Evidence("prompt", "the agent's instructions", name="document-agent"),
        ),
        hints=(
            "The model cannot read a file. What does it know about your tools, and from where?",
            "The answer is wrong. Which span would show whether the search, the reading or the sum went wrong?",
            "Two model calls for one answer: what does the second one get that the first did not have?",
            "Look at genai/agents/simple_agent.py::build_agent and ::explain.",
        ),
    ),
    Lesson(
        number="4.3",
        title="A conversation that is remembered over turns and restarts",
        command="mlflow-conversational-agent",
        file="genai/agents/conversational_agent.py",
        page="chat-sessions",
        look="open a session: its turns as a conversation, and its three scores",
        docs="https://mlflow.org/docs/latest/genai/tracing/track-users-sessions/",
        shows=(
            "mlflow.langchain.autolog",
            "mlflow.start_span",
            "mlflow.update_current_trace",
            "mlflow.genai.load_prompt",
            "mlflow.set_active_model",
            "mlflow.search_traces",
            "mlflow.genai.evaluate",
            "mlflow.flush_trace_async_logging",
        ),
        evidence=(
            Evidence("trace", "two turns, each one trace", minimum=2, filter="trace.name = 'turn'"),
            Evidence("run", "a session with what it remembered", filter="metrics.messages >= 2"),
            Evidence("model", "the version of the agent", filter="name = 'conversational-agent'"),
            Evidence("prompt", "the prompt that every turn loads", name="conversation-agent"),
        ),
        hints=(
            "The process ends and its variables are gone. What has to be on disk so that the next one can go on?",
            "Traces know what was said, too. Why does the agent not remember by reading its traces?",
            "A process was killed between a tool's call and its result. What must the next turn not send to the model?",
            "Look at genai/agents/conversational_agent.py::take_turn and utils/conversation_memory.py::resume.",
        ),
    ),
)
