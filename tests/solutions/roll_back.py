"""Exercise 3.1b solved: roll a prompt back, and mark the version that failed.

Begin with:  genai/exercises/roll_back.py
Run it:      uv run python tests/solutions/roll_back.py
"""

import click
import mlflow

from utils.exercise_cli import exercise_command
from utils.prompt_utils import get_or_register

PROMPT, ALIAS = "support-greeting", "production"
GOOD = "Greet {{name}} and offer help in one sentence."
BAD = "Tell {{name}} to read the manual."


def release() -> None:
    """What happened before you came: the newer version is in production. A second time it changes nothing."""
    get_or_register(PROMPT, GOOD, commit_message="A greeting")
    newer = get_or_register(PROMPT, BAD, commit_message="Shorter")
    if mlflow.genai.load_prompt(f"prompts:/{PROMPT}@{ALIAS}", allow_missing=True, cache_ttl_seconds=0) is None:
        mlflow.genai.set_prompt_alias(PROMPT, ALIAS, newer.version)


def serve(name: str) -> str:
    """The next call: a run that is linked to the version in use."""
    with mlflow.start_run(run_name="next-call"):
        prompt = mlflow.genai.load_prompt(f"prompts:/{PROMPT}@{ALIAS}", cache_ttl_seconds=0)
        return str(prompt.format(name=name))


@exercise_command("3.1b")
def main() -> None:
    release()
    good, failed = get_or_register(PROMPT, GOOD), get_or_register(PROMPT, BAD)
    mlflow.genai.set_prompt_alias(PROMPT, ALIAS, good.version)
    mlflow.genai.set_prompt_version_tag(PROMPT, failed.version, "status", "withdrawn")
    click.echo(serve("Ada"))


if __name__ == "__main__":
    main()
