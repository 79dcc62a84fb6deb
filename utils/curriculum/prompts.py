"""Module 3: Prompts."""

from utils.curriculum.entries import Evidence, Lesson

LESSONS: tuple[Lesson, ...] = (
    Lesson(
        number="3.1",
        title="Register a prompt, improve it, roll it back",
        command="mlflow-prompt-registry",
        file="genai/prompt_registry_example.py",
        page="prompts",
        look="review-label: compare its two newest versions, and see where the alias production points",
        docs="https://mlflow.org/docs/latest/genai/prompt-registry/",
        shows=(
            "mlflow.genai.register_prompt",
            "mlflow.genai.load_prompt",
            "mlflow.genai.set_prompt_alias",
            "mlflow.start_run",
            "mlflow.openai.autolog",
        ),
        evidence=(
            Evidence("run", "two versions scored on the same reviews", minimum=2, filter="metrics.accuracy >= 0"),
            Evidence("trace", "the calls of each version", minimum=2),
            Evidence("prompt", "the versions of review-label", name="review-label"),
            Evidence("prompt", "the chat prompt with its schema", name="review-label-chat"),
        ),
        hints=(
            "If a version could be changed, what would a run from last month tell you about its prompt?",
            "What does your program ask for: a version, or an alias? What follows for a roll-back?",
            "Another process moves the alias. How long may yours go on with the old wording, and who decides that?",
            "Look at genai/prompt_registry_example.py::move_alias and ::read_through_cache.",
        ),
    ),
    Lesson(
        number="3.2",
        title="Improve a prompt from what failed, and believe only a real gain",
        command="mlflow-prompt-iteration",
        file="genai/prompts/compare_versions.py",
        page="evaluation-runs",
        look="select version-1 and version-2 and press Compare: which rows changed sides?",
        docs="https://mlflow.org/docs/latest/genai/prompt-registry/evaluate-prompts/",
        shows=(
            "mlflow.genai.evaluate",
            "mlflow.genai.scorer",
            "mlflow.genai.load_prompt",
            "mlflow.genai.set_prompt_alias",
            "mlflow.genai.set_prompt_tag",
            "mlflow.log_metrics",
        ),
        evidence=(
            Evidence(
                "run", "two versions evaluated on the same rows", minimum=2, filter="params.prompt_version != '0'"
            ),
            Evidence("run", "the gain with its interval and p", filter="metrics.p >= 0"),
            Evidence("trace", "a scored answer for every row", filter="trace.name = 'answer-from-passage'"),
            Evidence("prompt", "both versions of the prompt", name="passage-answer"),
        ),
        hints=(
            "Version 2 got more rows right. On how many rows do the two versions differ at all?",
            "If the two were equally good, how often would a coin give you this many rows for one side?",
            "The gain is not shown. Is the prompt no better, or were there too few rows to see it?",
            "Look at utils/paired_decision.py::decide and genai/prompts/compare_versions.py::release.",
        ),
    ),
    Lesson(
        number="3.3",
        title="A template with several variables",
        command="mlflow-prompt-variables",
        file="genai/prompts/template_variables.py",
        page="runs",
        look="open prompt-variables: its combinations are nested runs, its heat map is under Artifacts",
        docs="https://mlflow.org/docs/latest/genai/prompt-registry/",
        shows=(
            "mlflow.genai.load_prompt",
            "mlflow.start_run",
            "mlflow.log_params",
            "mlflow.log_metrics",
            "mlflow.search_runs",
            "mlflow.log_figure",
        ),
        evidence=(
            Evidence("run", "a nested run for each combination", minimum=2, filter="params.tone != ''"),
            Evidence("run", "the best combination", filter="metrics.best_useful >= 0"),
            Evidence("trace", "a trace for each combination", minimum=2, filter="trace.name = 'score-combination'"),
            Evidence("prompt", "the prompt with its variables", name="desk-answer"),
        ),
        hints=(
            "Twelve combinations were scored. How would you find the best one without reading the output?",
            "One value is worse with every partner, another only with some. Where does the heat map show that?",
            "The best is ahead by one question. Would it be the best again with other questions?",
            "Look at genai/prompts/template_variables.py::ranked_runs and ::not_told_apart.",
        ),
    ),
    Lesson(
        number="3.4",
        title="Find prompts, and what used a version",
        command="mlflow-prompt-search",
        file="genai/prompts/search_prompts.py",
        page="prompts",
        look="desk-refund: two versions, and the traces that used each",
        docs="https://mlflow.org/docs/latest/genai/prompt-registry/manage-prompt-lifecycles/",
        shows=(
            "mlflow.genai.search_prompts",
            "mlflow.genai.set_prompt_tag",
            "mlflow.genai.set_prompt_alias",
            "mlflow.genai.load_prompt",
            "mlflow.search_runs",
            "mlflow.search_traces",
        ),
        evidence=(
            Evidence("run", "what used a version, counted", filter="metrics.traces_found > 0"),
            Evidence("trace", "answers of the help desk", minimum=3, filter="trace.name = 'desk-answer'"),
            Evidence("prompt", "a prompt with two versions", name="desk-refund"),
        ),
        hints=(
            "You are about to withdraw a version. Whom would you have to ask whether they use it?",
            "Where is the link written down: at the prompt, or at the run and the trace?",
            "A thousand prompts do not fit one answer. What tells you that there is another page?",
            "Look at genai/prompts/search_prompts.py::find_usage and ::pages.",
        ),
    ),
)
