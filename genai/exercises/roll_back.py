"""3.1b Roll a prompt back, and mark the version that failed.

Two versions are registered, and the alias production points at the newer one, which users complain about. Point it back
at the older one, tag the newer one status = withdrawn, and show by a run what the next call uses.

Run it:   uv run python genai/exercises/roll_back.py
Check:    uv run mlflow-learn check 3.1b
Look at:  uv run mlflow ui  ->  Prompts  ->  support-greeting: its versions, their tags and the alias
Docs:     https://mlflow.org/docs/latest/genai/prompt-registry/prompt-lifecycle-with-aliases/
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
    # Your turn (1): point the alias at the older version.
    # Your turn (2): tag the newer version status = withdrawn, so that nobody releases it again by mistake.
    click.echo(serve("Ada"))


if __name__ == "__main__":
    main()
