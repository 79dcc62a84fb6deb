"""Module 4: Agents."""

from utils.exercise_checks import agents
from utils.exercises.entries import Exercise

EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        id="4.1a",
        title="Give an agent a tool of your own, and find its call in the trace",
        file="genai/exercises/own_tool.py",
        task="The agent has a calculator, and the question is about a file that no model has read. Write a tool that "
        "opens the file and counts its words, give it to the agent, and let the answer say what the tool returned.",
        proof="a request in which your own tool was called, and its number in the answer",
        hints=(
            "What does the agent answer now, and what does its trace show between question and answer?",
            "The model never sees your code. Which three things of a function does it see, and who writes them?",
            "The model may ask for a file that is not there. Who should hear about that: Python, or the model?",
            "Look at genai/agents/simple_agent.py::build_agent; then compare with tests/solutions/own_tool.py.",
        ),
        check=agents.find_own_tool,
    ),
    Exercise(
        id="4.2a",
        title="Sharpen the descriptions of two tools until the model chooses the right one",
        file="genai/exercises/sharper_tool.py",
        task="The two tools work, and the model calls neither, because their descriptions say nothing. Write SHARPER "
        "without touching the tools, their names or the questions, so that more questions reach the tool that they "
        "need than with VAGUE.",
        proof="the same questions and tools with other descriptions, and more questions at their tool",
        hints=(
            "Read the two descriptions as the model does. What would you call for a question about miles?",
            "Which words of the questions stand in none of the descriptions?",
            "A good description says what comes in, what comes out, and when not to use it. Which of these is missing?",
            "Look at genai/agents/multi_tool_agent.py::document_tools; then compare with "
            "tests/solutions/sharper_tool.py.",
        ),
        check=agents.find_sharper_tool,
    ),
    Exercise(
        id="4.3a",
        title="Write a scorer of your own for whole conversations",
        file="genai/exercises/repeated_answers.py",
        task="Two people talk to the desk of a library, each in a session. Write a scorer that gets a whole session, "
        "and says True when an answer of the assistant in it is the same as an earlier one. Name it repeats_itself, "
        "and let MLflow store what it says about both sessions.",
        proof="two sessions, each with a feedback repeats_itself that is true of its answers",
        hints=(
            "Can you tell from one turn alone that an answer is a repetition?",
            "A scorer's parameters say what it is given: inputs, outputs, trace. Which one stands for all turns of a "
            "conversation?",
            "A conversation has one score and several traces. On which of them does MLflow keep it?",
            "Look at genai/agents/conversational_agent.py::score; then compare with "
            "tests/solutions/repeated_answers.py.",
        ),
        check=agents.find_session_scorer,
    ),
    Exercise(
        id="4.4a",
        title="Give up a slow tool in time, and answer all the same",
        file="genai/exercises/slow_tool.py",
        task="The warehouse needs four seconds for each question, and nobody waits that long. Give it half a second. "
        "The tool's span must show the exception, and the agent must still answer, saying that the tool failed.",
        proof="a tool that was given up in time, with its exception, in a request that was answered",
        hints=(
            "Open the trace. Which span takes the time, and who waits for it?",
            "Python cannot stop a function that hangs. Who can go on without it, and where does it stay?",
            "An exception that leaves the tool ends the request. Where must it be caught, so that its span is red and "
            "the model reads what happened?",
            "Look at utils/time_limits.py::within and genai/deployment/order_agent.py::say_what_failed; then compare "
            "with tests/solutions/slow_tool.py.",
        ),
        check=agents.find_time_limit,
    ),
)
