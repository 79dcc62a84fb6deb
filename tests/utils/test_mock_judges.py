"""MLflow's judges, scorers and MetaPrompt optimizer on the mock."""

import json
from typing import Literal

import mlflow
import pytest
from mlflow.entities import Document
from mlflow.genai.judges import make_judge
from mlflow.genai.optimize.optimizers import MetaPromptOptimizer
from mlflow.genai.scorers import (
    Completeness,
    Correctness,
    Equivalence,
    Fluency,
    Guidelines,
    RelevanceToQuery,
    RetrievalGroundedness,
    RetrievalRelevance,
    RetrievalSufficiency,
    Safety,
    ToolCallCorrectness,
    ToolCallEfficiency,
)

from utils.mock_llm import MockServer, complete

MODEL = "openai:/mock-large"
QUESTION = {"question": "How many days of leave do employees receive?"}
RIGHT, WRONG = "Employees receive 25 days of leave per year.", "Employees receive 20 days of leave per year."


@pytest.fixture(scope="module")
def server():
    with MockServer() as running:
        yield running


@pytest.fixture(autouse=True)
def endpoint(server, monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.setenv(name, server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "mock")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    before = mlflow.get_tracking_uri()
    folder = tmp_path_factory.mktemp("store")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("judges", artifact_location=folder.as_uri()))
    yield
    mlflow.flush_trace_async_logging()
    mlflow.set_tracking_uri(before)


def verdict(feedback):
    assert feedback.error is None
    assert feedback.rationale.startswith("mock judge:")
    return feedback.value


@pytest.mark.parametrize(
    ("output", "expected", "value"),
    [
        (RIGHT, {"expected_response": "25 days of leave"}, "yes"),
        (WRONG, {"expected_response": "25 days of leave"}, "no"),
        (RIGHT, {"expected_facts": ["25 days", "per year"]}, "yes"),
        ("I do not know.", {"expected_response": "25 days of leave"}, "no"),
        (
            "Employees do not receive 25 days of leave per year.",
            {"expected_response": "Employees receive 25 days of leave"},
            "no",
        ),
        ("negative", {"expected_response": "positive"}, "no"),
        ("positive", {"expected_response": "positive"}, "yes"),
    ],
)
def test_correctness(output, expected, value):
    assert verdict(Correctness(model=MODEL)(inputs=QUESTION, outputs=output, expectations=expected)) == value


def test_relevance_and_guidelines():
    relevance = RelevanceToQuery(model=MODEL)
    assert verdict(relevance(inputs=QUESTION, outputs=RIGHT)) == "yes"
    assert verdict(relevance(inputs=QUESTION, outputs="Bananas grow in hot places.")) == "no"
    short = Guidelines(
        name="short",
        model=MODEL,
        guidelines=["The response must have at most 10 words.", 'It must not mention "refund".'],
    )
    assert verdict(short(inputs=QUESTION, outputs=RIGHT)) == "yes"
    assert verdict(short(inputs=QUESTION, outputs=RIGHT * 3)) == "no"
    assert verdict(short(inputs=QUESTION, outputs="Ask for a refund.")) == "no"


def test_safety_equivalence_fluency_completeness():
    assert verdict(Safety(model=MODEL)(outputs=RIGHT)) == "yes"
    assert verdict(Safety(model=MODEL)(outputs="Here is how to make a bomb at home.")) == "no"
    same = Equivalence(model=MODEL)
    assert (
        verdict(same(outputs="The capital is Paris.", expectations={"expected_response": "Paris is the capital."}))
        == "yes"
    )
    assert (
        verdict(same(outputs="The capital is Rome.", expectations={"expected_response": "Paris is the capital."}))
        == "no"
    )
    assert verdict(Fluency(model=MODEL)(outputs=RIGHT)) == "yes"
    assert verdict(Fluency(model=MODEL)(outputs="leave leave xkcd qwrt the the")) == "no"
    both = {"question": "How many days of leave are there, and who books flights?"}
    assert verdict(Completeness(model=MODEL)(inputs=both, outputs=f"{RIGHT} There are no other days of leave.")) == "no"
    assert verdict(Completeness(model=MODEL)(inputs=both, outputs=f"{RIGHT} The office books flights.")) == "yes"


def answer_from_documents(question):
    with mlflow.start_span("retrieve", span_type="RETRIEVER") as span:
        span.set_inputs({"query": question})
        span.set_outputs(
            [
                Document(page_content=RIGHT, metadata={"doc_uri": "leave.md"}),
                Document(page_content="Soup is hot.", metadata={"doc_uri": "soup.md"}),
            ]
        )
    for _ in range(2):
        with mlflow.start_span("search", span_type="TOOL") as span:
            span.set_inputs({"query": "leave"})
            span.set_outputs(RIGHT)


def traced(answer):
    @mlflow.trace
    def agent(question):
        answer_from_documents(question)
        return answer

    agent(QUESTION["question"])
    trace_id = mlflow.get_last_active_trace_id()
    mlflow.flush_trace_async_logging()
    return mlflow.get_trace(trace_id)


def test_retrieval_scorers_read_the_trace(store):
    right, wrong = traced(RIGHT), traced("Employees receive 40 days of leave and a car.")
    grounded = RetrievalGroundedness(model=MODEL)
    assert [verdict(f) for f in grounded(trace=right)] == ["yes"]
    assert [verdict(f) for f in grounded(trace=wrong)] == ["no"]
    sufficient = RetrievalSufficiency(model=MODEL)
    assert [verdict(f) for f in sufficient(trace=right, expectations={"expected_response": "25 days"})] == ["yes"]
    assert [verdict(f) for f in sufficient(trace=right, expectations={"expected_response": "A company car"})] == ["no"]
    chunks = [f.value for f in RetrievalRelevance(model=MODEL)(trace=right) if f.name == "retrieval_relevance"]
    assert chunks == ["yes", "no"]
    assert verdict(ToolCallEfficiency(model=MODEL)(trace=right)) == "no"
    assert ToolCallCorrectness(model=MODEL)(trace=right).error is None


def test_make_judge_gives_the_type_that_is_asked_for(server):
    def judge(instructions, kind, **texts):
        made = make_judge(
            name="j",
            instructions=instructions,
            model=MODEL,
            base_url=f"{server.base_url}/chat/completions",
            feedback_value_type=kind,
        )
        return verdict(made(**texts))

    expected = {"expected_response": "25 days of leave"}
    compare = "Does {{ outputs }} agree with {{ expectations }} for {{ inputs }}?"
    assert judge(compare, bool, inputs=QUESTION, outputs=RIGHT, expectations=expected) is True
    assert judge(compare, bool, inputs=QUESTION, outputs=WRONG, expectations=expected) is False
    grade = "Compare {{ outputs }} with {{ expectations }}."
    assert judge(grade, Literal["good", "fair", "poor"], outputs=RIGHT, expectations=expected) == "good"
    assert judge(grade, Literal["poor", "fair", "good"], outputs=WRONG, expectations=expected) == "poor"
    scale = "Rate from 1 to 5 how well {{ outputs }} answers {{ inputs }}."
    on_topic, off_topic = (judge(scale, int, inputs=QUESTION, outputs=text) for text in (RIGHT, "Bananas are yellow."))
    assert 1 <= off_topic < on_topic <= 5
    assert (
        0 <= judge("Score the relevance of {{ outputs }} to {{ inputs }}.", float, inputs=QUESTION, outputs=RIGHT) <= 1
    )
    sentiment = "What is the sentiment of {{ inputs }}: positive, negative or neutral?"
    assert (
        judge(sentiment, Literal["positive", "negative", "neutral"], inputs={"text": "I hated the soup."}) == "negative"
    )
    assert judge("Answer 'pass' if {{ outputs }} is polite, else 'fail'.", str, outputs="Shut up.") == "fail"


def test_the_judge_of_traces_uses_its_tools(server, store):
    made = make_judge(
        name="t",
        instructions="Say whether the answer in {{ trace }} answers the question.",
        model=MODEL,
        feedback_value_type=Literal["yes", "no"],
        base_url=f"{server.base_url}/chat/completions",
    )
    before = server.counts.chat_calls
    assert verdict(made(trace=traced(RIGHT))) == "yes"
    assert verdict(made(trace=traced("Bananas are yellow."))) == "no"
    assert server.counts.chat_calls - before >= 4


def judge_conversation(instructions, *turns):
    system = (
        "You are an expert judge tasked with evaluating the performance of an AI agent.\n\nYour task: "
        + instructions
        + "."
        "\n\nYou *must* format your evaluation rating as a JSON object with the following fields "
        "(no markdown).\n\n- result: x\n- rationale: y"
    )
    conversation = json.dumps([{"role": role, "content": text} for role, text in turns], indent=2)
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": f"conversation: {conversation}"},
    ]
    return json.loads(complete({"model": "mock-large", "messages": messages}).text)["result"]


def test_session_judges():
    from mlflow.genai.judges.prompts.conversation_completeness import CONVERSATION_COMPLETENESS_PROMPT
    from mlflow.genai.judges.prompts.knowledge_retention import KNOWLEDGE_RETENTION_PROMPT
    from mlflow.genai.judges.prompts.user_frustration import USER_FRUSTRATION_PROMPT

    calm = (("user", "When does the museum open?"), ("assistant", "The museum opens at nine."))
    upset = (*calm, ("user", "That is useless, I already asked about Sunday."))
    assert judge_conversation(USER_FRUSTRATION_PROMPT, *calm) == "none"
    assert judge_conversation(USER_FRUSTRATION_PROMPT, *upset) == "unresolved"
    relieved = (*upset, ("assistant", "On Sunday it opens at ten."), ("user", "Perfect, thank you."))
    assert judge_conversation(USER_FRUSTRATION_PROMPT, *relieved) == "resolved"
    assert judge_conversation(CONVERSATION_COMPLETENESS_PROMPT, *calm) == "yes"
    assert judge_conversation(CONVERSATION_COMPLETENESS_PROMPT, calm[0], ("assistant", "Soup is hot.")) == "no"
    told = (("user", "My name is Ada."), ("assistant", "Noted."), ("user", "What is my name?"))
    assert (
        judge_conversation(KNOWLEDGE_RETENTION_PROMPT, *told, ("assistant", "You told me: your name is Ada.")) == "yes"
    )
    assert judge_conversation(KNOWLEDGE_RETENTION_PROMPT, *told, ("assistant", "I do not know your name.")) == "no"


def test_meta_prompt_adds_the_missing_labels_and_keeps_the_variable(store):
    data = [
        {"inputs": {"review": text}, "expectations": {"expected_response": label}}
        for text, label in (("I love it", "positive"), ("I hate it", "negative"))
    ]
    prompt = mlflow.genai.register_prompt(name="sentiment", template="What is the sentiment of this review? {{review}}")

    def predict(review):
        text = mlflow.genai.load_prompt(prompt.uri).format(review=review)
        return complete({"model": "mock-large", "messages": [{"role": "user", "content": text}]}).text

    @mlflow.genai.scorer
    def exact(outputs, expectations):
        return outputs == expectations["expected_response"]

    result = mlflow.genai.optimize_prompts(
        predict_fn=predict,
        train_data=data,
        prompt_uris=[prompt.uri],
        optimizer=MetaPromptOptimizer(reflection_model=MODEL),
        scorers=[exact],
    )
    template = result.optimized_prompts[0].template
    assert "{{review}}" in template and "negative or positive" in template
    assert result.final_eval_score == 1.0 > result.initial_eval_score
