"""People who want something from an agent, each with the facts that a conversation has to bring to light."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import InputError
from utils.evaluation import is_declined

USERS = Path(__file__).resolve().parent / "data" / "simulated_users.jsonl"
OPTIONAL = ("persona", "simulation_guidelines")
CURE = 'write {"goal": "find out …", "facts": ["60 seconds | a minute"]}, one object a line'


@dataclass(frozen=True)
class SimulatedUser:
    """A test case of MLflow's ConversationSimulator, and what it does not get to see: the facts.

    facts: words of which each has to stand in some answer, other wordings behind ` | `; none where the agent can only
    say that it does not know.
    """

    goal: str
    facts: tuple[str, ...]
    persona: str | None = None
    simulation_guidelines: str | None = None

    def test_case(self) -> dict[str, Any]:
        """What the simulator is given."""
        return {"goal": self.goal} | {name: value for name in OPTIONAL if (value := getattr(self, name))}

    def missing(self, answers: list[str]) -> list[str]:
        """The facts that no answer holds; where there is none to find, that no answer declined."""
        if not self.facts:
            return [] if any(map(is_declined, answers)) else ["that it does not know"]
        return [fact for fact in self.facts if not any(is_said(fact, answer) for answer in answers)]

    @property
    def wanted(self) -> int:
        return max(1, len(self.facts))


def is_said(fact: str, answer: str) -> bool:
    """Whether one wording of a fact (`2 nodes | two nodes`) stands in the answer, as whole words, in any case."""
    plain = " ".join(answer.split())
    wordings = (re.escape(" ".join(wording.split())) for wording in fact.split(" | "))
    return any(re.search(rf"(?<!\w){wording}(?!\w)", plain, re.IGNORECASE) for wording in wordings)


def load_users(path: Path | None = None) -> list[SimulatedUser]:
    """The users written for this project, or a learner's own JSONL file.

    Args:
        path: rows with `goal` and `facts` (a list, empty where the agent has to decline); `persona` and
            `simulation_guidelines` are optional texts.

    Raises:
        InputError: no such file, no row, a row that lacks something or says more, or one goal twice.
    """
    path = path or USERS
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}", "check the path; the file is JSONL in UTF-8") from error
    users = [_read_user(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not users:
        raise InputError(f"{path} holds no users", CURE)
    goals = [user.goal for user in users]
    if repeated := next((goal for goal in goals if goals.count(goal) > 1), None):
        raise InputError(f"{path}: two users have the goal {repeated[:60]!r}", "give every user a goal of their own")
    return users


def _read_user(line: str, where: str) -> SimulatedUser:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is no JSON: {error}", CURE) from error
    if not isinstance(row, dict) or not isinstance(row.get("goal"), str) or not row["goal"].strip():
        raise InputError(f"{where} has no text goal", CURE)
    facts = row.get("facts")
    if not isinstance(facts, list) or not all(isinstance(fact, str) and fact.strip() for fact in facts):
        raise InputError(f"{where}: facts is no list of texts", CURE)
    if unknown := sorted(set(row) - {"goal", "facts", *OPTIONAL}):
        raise InputError(f"{where}: there is no field {unknown[0]}", f"goal, facts, {', '.join(OPTIONAL)}")
    told = {name: row[name] for name in OPTIONAL if name in row}
    if wrong := next((name for name, value in told.items() if not isinstance(value, str)), None):
        raise InputError(f"{where}: {wrong} is no text", f'write {wrong} between double quotes (")')
    return SimulatedUser(row["goal"].strip(), tuple(facts), **told)
