"""A program that asks MLflow's AI gateway as one account: it knows no key of any model server."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import SecretStr

from utils.errors import CheckFailed

if TYPE_CHECKING:
    import httpx
    from mlflow.entities import Trace

OVER_BUDGET = 429
SECONDS = 120  # for one call; a guardrail's judge is another call to the model


@dataclass(frozen=True)
class Caller:
    """url: of the server. user: empty for somebody without an account."""

    url: str
    user: str = ""
    password: SecretStr = field(default_factory=lambda: SecretStr(""))

    def post(self, endpoint: str, text: str) -> "httpx.Response":
        """Ask the model behind the endpoint; every status is an answer."""
        import httpx

        body = {"model": endpoint, "messages": [{"role": "user", "content": text}]}
        auth = (self.user, self.password.get_secret_value()) if self.user else None
        return httpx.post(f"{self.url}/gateway/mlflow/v1/chat/completions", json=body, auth=auth, timeout=SECONDS)

    def ask(self, endpoint: str, text: str) -> str:
        """The text of the answer.

        Raises:
            CheckFailed: the gateway has not given one.
        """
        return answer_of(self.post(endpoint, text))

    def use_up(self, endpoint: str, text: str, most: int) -> "tuple[int, httpx.Response]":
        """Ask until the budget is used up; how many calls passed, and the refusal.

        Raises:
            CheckFailed: `most` calls have not used it up.
        """
        for number in range(most):
            reply = self.post(endpoint, f"{text} (call {number})")
            if reply.status_code == OVER_BUDGET:
                return number, reply
            answer_of(reply)
        raise CheckFailed(f"{most} calls have not used up the budget", "a smaller --budget-usd")


def answer_of(reply: "httpx.Response") -> str:
    if reply.status_code != 200:
        raise CheckFailed(f"the gateway answers {reply.status_code}: {said(reply)}", "uv run mlflow-learn doctor")
    return str(reply.json()["choices"][0]["message"]["content"])


def said(reply: "httpx.Response") -> str:
    """What a refusal says, in one line."""
    try:
        body = reply.json()
    except ValueError:
        return " ".join(reply.text.split())
    told = (body.get("detail") or body.get("message") or body) if isinstance(body, dict) else body
    return " ".join(str(told).split())


def score_of(trace: "Trace", name: str) -> str | None:
    """What the server's scorer of this name says of the trace; None while it has said nothing.

    Raises:
        CheckFailed: the scorer failed, which MLflow keeps as an assessment without a value.
    """
    for assessment in trace.info.assessments:
        if assessment.name == name:
            if assessment.error:
                problem = f"the scorer {name} failed: {assessment.error.error_message}"
                raise CheckFailed(problem, "uv run mlflow-learn doctor   (is the model server still there?)")
            return str(assessment.value)
    return None
