"""The manifest: every lesson there is, in one place.

pyproject's scripts, README.md, LEARNING_PLAN.md, the tests and `mlflow-learn` agree with it, and a test says so.
Importing it costs nothing: no MLflow, no click.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Module:
    """One of the eight modules; its lessons share an experiment."""

    number: int
    title: str
    experiment: str
    goal: str
    track: str  # one of TRACKS; a track builds on those before it


@dataclass(frozen=True)
class Evidence:
    """Something MLflow holds once a lesson was done.

    kind: `run`, `trace`, `model`, `prompt` or `dataset`; `what` says it in words; at least `minimum` of them must
    exist. Runs, traces and models are found by the tag `lesson`, narrowed by `filter` (MLflow's search syntax);
    a prompt by `name`; a dataset is an input of one of the lesson's runs.
    """

    kind: str
    what: str
    minimum: int = 1
    filter: str = ""
    name: str = ""


@dataclass(frozen=True)
class Lesson:
    """One command.

    shows: MLflow calls that must stand in the lesson's own source. page: where the experiment shows its results in
    mlflow ui, and look: what to look for there. tour_args: flags for the tour, besides store and model.
    """

    number: str
    title: str
    command: str
    file: str
    page: str
    look: str
    shows: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    hints: tuple[str, ...]
    requires: tuple[str, ...] = ()
    extra: str | None = None
    tour_args: tuple[str, ...] = ()
    uses_llm: bool = True
    docs: str = "https://mlflow.org/docs/latest/genai/"

    @property
    def module(self) -> Module:
        return MODULES[int(self.number.split(".")[0]) - 1]

    @property
    def experiment(self) -> str:
        return self.module.experiment


TRACKS = ("beginner", "intermediate", "advanced")

MODULES = (
    Module(1, "Fundamentals", "1-fundamentals", "Track runs and models, and know what MLflow 3 changed.", "beginner"),
    Module(2, "Tracing", "2-tracing", "See every LLM call, also those inside Spark workers.", "beginner"),
    Module(3, "Prompts", "3-prompts", "Version prompts, compare them, and roll them back.", "beginner"),
    Module(4, "Agents", "4-agents", "Build agents whose every step can be inspected.", "intermediate"),
    Module(5, "RAG", "5-rag", "Answer from documents, and measure retrieval and answers apart.", "intermediate"),
    Module(6, "Evaluation", "6-evaluation", "Score quality so that a difference can be believed.", "intermediate"),
    Module(7, "Production", "7-production", "Serve, watch and improve an agent that people use.", "advanced"),
    Module(8, "Advanced", "8-advanced", "Scale, optimise and combine what came before.", "advanced"),
)

LESSONS: tuple[Lesson, ...] = (
    Lesson(
        number="1.1",
        title="Track an experiment, log a model, find the best one",
        command="mlflow-tracking-example",
        file="tracking/simple_tracking_basic.py",
        page="runs",
        look="select the three runs and press Compare; Agent versions lists their models",
        docs="https://mlflow.org/docs/latest/ml/tracking/",
        uses_llm=False,
        shows=(
            "mlflow.sklearn.autolog",
            "mlflow.start_run",
            "mlflow.log_params",
            "mlflow.log_metrics",
            "mlflow.data.from_pandas",
            "mlflow.log_input",
            "mlflow.sklearn.log_model",
            "mlflow.log_figure",
            "mlflow.search_logged_models",
        ),
        evidence=(
            Evidence("run", "three regressors, one run each", minimum=3),
            Evidence("model", "a logged model for each of them", minimum=3),
            Evidence("dataset", "the training data, with its digest"),
        ),
        hints=(
            "A run holds what happened, a logged model what came out of it. Which has the metric you compare?",
            "What would `search_logged_models` have to order by to put the best model first?",
            "Where does MLflow say which data a model was trained on?",
            "Look at tracking/simple_tracking_basic.py::train_one and ::best_model.",
        ),
    ),
    Lesson(
        number="1.2",
        title="One agent, seen by its runs and by its models",
        command="mlflow-logged-model-lineage",
        file="tracking/logged_model_lineage.py",
        page="models",
        look="open the best labeller: its params, its accuracy with the dataset, its traces and its prompt",
        docs="https://mlflow.org/docs/latest/genai/version-tracking/",
        shows=(
            "mlflow.create_external_model",
            "mlflow.set_active_model",
            "mlflow.log_outputs",
            "mlflow.log_input",
            "mlflow.log_metrics",
            "mlflow.genai.load_prompt",
            "mlflow.search_logged_models",
            "mlflow.get_logged_model",
            "mlflow.search_traces",
        ),
        evidence=(
            Evidence("run", "one run for each variant of the agent", minimum=2),
            Evidence("model", "four checkpoints with their accuracy", minimum=4),
            Evidence("trace", "the calls of each checkpoint", filter="trace.name = 'label-review'"),
            Evidence("dataset", "the reviews that they were measured on"),
        ),
        hints=(
            "A score without its data, its prompt and its code cannot be repeated. Which of the three does a run name?",
            "What has to be active while a trace is made, so that the trace knows its model?",
            "Which argument of log_metrics links a number to the data, and which to the model?",
            "Look at tracking/logged_model_lineage.py::score and ::lineage.",
        ),
    ),
    Lesson(
        number="1.3",
        title="MLflow 2.x and 3.x side by side",
        command="mlflow-migration-check",
        file="tracking/migration_from_2x.py",
        page="runs",
        look="the run migration-check: its artifact calls.json says what each old call does today",
        docs="https://mlflow.org/docs/latest/genai/mlflow-3/",
        uses_llm=False,
        shows=(
            "mlflow.genai.register_prompt",
            "mlflow.genai.load_prompt",
            "mlflow.set_active_model",
            "mlflow.search_traces",
            "mlflow.genai.evaluate",
            "mlflow.sklearn.log_model",
        ),
        evidence=(
            Evidence("run", "old and new calls, tried", filter="metrics.old_calls_that_fail >= 0"),
            Evidence("prompt", "the prompt that both ways register", name="migration-check"),
        ),
        hints=(
            "Which is worse for a team: a call that warns, or one that fails? Which of yours do either?",
            "Stages were one per version, aliases are as many as you like. What does that make possible?",
            "How would you find a keyword that MLflow renamed, without running the file?",
            "Look at tracking/migration_from_2x.py::pairs and utils/migration.py::check_source.",
        ),
    ),
    Lesson(
        number="2.1",
        title="Trace LangChain + Ollama inside Spark workers",
        command="mlflow-spark-langchain-ollama",
        file="spark/spark_langchain_ollama.py",
        page="traces",
        look="open the newest trace: one root, and below it a chat model span for every call",
        docs="https://mlflow.org/docs/latest/genai/tracing/",
        shows=(
            "mlflow.langchain.autolog",
            "mlflow.start_span",
            "mlflow.genai.load_prompt",
            "set_tracing_context_from_http_request_headers",
            "mlflow.flush_trace_async_logging",
            "mlflow.log_metrics",
        ),
        evidence=(
            Evidence("run", "a job with accuracy and macro-F1", filter="metrics.accuracy >= 0"),
            Evidence("trace", "one trace that holds the whole job", filter="trace.name = 'spark-sentiment'"),
            Evidence("prompt", "the registered sentiment prompt", name="sentiment"),
        ),
        hints=(
            "Autolog patches the process that calls it. In which processes do the LLM calls happen?",
            "What travels to a worker so that its spans find the right parent?",
            "Why must the flush happen inside the block that set the trace context?",
            "Look at spark/spark_langchain_ollama.py::open_classifier.",
        ),
    ),
    Lesson(
        number="2.2",
        title="The same Spark job on any backend",
        command="mlflow-spark-langchain-multiple",
        file="spark/spark_langchain_multiple_mode.py",
        page="traces",
        look="open the newest trace: the same tree, but the driver wrote it",
        docs="https://mlflow.org/docs/latest/genai/tracing/app-instrumentation/manual-tracing/",
        shows=(
            "mlflow.start_span_no_context",
            "mlflow.langchain.autolog",
            "mlflow.openai.autolog",
            "mlflow.genai.load_prompt",
            "mlflow.log_metrics",
        ),
        evidence=(
            Evidence("run", "a job with accuracy and macro-F1", filter="metrics.accuracy >= 0"),
            Evidence("trace", "one trace that holds the whole job", filter="trace.name = 'spark-sentiment-any'"),
        ),
        hints=(
            "The worker returns when each call began and ended. Who can write the spans then?",
            "Which is cheaper for a worker: importing MLflow, or returning four more columns?",
            "With --span-source autolog, where is autolog switched on, and for which framework?",
            "Look at spark/spark_langchain_multiple_mode.py::write_spans.",
        ),
    ),
    Lesson(
        number="2.3",
        title="Spans of your own, every type once",
        command="mlflow-manual-spans",
        file="genai/tracing/manual_spans.py",
        page="traces",
        look="open answer-question: fourteen types of span, the red one is the tool that failed",
        docs="https://mlflow.org/docs/latest/genai/tracing/app-instrumentation/manual-tracing/",
        shows=(
            "mlflow.trace",
            "mlflow.start_span",
            "mlflow.start_span_no_context",
            "mlflow.update_current_trace",
            "mlflow.get_current_active_span",
            "mlflow.genai.load_prompt",
            "mlflow.search_traces",
            "mlflow.flush_trace_async_logging",
        ),
        evidence=(
            Evidence("run", "the counts of traces and spans", filter="metrics.spans > 0"),
            Evidence("trace", "one question with all its steps", filter="trace.name = 'answer-question'"),
            Evidence("trace", "a stream as one span", filter="trace.name = 'stream-answer'"),
            Evidence("trace", "coroutines below one root", filter="trace.name = 'look-up-all'"),
            Evidence("prompt", "the prompt that the trace is linked to", name="manual-spans-answer"),
        ),
        hints=(
            "Which step of your program would you ask about first when an answer is wrong?",
            "A function, a part of a function, and work that is already over: which of the three ways fits which?",
            "Why is the trace OK although a span in it is an ERROR?",
            "Look at genai/tracing/manual_spans.py::research and ::deliver.",
        ),
    ),
    Lesson(
        number="2.4",
        title="One question through several frameworks",
        command="mlflow-compare-frameworks",
        file="genai/tracing/compare_frameworks.py",
        page="traces",
        look="tick the traces of two frameworks and press Compare; the column Tokens agrees",
        docs="https://mlflow.org/docs/latest/genai/tracing/integrations/",
        shows=(
            "mlflow.openai.autolog",
            "mlflow.langchain.autolog",
            "mlflow.llama_index.autolog",
            "mlflow.tracing.context",
            "mlflow.search_traces",
            "mlflow.genai.load_prompt",
            "mlflow.log_table",
        ),
        evidence=(
            Evidence("run", "the frameworks side by side", filter="params.frameworks != ''"),
            Evidence("trace", "traces of one framework", filter="tags.framework = 'openai'"),
            Evidence("trace", "traces of another", filter="tags.framework = 'llamaindex'"),
            Evidence("prompt", "the prompt that all of them used", name="framework-question"),
        ),
        hints=(
            "Each framework has an autolog. Which of them see a call that LangChain makes through OpenAI's SDK?",
            "The tokens of a trace are a sum. Over which spans, and what if a call stands there twice?",
            "One framework has many more spans for the same answer. What do you learn from them that you would miss?",
            "Look at genai/tracing/compare_frameworks.py::FRAMEWORKS and ::read_back.",
        ),
    ),
    Lesson(
        number="2.5",
        title="One trace across two processes",
        command="mlflow-distributed-tracing",
        file="genai/tracing/distributed_tracing.py",
        page="traces",
        look="open a trace ask: answer and all below it were written by the second process",
        docs="https://mlflow.org/docs/latest/genai/tracing/app-instrumentation/distributed-tracing/",
        shows=(
            "get_tracing_context_headers_for_http_request",
            "set_tracing_context_from_http_request_headers",
            "mlflow.flush_trace_async_logging",
            "mlflow.update_current_trace",
            "mlflow.openai.autolog",
            "mlflow.search_traces",
        ),
        evidence=(
            Evidence("run", "every request a complete trace", filter="metrics.complete_traces >= 1"),
            Evidence("trace", "traces that two processes wrote", minimum=3, filter="span.name = 'answer'"),
        ),
        hints=(
            "Two processes write spans. How does the second one know which trace is meant?",
            "A queue stores spans a moment later. What does the second process still know of the trace by then?",
            "What does a flush cost for each request, and what does storing each span at its end cost instead?",
            "Look at genai/tracing/distributed_tracing.py::answer_service and ::EXPORTS.",
        ),
    ),
    Lesson(
        number="2.6",
        title="OpenTelemetry into MLflow, and MLflow into a collector",
        command="mlflow-opentelemetry",
        file="genai/tracing/opentelemetry_export.py",
        page="traces",
        look="plain-app was written without MLflow, dual-app by MLflow; both show tokens",
        docs="https://mlflow.org/docs/latest/genai/tracing/opentelemetry/",
        shows=(
            "OTLPSpanExporter",
            "mlflow.tracing.reset",
            "mlflow.start_span",
            "mlflow.get_trace",
            "mlflow.set_trace_tag",
        ),
        evidence=(
            Evidence("run", "the same spans at both ends", filter="metrics.collected_spans >= 2"),
            Evidence("trace", "traces that came by OpenTelemetry", filter="trace.name = 'plain-app'"),
            Evidence("trace", "traces that MLflow exported twice", filter="trace.name = 'dual-app'"),
        ),
        hints=(
            "A program that has never heard of MLflow sends spans. What says in which experiment they belong?",
            "Which attributes would such a span need for MLflow to count its tokens?",
            "An OTLP endpoint is set and the store stays empty. Which variable is missing?",
            "Look at genai/tracing/opentelemetry_export.py::plain_app and ::dual_export.",
        ),
    ),
    Lesson(
        number="3.1",
        title="Register a prompt, improve it, roll it back",
        command="mlflow-prompt-registry",
        file="genai/prompt_registry_example.py",
        page="prompts",
        look="review-label: compare its two newest versions, and see where the alias production points",
        docs="https://mlflow.org/docs/latest/genai/prompt-registry/",
        shows=(
            "mlflow.genai.register_prompt",
            "mlflow.genai.load_prompt",
            "mlflow.genai.set_prompt_alias",
            "mlflow.start_run",
            "mlflow.openai.autolog",
        ),
        evidence=(
            Evidence("run", "two versions scored on the same reviews", minimum=2, filter="metrics.accuracy >= 0"),
            Evidence("trace", "the calls of each version", minimum=2),
            Evidence("prompt", "the versions of review-label", name="review-label"),
            Evidence("prompt", "the chat prompt with its schema", name="review-label-chat"),
        ),
        hints=(
            "If a version could be changed, what would a run from last month tell you about its prompt?",
            "What does your program ask for: a version, or an alias? What follows for a roll-back?",
            "Another process moves the alias. How long may yours go on with the old wording, and who decides that?",
            "Look at genai/prompt_registry_example.py::move_alias and ::read_through_cache.",
        ),
    ),
    Lesson(
        number="3.2",
        title="Improve a prompt from what failed, and believe only a real gain",
        command="mlflow-prompt-iteration",
        file="genai/prompts/compare_versions.py",
        page="evaluation-runs",
        look="select version-1 and version-2 and press Compare: which rows changed sides?",
        docs="https://mlflow.org/docs/latest/genai/prompt-registry/evaluate-prompts/",
        shows=(
            "mlflow.genai.evaluate",
            "mlflow.genai.scorer",
            "mlflow.genai.load_prompt",
            "mlflow.genai.set_prompt_alias",
            "mlflow.genai.set_prompt_tag",
            "mlflow.log_metrics",
        ),
        evidence=(
            Evidence(
                "run", "two versions evaluated on the same rows", minimum=2, filter="params.prompt_version != '0'"
            ),
            Evidence("run", "the gain with its interval and p", filter="metrics.p >= 0"),
            Evidence("trace", "a scored answer for every row", filter="trace.name = 'answer-from-passage'"),
            Evidence("prompt", "both versions of the prompt", name="passage-answer"),
        ),
        hints=(
            "Version 2 got more rows right. On how many rows do the two versions differ at all?",
            "If the two were equally good, how often would a coin give you this many rows for one side?",
            "The gain is not shown. Is the prompt no better, or were there too few rows to see it?",
            "Look at utils/paired_decision.py::decide and genai/prompts/compare_versions.py::release.",
        ),
    ),
    Lesson(
        number="3.3",
        title="A template with several variables",
        command="mlflow-prompt-variables",
        file="genai/prompts/template_variables.py",
        page="runs",
        look="open prompt-variables: its combinations are nested runs, its heat map is under Artifacts",
        docs="https://mlflow.org/docs/latest/genai/prompt-registry/",
        shows=(
            "mlflow.genai.load_prompt",
            "mlflow.start_run",
            "mlflow.log_params",
            "mlflow.log_metrics",
            "mlflow.search_runs",
            "mlflow.log_figure",
        ),
        evidence=(
            Evidence("run", "a nested run for each combination", minimum=2, filter="params.tone != ''"),
            Evidence("run", "the best combination", filter="metrics.best_useful >= 0"),
            Evidence("trace", "a trace for each combination", minimum=2, filter="trace.name = 'score-combination'"),
            Evidence("prompt", "the prompt with its variables", name="desk-answer"),
        ),
        hints=(
            "Twelve combinations were scored. How would you find the best one without reading the output?",
            "One value is worse with every partner, another only with some. Where does the heat map show that?",
            "The best is ahead by one question. Would it be the best again with other questions?",
            "Look at genai/prompts/template_variables.py::ranked_runs and ::not_told_apart.",
        ),
    ),
    Lesson(
        number="3.4",
        title="Find prompts, and what used a version",
        command="mlflow-prompt-search",
        file="genai/prompts/search_prompts.py",
        page="prompts",
        look="desk-refund: two versions, and the traces that used each",
        docs="https://mlflow.org/docs/latest/genai/prompt-registry/manage-prompt-lifecycles/",
        shows=(
            "mlflow.genai.search_prompts",
            "mlflow.genai.set_prompt_tag",
            "mlflow.genai.set_prompt_alias",
            "mlflow.genai.load_prompt",
            "mlflow.search_runs",
            "mlflow.search_traces",
        ),
        evidence=(
            Evidence("run", "what used a version, counted", filter="metrics.traces_found > 0"),
            Evidence("trace", "answers of the help desk", minimum=3, filter="trace.name = 'desk-answer'"),
            Evidence("prompt", "a prompt with two versions", name="desk-refund"),
        ),
        hints=(
            "You are about to withdraw a version. Whom would you have to ask whether they use it?",
            "Where is the link written down: at the prompt, or at the run and the trace?",
            "A thousand prompts do not fit one answer. What tells you that there is another page?",
            "Look at genai/prompts/search_prompts.py::find_usage and ::pages.",
        ),
    ),
    Lesson(
        number="5.1",
        title="Write the sample documents",
        command="mlflow-sample-documents",
        file="utils/sample_documents.py",
        page="runs",
        look="the run sample-documents, and the digest of its questions",
        docs="https://mlflow.org/docs/latest/ml/dataset/",
        uses_llm=False,
        shows=("mlflow.start_run", "mlflow.data.from_pandas", "mlflow.log_input", "mlflow.log_metrics"),
        evidence=(
            Evidence("run", "the corpus and its size", filter="metrics.documents > 0"),
            Evidence("dataset", "the questions whose gold document is known"),
        ),
        hints=(
            "How do you know that a retriever found the right document, and not just any document?",
            "What makes a question hard for a search by words?",
            "Look at utils/sample_documents.py::load_questions.",
        ),
    ),
    Lesson(
        number="5.2",
        title="RAG with Spark and LlamaIndex, judged against gold documents",
        command="mlflow-spark-llamaindex-rag",
        file="spark/spark_llamaindex_rag.py",
        page="traces",
        look="open one: the retriever span shows the passages and their scores",
        docs="https://mlflow.org/docs/latest/genai/tracing/integrations/listing/llama_index/",
        shows=(
            "mlflow.llama_index.autolog",
            "mlflow.start_span",
            "mlflow.start_run",
            "mlflow.log_metrics",
            "mlflow.log_table",
        ),
        evidence=(
            Evidence("run", "retrieval scores against gold documents", filter="metrics.hit_at_k >= 0"),
            Evidence(
                kind="trace",
                what="a trace for every question, with a retriever span",
                filter="trace.name = 'rag-question' AND span.type = 'RETRIEVER'",
            ),
        ),
        hints=(
            "An answer can be wrong although the right passage was found. Which span tells you?",
            "What does hit@3 count, and what would a metric that asks only for *a* source count?",
            "Halve --chunk-size: which number moves first, and why?",
            "Look at spark/spark_llamaindex_rag.py::ask.",
        ),
        tour_args=("--create-sample-docs",),
    ),
)


def lesson(number: str) -> Lesson:
    """The lesson with this number.

    Raises:
        KeyError: there is none.
    """
    for entry in LESSONS:
        if entry.number == number:
            return entry
    raise KeyError(number)


def next_lesson(number: str) -> Lesson | None:
    """The lesson after this one, or None after the last."""
    numbers = [entry.number for entry in LESSONS]
    index = numbers.index(number) + 1
    return LESSONS[index] if index < len(LESSONS) else None
