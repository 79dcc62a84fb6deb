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
        number="4.2",
        title="Seven tools, one of them in another process: which tool, arguments and answer",
        command="mlflow-multi-tool-agent",
        file="genai/agents/multi_tool_agent.py",
        page="evaluation-runs",
        look="all-tools, and the rows in which right_tool is false; then compare it with a run without a tool",
        docs="https://mlflow.org/docs/latest/genai/eval-monitor/scorers/custom/",
        shows=(
            "mlflow.genai.evaluate",
            "mlflow.genai.scorer",
            "mlflow.langchain.autolog",
            "mlflow.trace",
            "mlflow.update_current_trace",
            "mlflow.genai.load_prompt",
            "mlflow.set_active_model",
            "mlflow.log_metrics",
        ),
        evidence=(
            Evidence("run", "all tasks with all tools", filter="metrics.`right_tool/mean` >= 0"),
            Evidence("run", "what each tool is worth", filter="metrics.right_answer >= 0"),
            Evidence("trace", "a scored trace for each task", minimum=40, filter="trace.name = 'answer-task'"),
            Evidence("prompt", "the agent's instructions", name="tool-agent"),
        ),
        hints=(
            "An answer is right although the wrong tool was called. Is the agent good, or were you lucky?",
            "A tool is never chosen. Is it useless, or does its description say nothing that a question would say?",
            "Taking a tool away costs no answer. What else could have given it, and what did it cost instead?",
            "Look at genai/agents/multi_tool_agent.py::make_scorers and ::take_away.",
        ),
    ),
)
