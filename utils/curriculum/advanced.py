"""Module 8: Advanced."""

from utils.curriculum.entries import Evidence, Lesson

LESSONS: tuple[Lesson, ...] = (
    Lesson(
        number="8.1",
        title="A coordinator, three specialists, one budget",
        command="mlflow-multi-agent",
        file="genai/agents/multi_agent.py",
        page="traces",
        look="open a multi-agent: each span of type AGENT below the root is a hand-off, with what it was asked",
        docs="https://mlflow.org/docs/latest/genai/tracing/integrations/listing/langgraph/",
        shows=(
            "mlflow.langchain.autolog",
            "mlflow.start_span",
            "mlflow.update_current_trace",
            "mlflow.genai.load_prompt",
            "mlflow.create_external_model",
            "mlflow.set_active_model",
            "mlflow.get_trace",
            "mlflow.log_feedback",
        ),
        evidence=(
            Evidence("run", "every agent scored by itself", filter="metrics.tasks_right >= 0"),
            Evidence("run", "loops that the budget ended", filter="metrics.budgets_that_ended_it >= 1"),
            Evidence("trace", "a hand-off to the specialist that reads", filter="span.name = 'rag'"),
            Evidence("trace", "a hand-off to the one that calculates", filter="span.name = 'calculator'"),
            Evidence("trace", "a request that ended at its budget", filter="span.name = 'budget'"),
            Evidence("prompt", "the prompt of the coordinator", name="multi-agent-coordinator"),
        ),
        hints=(
            "The answer is wrong. Was the wrong specialist called, was it asked the wrong thing, or did it err?",
            "A specialist sees the request and nothing else. What does the coordinator have to put into it?",
            "Two agents hand a task back and forth. What tells the graph to stop, and what does the user get to read?",
            "The budget of tokens is looked at before each step. By how much can a request go over it?",
            "Look at genai/agents/multi_agent.py::build_graph and utils/agent_budget.py::Budget.",
        ),
    ),
    Lesson(
        number="8.8",
        title="One agent in three frameworks",
        command="mlflow-agent-frameworks",
        file="genai/agents/agent_frameworks.py",
        page="traces",
        look="tick the same question of two frameworks and press Compare: which spans has only one of them?",
        docs="https://mlflow.org/docs/latest/genai/tracing/integrations/",
        extra="frameworks",
        shows=(
            "mlflow.langchain.autolog",
            "mlflow.pydantic_ai.autolog",
            "mlflow.smolagents.autolog",
            "mlflow.openai.autolog",
            "mlflow.update_current_trace",
            "mlflow.search_traces",
            "mlflow.log_table",
        ),
        evidence=(
            Evidence("run", "the frameworks in one table", filter="params.frameworks LIKE '%pydantic-ai%'"),
            Evidence("trace", "tasks through LangChain", filter="tags.framework = 'langchain'"),
            Evidence("trace", "tasks through PydanticAI", filter="tags.framework = 'pydantic-ai'"),
            Evidence("trace", "tasks through smolagents", filter="tags.framework = 'smolagents'"),
            Evidence("prompt", "the prompt of all three", name="frameworks-agent"),
        ),
        hints=(
            "The model, the tools and the prompt are the same. Where can different numbers of prompt tokens come from?",
            "One framework shows no model call unless a second autolog is on. Whose call is it that nobody sees?",
            "All three were right equally often. On what would you decide, and is it in the table?",
            "Look at genai/agents/agent_frameworks.py::FRAMEWORKS and ::check_traces.",
        ),
    ),
)
