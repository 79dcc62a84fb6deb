"""What a learner should know, show and have ready: learning goals, success criteria, and the production checklist.

What MLflow can prove has evidence and is ticked from the store. What only the learner can know has none and is a
question. A goal whose lesson is not in the manifest is still to come; the lesson brings its evidence or its question.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from utils import curriculum
from utils.curriculum import Evidence

if TYPE_CHECKING:
    from utils.progress import Store

KINDS = ("learning", "criterion", "production")


@dataclass(frozen=True)
class Goal:
    """One line of a list.

    kind: `learning`, `criterion` or `production`. lesson: its number, or None where no lesson is meant. command: what
    makes it true, or what shows what is asked; empty while the lesson is to come.
    """

    text: str
    module: int
    kind: str
    lesson: str | None = None
    evidence: Evidence | None = None
    command: str = ""

    @property
    def to_come(self) -> bool:
        return self.lesson is not None and self.lesson not in {entry.number for entry in curriculum.LESSONS}

    @property
    def asked(self) -> bool:
        """Only the learner knows."""
        return self.evidence is None and not self.to_come


def is_reached(goal: Goal, store: "Store | None") -> bool:
    """Whether the store proves it; never for what is asked or to come."""
    from utils.progress import COUNTERS, Finding

    if store is None or goal.to_come or goal.evidence is None or goal.lesson is None:
        return False
    entry = curriculum.lesson(goal.lesson)
    return Finding(goal.evidence, COUNTERS[goal.evidence.kind](store, entry, goal.evidence)).proved


def goals_of(kind: str, module: int | None = None) -> list[Goal]:
    """The goals of a kind, of one module or of all."""
    return [goal for goal in GOALS if goal.kind == kind and module in (None, goal.module)]


def _asked(kind: str, lesson: str, text: str, command: str) -> Goal:
    return Goal(text, int(lesson[0]), kind, lesson, None, command)


def _proved(kind: str, lesson: str, text: str, command: str, evidence: Evidence) -> Goal:
    return Goal(text, int(lesson[0]), kind, lesson, evidence, command)


def _later(kind: str, lesson: str, text: str) -> Goal:
    return Goal(text, int(lesson[0]), kind, lesson)


def _trace(name: str, further: str, minimum: int = 1) -> Evidence:
    return Evidence("trace", f"{name}: {further}", minimum, filter=f"trace.name = '{name}' AND {further}")


def _run(further: str, minimum: int = 1) -> Evidence:
    return Evidence("run", further, minimum, filter=further)


TRACK = "uv run mlflow-tracking-example"
LINEAGE = "uv run mlflow-logged-model-lineage"
MIGRATION = "uv run mlflow-migration-check"
SPANS = "uv run mlflow-manual-spans"
FRAMEWORKS = "uv run mlflow-compare-frameworks"
PROCESSES = "uv run mlflow-distributed-tracing"
OTEL = "uv run mlflow-opentelemetry"
REGISTRY = "uv run mlflow-prompt-registry"
ITERATE = "uv run mlflow-prompt-iteration"
SEARCH = "uv run mlflow-prompt-search"
OLLAMA = "uv run mlflow-spark-langchain-ollama --llm-type mock"
ANY = "uv run mlflow-spark-langchain-multiple"
DOCUMENTS = "uv run mlflow-sample-documents"
RAG = "uv run mlflow-spark-llamaindex-rag"

LEARNING = (
    _asked("learning", "1.1", "Can you say what belongs to a run, and what to a logged model?",
           "uv run mlflow-learn hint 1.1"),
    _asked("learning", "1.1", "Can you find the best model by a metric without opening a page?",
           "uv run mlflow-learn hint 1.1 2"),
    _asked("learning", "1.2", "Can you find the model, prompt version, data and commit behind a trace?",
           "uv run mlflow-learn hint 1.2"),
    _asked("learning", "1.3", "Can you find the calls of MLflow 2.x in your own files before they fail?",
           "uv run mlflow-migration-check --check ."),
    _asked("learning", "2.1", "Can you say in which process autolog has to be switched on, and why?",
           "uv run mlflow-learn hint 2.1"),
    _asked("learning", "2.2", "Can you tell from a trace which call was slow, which failed, and its tokens?",
           "uv run mlflow-learn hint 2.2"),
    _asked("learning", "2.2", "Who should write the spans of your own job, the workers or the driver, and why?",
           "uv run mlflow-learn hint 2.2 2"),
    _asked("learning", "2.3", "Which steps of your own code deserve a span, and of which type?",
           "uv run mlflow-learn hint 2.3"),
    _asked("learning", "2.5", "Can you say when the spans of a second process are lost, and how they are not?",
           "uv run mlflow-learn hint 2.5 2"),
    _asked("learning", "3.1", "Can you change a prompt and roll it back without touching code?",
           "uv run mlflow-learn hint 3.1 2"),
    _asked("learning", "3.2", "Can you tell a better prompt from a lucky one?", "uv run mlflow-learn hint 3.2 2"),
    _later("learning", "3.5", "Two prompts share live traffic until the difference is known."),
    _later("learning", "4.1", "An agent's answer is explained step by step from its trace."),
    _later("learning", "4.2", "Which tools help is known from measurements, not from the list of tools."),
    _later("learning", "4.3", "An agent remembers a conversation, also after a restart."),
    _later("learning", "4.4", "An agent fails in a way that its user and its trace both show."),
    _asked("learning", "5.1", "Can you say why a retriever is judged by questions whose document is known before?",
           "uv run mlflow-learn hint 5.1"),
    _asked("learning", "5.2", "Can you tell from a trace whether the retriever or the model was at fault?",
           "uv run mlflow-learn hint 5.2"),
    _asked("learning", "5.2", "What would a metric be worth that asks only whether there is a source?",
           "uv run mlflow-learn hint 5.2 2"),
    _later("learning", "5.3", "Chunk size and overlap are chosen by measurement, with an interval."),
    _later("learning", "5.5", "An index of many documents is kept up to date without building it again."),
    _later("learning", "6.1", "Evaluation rows are kept so that last month's score can be computed again."),
    _later("learning", "6.3", "A difference between three prompts is corrected for having looked three times."),
    _later("learning", "6.4", "A judge is trusted as far as it agrees with people, and no further."),
    _later("learning", "6.7", "A change that lowers quality does not get merged."),
    _later("learning", "7.2", "A version is promoted and rolled back by moving one alias."),
    _later("learning", "7.4", "It is known when traces are lost, and how they are not."),
    _later("learning", "7.5", "A user's complaint ends as a row that the next version is tested on."),
    _later("learning", "8.1", "Several agents work on one request within one trace and one budget."),
    _later("learning", "8.4", "An optimiser's prompt is used only when it wins on rows it has not seen."),
    _later("learning", "8.6", "Cost is saved at a quality that was chosen beforehand."),
)  # fmt: skip

CRITERIA = (
    _proved("criterion", "1.1", "Three regressors are runs, each with its error on held-out data.",
            TRACK, _run("metrics.rmse > 0", 3)),
    _proved("criterion", "1.1", "Each of them is a logged model to which its error is linked.",
            TRACK, Evidence("model", "with its error", 3, filter="metrics.rmse > 0")),
    _proved("criterion", "1.1", "Three datasets are known by name and digest: autolog's, training and test.",
            TRACK, Evidence("dataset", "three datasets", 3)),
    _proved("criterion", "1.1", "A forest of another depth stands beside the first one (Change it, 1.1).",
            TRACK, _run("params.max_depth != '5'")),
    _proved("criterion", "1.2", "Four checkpoints are logged models, each with its accuracy on the same reviews.",
            LINEAGE, Evidence("model", "with its accuracy", 4, filter="metrics.accuracy >= 0")),
    _proved("criterion", "1.2", "The best checkpoint was chosen by a search and its score is in the run.",
            LINEAGE, _run("metrics.best_accuracy >= 0")),
    _proved("criterion", "1.3", "Each 2.x pattern in an example is found, and none after the move.",
            MIGRATION, _run("metrics.findings_in_old_file > 0 AND metrics.findings_in_new_file = 0")),
    _proved("criterion", "2.1", "One trace holds the whole job, with chat model spans from the workers.",
            OLLAMA, _trace("spark-sentiment", "span.type = 'CHAT_MODEL'")),
    _asked("criterion", "2.1", "Is llm_spans the same number as llm_calls in your run of 2.1?", OLLAMA),
    _proved("criterion", "2.1", "Accuracy and macro-F1 of the job stand in its run.",
            OLLAMA, _run("metrics.accuracy >= 0 AND metrics.macro_f1 >= 0")),
    _proved("criterion", "2.1", "The run is linked to the version of the prompt that it used.",
            OLLAMA, _run("tags.`mlflow.linkedPrompts` LIKE '%sentiment%'")),
    _proved("criterion", "2.1", "Each review has a span of the lesson's own (Change it, 2.1).",
            f"{OLLAMA} --spans", _trace("spark-sentiment", "span.name = 'review'")),
    _proved("criterion", "2.2", "The same job ran with spans that the driver wrote.",
            ANY, _run("params.span_source = 'driver'")),
    _proved("criterion", "2.2", "The same job ran with spans of autolog, and with the OpenAI SDK.",
            f"{ANY} --span-source autolog --client openai",
            _run("params.span_source = 'autolog' AND params.client = 'openai'")),
    _proved("criterion", "2.2", "Calls that failed are spans with status ERROR (Change it, 2.2).",
            f'{ANY} --mock-faults "429:0.3"', _trace("spark-sentiment-any", "span.status = 'ERROR'")),
    _proved("criterion", "2.3", "One trace has a step of each kind, found again by its type.",
            SPANS, _trace("answer-question", "span.type = 'RERANKER'")),
    _proved("criterion", "2.3", "A tool's exception is on its span, and the trace is OK all the same.",
            SPANS, _trace("answer-question", "span.status = 'ERROR' AND trace.status = 'OK'")),
    _proved("criterion", "2.4", "The span trees of four frameworks stand side by side, each with one root.",
            FRAMEWORKS, _run("params.frameworks LIKE '%openai, langchain, langgraph, llamaindex%'")),
    _proved("criterion", "2.5", "A trace holds the halves of both processes, and nothing is lost.",
            PROCESSES, _run("metrics.complete_traces >= 1 AND status = 'FINISHED'")),
    _proved("criterion", "2.6", "The same spans are in MLflow and in an OpenTelemetry collector.",
            OTEL, _run("metrics.collected_spans >= 2")),
    _proved("criterion", "3.1", "Two versions of a prompt were scored on the same reviews, each in a run of its own.",
            REGISTRY, _run("params.prompt_version != '0' AND metrics.accuracy >= 0", 2)),
    _proved("criterion", "3.1", "An alias was released, rolled back and released again.",
            REGISTRY, _run("tags.released_version != ''")),
    _proved("criterion", "3.2", "The gain on the same rows is known with its interval and its p.",
            ITERATE, _run("metrics.gain > -1 AND metrics.p >= 0")),
    _asked("criterion", "3.2", "Did the alias move only because the gain was real?", ITERATE),
    _later("criterion", "3.3", "The best combination of template variables is known from nested runs."),
    _proved("criterion", "3.4", "The runs and traces that used a prompt version are found from it.",
            SEARCH, _run("metrics.runs_found > 0 AND metrics.traces_found > 0")),
    _later("criterion", "3.5", "Users stayed with their variant, and the winner was promoted by a stop rule."),
    _later("criterion", "4.1", "A question to the agent is one trace with its model and tool calls."),
    _later("criterion", "4.2", "Right tool, right arguments and right answer are scored apart."),
    _later("criterion", "4.3", "A conversation is one session that goes on after a restart."),
    _later("criterion", "4.4", "Time to first token, retries, a fallback and an approval are visible in traces."),
    _later("criterion", "4.5", "A follow-up question is answered with sources, or declined."),
    _proved("criterion", "5.1", "At least twelve documents are written and counted.",
            DOCUMENTS, _run("metrics.documents >= 12")),
    _proved("criterion", "5.1", "The questions are a dataset with a digest.",
            DOCUMENTS, Evidence("dataset", "the questions")),
    _proved("criterion", "5.2", "hit@k, MRR and nDCG@k against gold documents stand in a run.",
            RAG, _run("metrics.hit_at_k >= 0 AND metrics.mrr >= 0 AND metrics.ndcg_at_k >= 0")),
    _proved("criterion", "5.2", "Twenty questions have a trace each, with a retriever span.",
            RAG, _trace("rag-question", "span.type = 'RETRIEVER'", 20)),
    _proved("criterion", "5.2", "A question was asked by itself (Change it, 5.1).",
            f'{RAG} --query "What erases a deleted run for good?"', _run("metrics.questions_asked = 1")),
    _proved("criterion", "5.2", "Retrieval was measured with a single passage (Change it, 5.2).",
            f"{RAG} --top-k 1", _run("params.top_k = '1'")),
    _proved("criterion", "5.2", "Retrieval was measured with another chunk size.",
            f"{RAG} --chunk-size 64 --chunk-overlap 10", _run("params.chunk_tokens != '512'")),
    _asked("criterion", "5.2", "Did the lesson answer a question about documents of your own, from the right one?",
           f'{RAG} --docs-path my_documents --query "What does the contract say about notice?"'),
    _later("criterion", "5.3", "Sizes and overlaps are compared in nested runs, and the winner has an interval."),
    _later("criterion", "5.4", "The documentation of the installed packages answers questions about them."),
    _later("criterion", "5.5", "A second run indexes only the files that changed."),
    _later("criterion", "6.1", "A dataset holds expectations, and its earlier version can be loaded by digest."),
    _later("criterion", "6.2", "Similarity, correctness, relevance and faithfulness are known by chunk size."),
    _later("criterion", "6.3", "Three prompts are compared on the same rows, all pairs."),
    _later("criterion", "6.4", "A judge's agreement with people stands in a run."),
    _later("criterion", "6.5", "Quality, cost and latency of several backends are one picture."),
    _later("criterion", "6.6", "Whole conversations are scored, real and simulated ones."),
    _later("criterion", "6.7", "The gate refuses a worse version and passes an equal one."),
    _later("criterion", "7.1", "A registered agent was loaded in a fresh process and asked."),
    _later("criterion", "7.3", "p95 was halved and throughput doubled, measured before and after."),
    _later("criterion", "7.6", "A planted fault fires its alert, which names the traces."),
    _later("criterion", "7.7", "The cost by user, prompt version and model agrees with MLflow's own."),
    _later("criterion", "7.9", "Scores arrive by themselves on a sample of new traces."),
    _later("criterion", "8.2", "A job that was killed went on without asking again what was answered."),
    _later("criterion", "8.3", "Accuracy is known by the share of rows that the model sees."),
    _later("criterion", "8.4", "The gain of an optimised prompt on held-out rows has an interval."),
    _later("criterion", "8.5", "The false-hit rate of the cache is known at its threshold."),
    _later("criterion", "8.6", "The operating point was chosen on one half of the rows and reported on the other."),
    _later("criterion", "8.7", "The best checkpoint of a fine-tune is the registered one."),
    _later("criterion", "8.8", "The same agent ran in three frameworks on the same tasks."),
)  # fmt: skip

CHECKLIST = (
    Goal("Is the store a database that is backed up, and is there room for its growth?", 1, "production",
         command="uv run mlflow-learn doctor"),
    _proved("production", "2.1", "The prompt of the job is a version in the registry, not a text in the code.",
            OLLAMA, Evidence("prompt", "the prompt of the job", name="sentiment")),
    _proved("production", "2.1", "Calls in other processes are in the trace, too.",
            OLLAMA, _trace("spark-sentiment", "span.type = 'CHAT_MODEL'")),
    _proved("production", "2.2", "Calls that fail are visible in the trace.",
            f'{ANY} --mock-faults "429:0.3"', _trace("spark-sentiment-any", "span.status = 'ERROR'")),
    _proved("production", "2.2", "A large job traces a sample, and its run says which share.",
            f"{ANY} --num-samples 1000 --trace sample",
            _run("params.trace_share != '1.0' AND params.trace_share != '0.0'")),
    _proved("production", "5.2", "Retrieval is measured against gold documents.",
            RAG, _run("metrics.hit_at_k >= 0")),
    _later("production", "6.7", "A gate in CI stops a change that lowers quality."),
    _later("production", "7.1", "Prompt, retriever and settings are one version that loads in a fresh process."),
    _later("production", "7.2", "A version is promoted only after its tests, and rolled back in one step."),
    _later("production", "7.3", "Keys, rate limits, body limits and time limits stand before the agent."),
    _later("production", "7.3", "A stop finishes what is running and flushes its traces."),
    _later("production", "7.4", "Personal data is masked before it reaches the store."),
    _later("production", "7.4", "Sampling and retention keep the store at a size that was chosen."),
    _later("production", "7.5", "Feedback lands on its trace, and failing traces become test rows."),
    _later("production", "7.6", "Latency, errors, cost and quality have alerts that were seen to fire."),
    _later("production", "7.7", "There is a budget, and something happens when it is used up."),
    _later("production", "7.8", "A batch job that is killed goes on where it stopped."),
    _later("production", "7.9", "The tracking server asks for an account."),
)  # fmt: skip

GOALS: tuple[Goal, ...] = (*LEARNING, *CRITERIA, *CHECKLIST)
