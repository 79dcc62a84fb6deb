"""Module 3: Prompts."""

from utils.goals.entries import Goal, asked, proved, run

REGISTRY = "uv run mlflow-prompt-registry"
ITERATE = "uv run mlflow-prompt-iteration"
VARIABLES = "uv run mlflow-prompt-variables"
SEARCH = "uv run mlflow-prompt-search"
AB_TEST = "uv run mlflow-prompt-ab-test"

LEARNING = (
    asked("learning", "3.1", "Can you change a prompt and roll it back without touching code?",
          "uv run mlflow-learn hint 3.1 2"),
    asked("learning", "3.2", "Can you tell a better prompt from a lucky one?", "uv run mlflow-learn hint 3.2 2"),
    asked("learning", "3.3", "Can you say which values of a template are really worse, and which only look so?",
          "uv run mlflow-learn hint 3.3 2"),
    asked("learning", "3.5", "Can you say why a test that is looked at every day needs a stricter level each day?",
          "uv run mlflow-learn hint 3.5 2"),
)  # fmt: skip

CRITERIA = (
    proved("criterion", "3.1", "Two versions of a prompt were scored on the same reviews, each in a run of its own.",
           REGISTRY, run("params.prompt_version != '0' AND metrics.accuracy >= 0", 2)),
    proved("criterion", "3.1", "An alias was released, rolled back and released again.",
           REGISTRY, run("tags.released_version != ''")),
    proved("criterion", "3.2", "The gain on the same rows is known with its interval and its p.",
           ITERATE, run("metrics.gain > -1 AND metrics.p >= 0")),
    asked("criterion", "3.2", "Did the alias move only because the gain was real?", ITERATE),
    proved("criterion", "3.3", "The best combination of template variables is known from nested runs.",
           VARIABLES, run("metrics.best_useful >= 0 AND metrics.not_told_apart >= 0")),
    proved("criterion", "3.4", "The runs and traces that used a prompt version are found from it.",
           SEARCH, run("metrics.runs_found > 0 AND metrics.traces_found > 0")),
    proved("criterion", "3.5", "The winner of a split by user was promoted by a stop rule.",
           AB_TEST, run("tags.winner = 'candidate' AND metrics.in_use >= 2")),
    asked("criterion", "3.5", "Did every user of your test see one variant only?", AB_TEST),
)  # fmt: skip

CHECKLIST: tuple[Goal, ...] = ()
