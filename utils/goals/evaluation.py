"""Module 6: Evaluation."""

from utils.curriculum import Evidence
from utils.goals.entries import asked, proved, run, trace

DATASET = "uv run mlflow-evaluation-dataset"
RAG = "uv run mlflow-evaluate-rag"
PROMPTS = "uv run mlflow-compare-prompts"
BACKENDS = "uv run mlflow-compare-backends"
JUDGE = "uv run mlflow-custom-judge"
TALKS = "uv run mlflow-evaluate-conversation"
GATE = "uv run mlflow-quality-gate"

LEARNING = (
    asked("learning", "6.1", "Can you compute last month's score again, on last month's rows?",
          "uv run mlflow-learn hint 6.1"),
    asked("learning", "6.2", "Can you name an answer that is faithful and wrong, and one that is right and unfaithful?",
          "uv run mlflow-learn hint 6.2"),
    asked("learning", "6.3", "Can you say what three comparisons cost, and how equal means can differ on many rows?",
          "uv run mlflow-learn hint 6.3 2"),
    asked("learning", "6.4", "Can you say what a judge's kappa has to be compared with before it means something?",
          "uv run mlflow-learn hint 6.4 2"),
    asked("learning", "6.5", "Can you say which models are worth considering, and what the others would have to cost?",
          "uv run mlflow-learn hint 6.5"),
    asked("learning", "6.6", "Can you describe a conversation that failed although each of its answers is right?",
          "uv run mlflow-learn hint 6.6"),
    asked("learning", "6.7", "Can you say why a gate has to refuse what it could not measure?",
          "uv run mlflow-learn hint 6.7 2"),
)  # fmt: skip

CRITERIA = (
    proved("criterion", "6.1", "Two versions of the rows are kept and scored, each under its digest.",
           DATASET, run("params.rows_digest != ''", 2)),
    proved("criterion", "6.1", "The rows that were scored are inputs of their runs.",
           DATASET, Evidence("dataset", "the rows under their digests", 2)),
    proved("criterion", "6.2", "Similarity, correctness, relevance and faithfulness are known for three chunk sizes.",
           RAG, run("params.index = 'documents' AND metrics.similarity >= 0 AND metrics.correctness >= 0 "
                    "AND metrics.relevance >= 0 AND metrics.faithfulness >= 0", 3)),
    proved("criterion", "6.2", "Documents about something else get nearly nothing for groundedness and hit@k.",
           RAG, run("metrics.control_groundedness <= 0.1 AND metrics.control_hit <= 0.1")),
    proved("criterion", "6.2", "Twenty answers were judged, each with the passages it was made from.",
           RAG, trace("judged-question", "span.type = 'RETRIEVER'", 20)),
    proved("criterion", "6.3", "Three prompts are compared on the same rows, all pairs, corrected.",
           PROMPTS, run("metrics.pairs >= 3 AND metrics.cochran_p >= 0 AND tags.best_prompt != ''")),
    asked("criterion", "6.3", "Did you read rows that only the best prompt has right before you called it better?",
          PROMPTS),
    proved("criterion", "6.4", "A judge's agreement with people stands in a run, beside its agreement with itself.",
           JUDGE, run("metrics.`people.kappa` > -1 AND metrics.`turned.share` >= 0")),
    proved("criterion", "6.4", "A metric of your own is known for five versions, each with a run.",
           JUDGE, run("params.prompt_version != '0' AND metrics.`desk_points/mean` >= 0", 5)),
    proved("criterion", "6.5", "Quality with its interval, cost and latency are known for two models.",
           BACKENDS, run("metrics.quality_low >= 0 AND metrics.cost_usd_per_1000 >= 0 AND metrics.p50_ms > 0", 2)),
    proved("criterion", "6.5", "The models that no other beats in quality and cost are named.",
           BACKENDS, run("metrics.on_frontier >= 1 AND tags.frontier != ''")),
    asked("criterion", "6.5", "Does a real model of yours stand in the picture beside the mock's two sizes?",
          f"{BACKENDS} --candidate mock:mock-small --candidate ollama:llama3.2"),
    proved("criterion", "6.6", "Whole conversations are scored, real and simulated ones.",
           TALKS, run("metrics.real_sessions >= 1 AND metrics.simulated_sessions >= 10")),
    proved("criterion", "6.6", "It is known how often the judge of a goal agrees with the facts.",
           TALKS, run("metrics.judge_agrees_with_facts >= 0")),
    proved("criterion", "6.7", "The gate passed a version that changed nothing.",
           GATE, run("tags.`gate.verdict` = 'passed'")),
    proved("criterion", "6.7", "The gate refused a version that got worse.",
           GATE, run("tags.`gate.verdict` = 'refused' AND metrics.`gate.right.high` < 0")),
)  # fmt: skip

CHECKLIST = (
    asked("production", "6.7", "Does a gate in your CI stop a change that lowers quality?",
          "uv run mlflow-quality-gate --baseline latest"),
)  # fmt: skip
