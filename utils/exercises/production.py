"""Module 7: Production."""

from utils.exercise_checks import production
from utils.exercises.entries import Exercise

EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        id="7.2a",
        title="Let a version into production only after its tests",
        file="genai/exercises/gate_first.py",
        task="Two versions are registered, and the newest went into production because it is the newest. Test both on "
        "CASES, log the share of right answers as the metric right in a run of each version, tag the versions tests = "
        "passed or tests = failed, and point the alias production at the newest version that passed.",
        proof="a run and a true tag for each version, and the alias on the newest that passed",
        hints=(
            "What does production say about 100 °C, and who could have known it before?",
            "A version cannot be changed any more. Where can what you found out about it be written all the same?",
            "Somebody runs your file again tomorrow. Which version does the alias point at then, and why?",
            "Look at genai/deployment/promote_agent.py::propose; then compare with tests/solutions/gate_first.py.",
        ),
        check=production.find_gated_alias,
    ),
    Exercise(
        id="7.3a",
        title="Halve p95 and double the throughput of a service",
        file="genai/exercises/let_others_in.py",
        task="The service answers one request after the other, although its model could answer several at once. "
        "Measure it as it is, change handle in a second version so that nobody holds up anybody else, and measure "
        "that: p95 at most half of before, at least twice the requests per second, the same answers, and every "
        "request a trace.",
        proof="half the p95 and twice the requests per second, with a trace for every request",
        hints=(
            "Eight callers, a model that takes 100 ms, and p95 is 800 ms. What did the seven others wait for?",
            "The span answer-request takes 100 ms before and after. Where does the rest of the time not show?",
            "An event loop does one thing at a time. What in handle keeps it from doing the next?",
            "Look at genai/deployment/serve_agent.py::build_app and utils/serving/threads.py::Workers; then compare "
            "with tests/solutions/let_others_in.py.",
        ),
        check=production.find_faster_service,
    ),
    Exercise(
        id="7.4a",
        title="Keep your members' numbers out of the store",
        file="genai/exercises/mask_members.py",
        task="Members are named by numbers such as M-4821-77, and every question is stored with them. Write the span "
        "processor hide, which puts [member] in their place, and see that a look-up that fails leaves none either.",
        proof="three traces with readable questions and no number in any span, the failed look-up among them",
        hints=(
            "Where does a trace hold the question, besides the root's inputs?",
            "You have masked inputs and outputs, and one number is left. Which span is red, and what does it keep?",
            "An exception raised while another is handled brings that one along. What does its stack trace say?",
            "Look at genai/deployment/production_tracing.py::redact; compare with tests/solutions/mask_members.py.",
        ),
        check=production.find_masked_members,
    ),
)
