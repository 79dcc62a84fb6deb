"""2.4 One question through several frameworks: what each one's autolog writes.

New here: every framework has an autolog of its own; two that see the same call write it twice.
Run it:   uv run mlflow-compare-frameworks
          uv run mlflow-compare-frameworks --framework langgraph --framework llamaindex --repeat 5
          uv run --extra frameworks mlflow-compare-frameworks --framework pydantic-ai --framework smolagents
          uv run --extra optimize mlflow-compare-frameworks --framework dspy
Look at:  uv run mlflow ui  ->  2-tracing  ->  Traces: tick two frameworks' traces, and press Compare
Change:   in FRAMEWORKS add mlflow.openai.autolog to the autologs of llamaindex; what does the lesson say to that?
Docs:     https://mlflow.org/docs/latest/genai/tracing/integrations/
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import click
import mlflow
from mlflow.entities import SpanType, Trace
from mlflow.entities.model_registry import PromptVersion

from utils.cli import Steps, lesson, show, show_table
from utils.errors import CheckFailed
from utils.llm_backends import Backend, open_backend
from utils.loader import require
from utils.options import BackendOptions
from utils.prompt_utils import to_single_braces, use_alias
from utils.span_tree import duration_ms, roots, tree_lines

PROMPT = "framework-question"
TEMPLATE = "Answer in one sentence, from this passage only.\n\nPassage: {{passage}}\n\nQuestion: {{question}}"
PASSAGE = "A trace is the record of one request. Each step of the request is a span, and the first span is the root."
QUESTION = "What is the first span of a trace?"
FIELDS = {"passage": PASSAGE, "question": QUESTION}

Ask = Callable[[], object]


def openai_sdk(llm: Backend, prompt: PromptVersion) -> Ask:
    client = llm.openai_client()
    messages: list[Any] = [{"role": "user", "content": str(prompt.format(**FIELDS))}]
    return lambda: client.chat.completions.create(model=llm.model, messages=messages, temperature=0)


def langchain(llm: Backend, prompt: PromptVersion) -> Ask:
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    template = ChatPromptTemplate.from_template(to_single_braces(str(prompt.template)))
    chain = template | llm.chat_model() | StrOutputParser()
    return lambda: chain.invoke(FIELDS)


class State(TypedDict, total=False):
    """What the nodes of the graph hand on."""

    passage: str
    question: str
    filled: str
    answer: str


def langgraph(llm: Backend, prompt: PromptVersion) -> Ask:
    from langgraph.graph import END, START, StateGraph

    model = llm.chat_model()
    graph = StateGraph(State)
    graph.add_node(
        "fill", lambda state: {"filled": prompt.format(passage=state["passage"], question=state["question"])}
    )
    graph.add_node("answer", lambda state: {"answer": model.invoke(state["filled"]).text})
    for start, end in ((START, "fill"), ("fill", "answer"), ("answer", END)):
        graph.add_edge(start, end)
    compiled = graph.compile()
    return lambda: compiled.invoke(State(passage=PASSAGE, question=QUESTION))


def llamaindex(llm: Backend, prompt: PromptVersion) -> Ask:
    from llama_index.core import PromptTemplate, get_response_synthesizer
    from llama_index.core.schema import NodeWithScore, TextNode

    # LlamaIndex fills context_str and query_str; the mapping lets the registered prompt keep its own names.
    template = PromptTemplate(
        to_single_braces(str(prompt.template), escape=False),
        template_var_mappings={"context_str": "passage", "query_str": "question"},
    )
    synthesizer = get_response_synthesizer(llm=llm.llama_index(), text_qa_template=template)
    nodes = [NodeWithScore(node=TextNode(text=PASSAGE), score=1.0)]
    return lambda: synthesizer.synthesize(QUESTION, nodes)


def dspy(llm: Backend, prompt: PromptVersion) -> Ask:
    """DSPy writes the prompt itself, from the names of the fields and the instructions."""
    import dspy as library

    settings = llm.settings
    model = library.LM(f"openai/{llm.model}", api_base=settings.base_url, api_key=settings.api_key, cache=False)
    instructions = str(prompt.template).split("\n", maxsplit=1)[0]
    predict = library.Predict(library.Signature("passage, question -> answer", instructions))

    def ask() -> object:
        with library.context(lm=model):
            return predict(**FIELDS)

    return ask


def pydantic_ai(llm: Backend, prompt: PromptVersion) -> Ask:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=llm.settings.base_url, api_key=llm.settings.api_key)
    agent = Agent(OpenAIChatModel(llm.model, provider=provider))
    return lambda: agent.run_sync(str(prompt.format(**FIELDS)))


def smolagents(llm: Backend, prompt: PromptVersion) -> Ask:
    from smolagents import OpenAIModel, ToolCallingAgent

    model = OpenAIModel(llm.model, api_base=llm.settings.base_url, api_key=llm.settings.api_key)
    agent = ToolCallingAgent(tools=[], model=model, max_steps=2, verbosity_level=0)
    return lambda: agent.run(str(prompt.format(**FIELDS)))


# Each with the autologs that see its calls, once: LangGraph's nodes and models are LangChain's runnables, and
# smolagents leaves its model calls to the SDK that makes them.
FRAMEWORKS: dict[str, tuple[Callable[[Backend, PromptVersion], Ask], tuple[Callable[..., None], ...]]] = {
    "openai": (openai_sdk, (mlflow.openai.autolog,)),
    "langchain": (langchain, (mlflow.langchain.autolog,)),
    "langgraph": (langgraph, (mlflow.langchain.autolog,)),
    "llamaindex": (llamaindex, (mlflow.llama_index.autolog,)),
    "dspy": (dspy, (mlflow.dspy.autolog,)),
    "pydantic-ai": (pydantic_ai, (mlflow.pydantic_ai.autolog,)),
    "smolagents": (smolagents, (mlflow.smolagents.autolog, mlflow.openai.autolog)),
}
DEFAULT = ("openai", "langchain", "langgraph", "llamaindex")
EXTRAS: dict[str, Callable[[], object]] = {
    "dspy": lambda: require("dspy", extra="optimize"),
    "pydantic-ai": lambda: require("pydantic_ai", extra="frameworks"),
    "smolagents": lambda: require("smolagents", extra="frameworks"),
}


@dataclass(frozen=True)
class Served:
    """Calls and tokens of one question: as a trace says, or as the mock's server counted."""

    model_calls: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Row:
    """One framework: its newest trace, and the median time of all of its traces."""

    trace: Trace
    traced: Served
    served: Served | None  # other servers than the mock are not asked
    latency_ms: float


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    rows: dict[str, Row]


def measure(llm: Backend, name: str, prompt: PromptVersion, repeat: int) -> Row:
    """Ask once untraced, so that imports and connections are not in the times, then `repeat` times traced."""
    build, autologs = FRAMEWORKS[name]
    for autolog in autologs:
        autolog(silent=True)  # before the framework's objects are made: some look for it only then
    try:
        ask = build(llm, prompt)
        with mlflow.tracing.context(enabled=False):
            ask()
        with mlflow.tracing.context(tags={"framework": name}):
            served = [ask_and_count(llm, ask) for _ in range(repeat)]
    finally:
        for autolog in autologs:
            autolog(disable=True, silent=True)
    return read_back(name, repeat, served[-1])


def ask_and_count(llm: Backend, ask: Ask) -> Served | None:
    """Ask, and give back what the mock's server says it served meanwhile."""
    before = llm.server.counts if llm.server else None
    ask()
    if before is None:
        return None
    fields = ("chat_calls", "prompt_tokens", "completion_tokens")
    after = llm.server.counts
    return Served(*(getattr(after, field) - getattr(before, field) for field in fields))


def read_back(name: str, repeat: int, served: Served | None) -> Row:
    """The newest traces of the framework, as the store has them.

    Raises:
        CheckFailed: a question left no trace, or one with several roots, or other calls than the server counted.
    """
    mlflow.flush_trace_async_logging()
    traces = mlflow.search_traces(filter_string=f"tags.framework = '{name}'", max_results=repeat, return_type="list")
    heads = [roots(trace) for trace in traces]
    if len(traces) != repeat or any(len(head) != 1 for head in heads):
        raise CheckFailed(
            f"{name}: {repeat} questions left {len(traces)} traces with {[len(head) for head in heads]} roots",
            f"mlflow.search_traces(filter_string=\"tags.framework = '{name}'\")",
        )
    usage = traces[0].info.token_usage or {"input_tokens": 0, "output_tokens": 0}
    traced = Served(count_model_calls(traces[0]), usage["input_tokens"], usage["output_tokens"])
    if served and traced != served:
        raise CheckFailed(
            f"{name}: its trace holds {traced}, the server counted {served}",
            "see that one autolog, and only one, sees each call",
        )
    return Row(traces[0], traced, served, statistics.median(duration_ms(head[0]) for head in heads))


def count_model_calls(trace: Trace) -> int:
    """Frameworks wrap their calls: the call itself is the CHAT_MODEL, or an LLM span with nothing below it."""
    parents = {span.parent_id for span in trace.data.spans}
    return sum(
        span.span_type == SpanType.CHAT_MODEL or (span.span_type == SpanType.LLM and span.span_id not in parents)
        for span in trace.data.spans
    )


def run(llm: Backend, frameworks: tuple[str, ...], repeat: int) -> Outcome:
    steps = Steps(2 + len(frameworks))
    # 1. One prompt for all
    uri = use_alias(PROMPT, "production", TEMPLATE, needs=tuple(FIELDS), commit_message="One sentence, one passage")
    with mlflow.start_run(run_name="compare-frameworks") as active:
        prompt = mlflow.genai.load_prompt(uri)
        steps(f"Prompt {prompt.uri}; the question: {QUESTION}")

        # 2. Each framework with its own autolog, and nobody else's
        rows = {}
        for name in frameworks:
            row = rows[name] = measure(llm, name, prompt, repeat)
            steps(f"{name}\n" + "\n".join(f"      {line}" for line in tree_lines(row.trace)))

        # 3. Side by side
        table = [describe(name, row) for name, row in rows.items()]
        steps(f"Side by side, of {repeat} traces each")
        show_table(table)
        mlflow.log_table({key: [line[key] for line in table] for key in table[0]}, "frameworks.json")
        mlflow.log_metrics({f"{name}.latency_p50_ms": row.latency_ms for name, row in rows.items()})
        mlflow.log_metrics({f"{name}.spans": len(row.trace.data.spans) for name, row in rows.items()})
        mlflow.log_param("frameworks", ", ".join(frameworks))
    return Outcome(active.info.run_id, rows[frameworks[-1]].trace.info.trace_id, rows)


def describe(name: str, row: Row) -> dict[str, object]:
    return {
        "framework": name,
        "root": roots(row.trace)[0].name,
        "spans": len(row.trace.data.spans),
        "calls": row.traced.model_calls,
        "prompt tokens": row.traced.prompt_tokens,
        "reply tokens": row.traced.completion_tokens,
        "served": row.served.prompt_tokens + row.served.completion_tokens if row.served else None,
        "p50 ms": row.latency_ms,
    }


@lesson("2.4", llm="mock")
@click.option("--framework", "frameworks", multiple=True, type=click.Choice(list(FRAMEWORKS)), default=DEFAULT,
              show_default=True, help="May be repeated.")  # fmt: skip
@click.option("--repeat", type=click.IntRange(min=1), default=3, show_default=True, help="Traces of each framework.")
def main(frameworks: tuple[str, ...], repeat: int, backend: BackendOptions) -> None:
    chosen = tuple(dict.fromkeys(frameworks))
    for name in chosen:
        if name in EXTRAS:
            EXTRAS[name]()  # missing? said before anything is asked
    with open_backend(backend) as llm:
        outcome = run(llm, chosen, repeat)
    measured = {f"spans_{name}": len(row.trace.data.spans) for name, row in outcome.rows.items()}
    show("2.4", measured, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
