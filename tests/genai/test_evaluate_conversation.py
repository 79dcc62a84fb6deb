"""6.6 on a store of its own: sessions that are scored, users that a model plays, and facts beside the judge."""

import shutil
from collections import defaultdict

import mlflow
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import Feedback

from genai.agents import conversational_agent
from genai.evaluation import evaluate_conversation
from genai.evaluation.evaluate_conversation import GOAL_JUDGE, PROMPT, SESSION, main, turns
from tests.conftest import Left
from utils.document_search import DocumentSearch
from utils.llm_backends import open_backend
from utils.mock_llm import chat
from utils.sample_documents import CORPUS
from utils.simulated_users import SimulatedUser, is_said, load_users
from utils.span_tree import roots

BUILT_IN = {"conversation_completeness", "knowledge_retention", "user_frustration", "short_answers", "turns"}


@pytest.fixture(scope="module")
def talked(run_lesson, tmp_path_factory):
    """4.3's two conversations."""
    return run_lesson(conversational_agent.main, "--output", tmp_path_factory.mktemp("memory"))


@pytest.fixture
def conversations(talked, store):
    """The same, in the store of one test."""
    shutil.copy(talked.path, store.removeprefix("sqlite:///"))


@pytest.fixture(scope="module")
def done(talked, tmp_path_factory):
    """This lesson on a store with them."""
    path = tmp_path_factory.mktemp("judged") / "mlflow.db"
    shutil.copy(talked.path, path)
    left = Left(path, "")
    result = CliRunner().invoke(main, ["--tracking-uri", left.uri])
    assert result.exit_code == 0, (result.output, result.exception)
    return left, result.output


@pytest.fixture
def client(done) -> MlflowClient:
    mlflow.set_tracking_uri(done[0].uri)
    mlflow.set_experiment("6-evaluation")
    return MlflowClient()


def run_named(client, name):
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    (found,) = client.search_runs(ids, f"attributes.run_name = '{name}'")
    return found


def sessions_of(run):
    found = defaultdict(list)
    for trace in mlflow.search_traces(
        run_id=run.info.run_id, return_type="list", order_by=["timestamp_ms ASC"], max_results=200
    ):
        found[trace.info.trace_metadata[SESSION]].append(trace)
    return found


def scores(trace):
    return {item.name: item.value for item in trace.info.assessments if isinstance(item, Feedback)}


def test_the_conversations_of_43_are_copied_with_their_sessions_and_scored_once_each(client):
    sessions = sessions_of(run_named(client, "real-conversations"))
    assert {name.split("-")[0]: len(talk) for name, talk in sessions.items()} == {"ada": 3, "ben": 3}
    for talk in sessions.values():
        assert set(scores(talk[0])) >= BUILT_IN and scores(talk[0])["turns"] == 3
        assert not any(set(scores(turn)) & BUILT_IN for turn in talk[1:])
    frustrated = {name.split("-")[0]: scores(talk[0])["user_frustration"] for name, talk in sessions.items()}
    assert frustrated == {"ada": "none", "ben": "unresolved"}, "ben says that this is useless"


def test_ten_users_each_with_a_session_and_no_turn_more_than_allowed(client):
    sessions, users = sessions_of(run_named(client, "simulated-users")), load_users()
    assert len(users) == len(sessions) == 10
    goals = {talk[0].info.trace_metadata["mlflow.simulation.goal"] for talk in sessions.values()}
    assert goals == {user.goal for user in users}
    for talk in sessions.values():
        assert 1 <= len(talk) <= 4
        for turn in talk:
            (root,) = roots(turn)
            assert root.span_type == "AGENT" and turn.info.trace_metadata["mlflow.trace.user"] == "simulated"
            assert len(root.inputs["messages"]) == 1 and turn.info.tags["lesson"] == "6.6"
            assert '"conversation-agent", "version": "1"' in turn.info.tags["mlflow.linkedPrompts"]


def test_the_goal_is_an_expectation_and_the_facts_are_kept_from_the_judge(client):
    facts = {user.goal: user for user in load_users()}
    for talk in sessions_of(run_named(client, "simulated-users")).values():
        told = {item.name: item.value for item in talk[0].info.assessments if not isinstance(item, Feedback)}
        assert list(told) == ["goal"] and told["goal"] in facts


def test_what_the_table_says_is_what_was_said(client):
    """The share of the facts is recomputed here from the roots of the traces."""
    users = {user.goal: user for user in load_users()}
    reached = agreed = 0
    for talk in sessions_of(run_named(client, "simulated-users")).values():
        user = users[talk[0].info.trace_metadata["mlflow.simulation.goal"]]
        text = "\n".join(str(roots(turn)[0].outputs) for turn in talk)
        if user.facts:
            share = sum(is_said(fact, text) for fact in user.facts) / len(user.facts)
        else:
            share = float("I do not know" in text)
        found = scores(talk[0])
        assert found["facts_said"] == pytest.approx(share) and found["facts_all_said"] is (share == 1)
        reached += share == 1
        agreed += found["goal_reached"] is (share == 1)
    metrics = run_named(client, "evaluate-conversation").data.metrics
    assert metrics["goals_reached_by_facts"] == reached / 10 and metrics["judge_agrees_with_facts"] == agreed / 10
    assert metrics["goals_reached_by_facts_low"] < reached / 10 < metrics["goals_reached_by_facts_high"]
    assert 0 < reached < 10 and agreed < 10, "a judge that is never wrong would teach nothing"
    assert metrics["judge_failures"] == 0


def test_every_word_of_the_users_comes_from_the_chosen_backend(store, run_command, monkeypatch):
    """MLflow's own default would be a model of somebody else's, at the same address."""
    asked, answer = [], chat.answer

    def listen(prompt):
        asked.append(prompt)
        return answer(prompt)

    monkeypatch.setattr(chat, "answer", listen)
    users = load_users()[:1]
    with open_backend("mock") as llm:
        mlflow.set_experiment("e")
        mlflow.genai.register_prompt(name="conversation-agent", template=conversational_agent.SYSTEM)
        mlflow.genai.set_prompt_alias("conversation-agent", "production", 1)
        reply = evaluate_conversation.build_agent(llm, PROMPT)
        (talk,) = evaluate_conversation.simulate(reply, users, 1, llm.judge()["model"])
    assert len(talk) == 1
    played = [prompt for prompt in asked if "role-play" in prompt.user]
    checked = [prompt for prompt in asked if "FULLY and COMPLETELY" in prompt.user]
    assert len(played) == len(checked) == 1


def test_a_judge_that_fails_is_counted_and_in_no_share(conversations, run_command):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_conversation, "GOAL_JUDGE", GOAL_JUDGE.replace("Judge", "FAIL Judge"))
        patch.setattr("utils.mock_llm.chat.judge", _babbling)
        result = run_command(main, "--num-users", "2", "--max-turns", "1", "--judge-model", "mock-small")
    assert result.exit_code == 0, result.output
    metrics = run_named(MlflowClient(), "evaluate-conversation").data.metrics
    assert metrics["judge_failures"] == 2 and "goals_reached_by_judge" not in metrics
    assert "failed" in result.output


def _babbling(prompt):
    from utils.mock_llm.judging import judge

    return "I would rather not say." if "FAIL Judge" in prompt.system + prompt.user else judge(prompt)


def test_a_prompt_that_says_nothing_of_looking_up_is_measured_by_the_same_users(done, client, run_command):
    mlflow.genai.register_prompt(name="other-rules", template="Say only: I do not know.")
    result = run_command(main, "--prompt", "prompts:/other-rules/1", "--num-users", "2", "--max-turns", "1")
    assert result.exit_code == 0, result.output
    newest = client.search_runs(
        [mlflow.get_experiment_by_name("6-evaluation").experiment_id], "params.prompt = 'prompts:/other-rules/1'"
    )
    assert newest[0].data.metrics["simulated_sessions"] == 2


def test_turns_counts_those_that_failed_apart():
    class Info:
        state = "ERROR"

    class Turn:
        info = Info()

    feedback = turns(session=[Turn(), Turn()])
    assert feedback.value == 2 and "2 of them failed" in feedback.rationale


# --- the users


def test_every_fact_stands_in_the_documents():
    search = DocumentSearch(CORPUS)
    text = " ".join(" ".join(search.texts.values()).split())
    facts = [fact for user in load_users() for fact in user.facts]
    assert len(facts) >= 15 and all(is_said(fact, text) for fact in facts)
    assert sum(not user.facts for user in load_users()) >= 1, "one asks for what no document holds"


def test_a_fact_is_said_in_one_of_its_wordings_and_as_whole_words():
    assert is_said("2 nodes | two nodes", "It returns\nTWO nodes.") and is_said("tr-", "They start with tr-.")
    assert is_said("gpt-4.1-mini", "openai:/gpt-4.1-mini, unless") and not is_said("429", "4290 or 1429")
    assert not is_said("two nodes", "two, or three nodes")


def test_one_who_asks_for_what_nobody_knows_is_served_by_an_honest_answer():
    user = SimulatedUser("find out what it costs", ())
    assert user.missing(["It costs 5 dollars."]) == ["that it does not know"] and user.missing(["I do not know."]) == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "holds no users"),
        ('{"goal": "x", "facts": []}\nnonsense', "line 2 is no JSON"),
        ('{"facts": []}', "line 1 has no text goal"),
        ('{"goal": "x"}', "facts is no list of texts"),
        ('{"goal": "x", "facts": [1]}', "facts is no list of texts"),
        ('{"goal": "x", "facts": [], "context": {}}', "there is no field context"),
        ('{"goal": "x", "facts": [], "persona": 3}', "persona is no text"),
        ('{"goal": "x", "facts": []}\n{"goal": "x", "facts": ["a"]}', "two users have the goal"),
    ],
)
def test_users_that_cannot_be_played_are_refused_with_their_line(refused, tmp_path, lines, said):
    file = tmp_path / "users.jsonl"
    file.write_text(lines)
    assert said in refused(main, "--users", file)


def test_without_conversations_it_says_what_to_type(store, refused):
    assert "mlflow-conversational-agent" in refused(main)
    assert "holds no conversation" in refused(main, "--conversations", "no-such")


def test_a_prompt_that_is_missing_or_cannot_be_rules(conversations, refused):
    assert "there is no prompt prompts:/none/1" in refused(main, "--prompt", "prompts:/none/1")
    mlflow.genai.register_prompt(name="with-variable", template="{{question}}")
    assert "cannot be an agent's rules" in refused(main, "--prompt", "prompts:/with-variable/1")


def test_a_server_that_fails_in_the_middle_ends_in_two_lines(conversations, refused, run_command):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_conversation, "build_agent", lambda *_: _broken)
        result = run_command(main, "--num-users", "2")
    assert result.exit_code == 2 and "error: none of 2 users got an answer\ntry:" in result.stderr
    assert "Traceback" not in result.stderr and "the server is gone" in result.stderr
    assert not MlflowClient().search_runs(["1", "2"], "attributes.run_name = 'simulated-users'")


def test_one_user_without_an_answer_does_not_cost_the_others_theirs(conversations, run_command, monkeypatch):
    build = evaluate_conversation.build_agent

    def build_half(llm, prompt):
        reply = build(llm, prompt)

        def answer(messages, mlflow_session_id):
            if "alias" in messages[-1]["content"]:
                raise ConnectionError("the server is gone")
            return reply(messages, mlflow_session_id)

        return answer

    monkeypatch.setattr(evaluate_conversation, "build_agent", build_half)
    result = run_command(main, "--num-users", "2", "--max-turns", "1")
    assert result.exit_code == 0, result.output
    metrics = run_named(MlflowClient(), "evaluate-conversation").data.metrics
    assert metrics["users_without_answer"] == 1 and metrics["simulated_sessions"] == 1


def _broken(messages, mlflow_session_id):
    raise ConnectionError("the server is gone")
