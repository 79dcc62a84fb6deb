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
)
