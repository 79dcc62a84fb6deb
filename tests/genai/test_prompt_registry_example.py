"""3.1 on a store of its own: versions, links, the alias, and prompts that survive their way into the frameworks."""

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import SpanType

from genai.prompt_registry_example import (
    ALIAS,
    CHAT,
    CHAT_NAME,
    JINJA,
    NAME,
    TERSE,
    VAGUE,
    Verdict,
    main,
    register_versions,
)
from utils.llm_backends import open_backend
from utils.prompt_utils import PromptError, chat_messages, to_single_braces
from utils.span_tree import roots

BRACES = 'Answer as JSON: {"label": "x", "why": {}}. Review: {{text}}'


@pytest.fixture(scope="module")
def done(run_lesson):
    """The lesson run once: every test here reads the store that it left."""
    return run_lesson(main, "--num-samples", 12)


@pytest.fixture
def client(done) -> MlflowClient:
    mlflow.set_tracking_uri(done.uri)
    return MlflowClient()


@pytest.fixture
def runs(client):
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def test_two_versions_with_their_reasons_and_their_settings(client):
    first, second = sorted(client.search_prompt_versions(NAME), key=lambda version: int(version.version))
    assert (first.template, second.template) == (VAGUE, TERSE)
    assert first.commit_message and second.commit_message and second.tags["task"] == "sentiment"
    assert mlflow.genai.load_prompt(f"prompts:/{NAME}/2").model_config["max_tokens"] == 5


def test_each_version_is_scored_in_a_run_and_a_trace_that_are_linked_to_it(client, runs):
    scored = {run.data.params["prompt_version"]: run for run in runs if "prompt_version" in run.data.params}
    assert set(scored) == {"1", "2"}
    for version, run in scored.items():
        assert f'"name": "{NAME}", "version": "{version}"' in run.data.tags["mlflow.linkedPrompts"]
        (trace,) = mlflow.search_traces(
            locations=[run.info.experiment_id], filter_string=f"prompt = '{NAME}/{version}'", return_type="list"
        )
        calls = [span for span in trace.data.spans if span.span_type == "CHAT_MODEL"]
        assert len(calls) == 12
    assert scored["2"].data.metrics["accuracy"] > scored["1"].data.metrics["accuracy"]


def test_the_alias_ends_on_the_better_version(client):
    assert mlflow.genai.load_prompt(f"prompts:/{NAME}@{ALIAS}", cache_ttl_seconds=0).version == 2


def test_the_output_shows_what_the_learner_should_see(done, runs):
    output = done.output
    for seen in ("AttributeError", "-What is the sentiment", "+Answer with one word", "rolled back to 1", "Jinja2"):
        assert seen in output
    assert "cached read gives 2, cache_ttl_seconds=0 gives 1" in output, "another process moved the alias"
    assert [run.data.metrics["cached_version"] for run in runs if "cached_version" in run.data.metrics] == [2]


def test_a_second_run_adds_versions_and_overwrites_none(store):
    register_versions()
    register_versions()
    versions = MlflowClient().search_prompt_versions(NAME)
    assert sorted(int(version.version) for version in versions) == [1, 2, 3, 4]


def test_the_chat_prompt_goes_round_through_both_frameworks(client):
    from langchain_core.prompts import ChatPromptTemplate as LangChainPrompt
    from llama_index.core.llms import ChatMessage
    from llama_index.core.prompts import ChatPromptTemplate as LlamaIndexPrompt

    prompt = mlflow.genai.load_prompt(f"prompts:/{CHAT_NAME}@latest")
    assert prompt.template == CHAT and prompt.response_format == Verdict.model_json_schema()
    wanted = [(message["role"], message["content"]) for message in prompt.format(text="Nice {soup}")]
    chain = LangChainPrompt.from_messages(chat_messages(prompt)).format_messages(text="Nice {soup}")
    assert [({"human": "user"}.get(m.type, m.type), m.content) for m in chain] == wanted
    pairs = chat_messages(prompt, escape=False)
    template = LlamaIndexPrompt([ChatMessage(role=role, content=content) for role, content in pairs])
    assert [(m.role.value, m.content) for m in template.format_messages(text="Nice {soup}")] == wanted


def test_the_calls_of_both_frameworks_stand_under_one_root(client):
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    (trace,) = mlflow.search_traces(locations=ids, filter_string="name = 'ask-in-frameworks'", return_type="list")
    calls = [span.name for span in trace.data.spans if span.span_type == SpanType.CHAT_MODEL]
    assert len(roots(trace)) == 1
    assert sorted(calls) == ["ChatOpenAI", "OpenAILike.chat", "StructuredLLM.chat"], "none of them twice"


def test_the_stored_schema_is_what_the_model_answers_in(client):
    schema = mlflow.genai.load_prompt(f"prompts:/{CHAT_NAME}@latest").response_format
    with open_backend("mock") as llm:
        model = llm.chat_model().with_structured_output(schema, method="json_schema")
        answer = Verdict.model_validate(model.invoke("Label this review: The soup was wonderful."))
    assert answer.label == "positive"


def test_braces_that_are_no_variables_come_out_as_they_went_in(store):
    prompt = mlflow.genai.register_prompt(name="braces", template=BRACES)
    wanted = prompt.format(text="hm")
    assert to_single_braces(prompt.template).format(text="hm") == wanted
    with pytest.raises((KeyError, ValueError, IndexError)):  # what MLflow's own conversion makes of it
        prompt.to_single_brace_format().format(text="hm")


def test_jinja_and_text_prompts_are_refused_with_a_cure(store):
    with pytest.raises(PromptError, match="Jinja2"):
        to_single_braces(JINJA)
    text = mlflow.genai.register_prompt(name="text", template="{{text}}")
    with pytest.raises(PromptError, match="without roles"):
        chat_messages(text)


@pytest.mark.parametrize("flags", [("--num-samples", 0), ("--seed", -1), ("--llm-type", "openai")])
def test_wrong_use(refused, store, flags):
    refused(main, *flags)
