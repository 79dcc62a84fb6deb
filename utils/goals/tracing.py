"""Module 2: Tracing."""

from utils.curriculum import Evidence
from utils.goals.entries import asked, proved, run, trace

SPANS = "uv run mlflow-manual-spans"
FRAMEWORKS = "uv run mlflow-compare-frameworks"
PROCESSES = "uv run mlflow-distributed-tracing"
OTEL = "uv run mlflow-opentelemetry"
OLLAMA = "uv run mlflow-spark-langchain-ollama --llm-type mock"
ANY = "uv run mlflow-spark-langchain-multiple"

LEARNING = (
    asked("learning", "2.1", "Can you say in which process autolog has to be switched on, and why?",
          "uv run mlflow-learn hint 2.1"),
    asked("learning", "2.2", "Can you tell from a trace which call was slow, which failed, and its tokens?",
          "uv run mlflow-learn hint 2.2"),
    asked("learning", "2.2", "Who should write the spans of your own job, the workers or the driver, and why?",
          "uv run mlflow-learn hint 2.2 2"),
    asked("learning", "2.3", "Which steps of your own code deserve a span, and of which type?",
          "uv run mlflow-learn hint 2.3"),
    asked("learning", "2.5", "Can you say when the spans of a second process are lost, and how they are not?",
          "uv run mlflow-learn hint 2.5 2"),
)  # fmt: skip

CRITERIA = (
    proved("criterion", "2.1", "One trace holds the whole job, with chat model spans from the workers.",
           OLLAMA, trace("spark-sentiment", "span.type = 'CHAT_MODEL'")),
    asked("criterion", "2.1", "Is llm_spans the same number as llm_calls in your run of 2.1?", OLLAMA),
    proved("criterion", "2.1", "Accuracy and macro-F1 of the job stand in its run.",
           OLLAMA, run("metrics.accuracy >= 0 AND metrics.macro_f1 >= 0")),
    proved("criterion", "2.1", "The run is linked to the version of the prompt that it used.",
           OLLAMA, run("tags.`mlflow.linkedPrompts` LIKE '%sentiment%'")),
    proved("criterion", "2.1", "Each review has a span of the lesson's own (Change it, 2.1).",
           f"{OLLAMA} --spans", trace("spark-sentiment", "span.name = 'review'")),
    proved("criterion", "2.2", "The same job ran with spans that the driver wrote.",
           ANY, run("params.span_source = 'driver'")),
    proved("criterion", "2.2", "The same job ran with spans of autolog, and with the OpenAI SDK.",
           f"{ANY} --span-source autolog --client openai",
           run("params.span_source = 'autolog' AND params.client = 'openai'")),
    proved("criterion", "2.2", "Calls that failed are spans with status ERROR (Change it, 2.2).",
           f'{ANY} --mock-faults "429:0.3"', trace("spark-sentiment-any", "span.status = 'ERROR'")),
    proved("criterion", "2.3", "One trace has a step of each kind, found again by its type.",
           SPANS, trace("answer-question", "span.type = 'RERANKER'")),
    proved("criterion", "2.3", "A tool's exception is on its span, and the trace is OK all the same.",
           SPANS, trace("answer-question", "span.status = 'ERROR' AND trace.status = 'OK'")),
    proved("criterion", "2.4", "The span trees of four frameworks stand side by side, each with one root.",
           FRAMEWORKS, run("params.frameworks LIKE '%openai, langchain, langgraph, llamaindex%'")),
    proved("criterion", "2.5", "A trace holds the halves of both processes, and nothing is lost.",
           PROCESSES, run("metrics.complete_traces >= 1 AND status = 'FINISHED'")),
    proved("criterion", "2.6", "The same spans are in MLflow and in an OpenTelemetry collector.",
           OTEL, run("metrics.collected_spans >= 2")),
)  # fmt: skip

CHECKLIST = (
    proved("production", "2.1", "The prompt of the job is a version in the registry, not a text in the code.",
           OLLAMA, Evidence("prompt", "the prompt of the job", name="sentiment")),
    proved("production", "2.1", "Calls in other processes are in the trace, too.",
           OLLAMA, trace("spark-sentiment", "span.type = 'CHAT_MODEL'")),
    proved("production", "2.2", "Calls that fail are visible in the trace.",
           f'{ANY} --mock-faults "429:0.3"', trace("spark-sentiment-any", "span.status = 'ERROR'")),
    proved("production", "2.2", "A large job traces a sample, and its run says which share.",
           f"{ANY} --num-samples 1000 --trace sample",
           run("params.trace_share != '1.0' AND params.trace_share != '0.0'")),
)  # fmt: skip
