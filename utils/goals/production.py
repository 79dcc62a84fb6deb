"""Module 7: Production."""

from utils.goals.entries import asked, proved, run, trace

REGISTER = "uv run mlflow-register-agent"
PROMOTE = "uv run mlflow-promote-agent"
SERVE = "uv run mlflow-serve-agent"
BATCH = "uv run mlflow-batch-inference"
ONLINE = "uv run mlflow-online-scoring"
RESUMED = f"{BATCH} --num-rows 5000 --output my_batch --resume"
MONITOR = "uv run mlflow-monitor"
COSTS = "uv run mlflow-track-costs"
TRACING = "uv run mlflow-production-tracing"
FEEDBACK = "uv run mlflow-collect-feedback"

LEARNING = (
    asked("learning", "7.1", "Can you name everything that would have to stay the same for an answer to come again?",
          "uv run mlflow-learn hint 7.1 2"),
    proved("learning", "7.2", "A version is promoted and rolled back by moving one alias.",
           PROMOTE, run("metrics.promoted >= 1 AND metrics.rollback_ms > 0")),
    asked("learning", "7.3", "Do you know who waits for whom in your service, and what a stop would lose?",
          "uv run mlflow-learn hint 7.3 2"),
    proved("learning", "7.4", "It is known when traces are lost, and how they are not.",
           TRACING, run("metrics.lost_kill_9 > 0 AND metrics.lost_sigterm_heard = 0")),
    proved("learning", "7.5", "A user's complaint ends as a row that the next version is tested on.",
           FEEDBACK, run("metrics.failures > 0 AND metrics.complaints_mended >= 0")),
)  # fmt: skip

CRITERIA = (
    proved("criterion", "7.1", "A registered agent was loaded in a fresh process and asked.",
           REGISTER, run("metrics.loaded_in_fresh_process >= 1")),
    proved("criterion", "7.2", "A candidate that was behind production was refused.",
           PROMOTE, run("metrics.refused >= 1")),
    proved("criterion", "7.3", "What a served answer costs stands in a run: p95, requests per second, first piece.",
           SERVE, run("metrics.p95_ms > 0 AND metrics.requests_per_second > 0 AND metrics.first_p50_ms > 0")),
    proved("criterion", "7.3", "An answer names the version that gave it, and its trace the caller.",
           SERVE, trace("answer", "tags.agent_version LIKE '%' AND metadata.`mlflow.trace.user` = 'ada'")),
    proved("criterion", "7.4", "A message reached the model, and its address, phone, card and key no column.",
           TRACING, run("metrics.masked >= 4")),
    proved("criterion", "7.5", "A prompt from complaints has its gain on other rows, with an interval.",
           FEEDBACK, run("metrics.gain_low > -1 AND metrics.gain_high <= 1")),
    proved("criterion", "7.6", "A planted fault fires its alert, which names the traces.",
           MONITOR, run("metrics.planted_found >= 4 AND metrics.newly_scored > 0")),
    proved("criterion", "7.7", "The cost by user, prompt version and model agrees with MLflow's own.",
           COSTS, run("metrics.mlflow_priced > 0 AND metrics.cost_usd > 0")),
    proved("criterion", "7.8", "The run of a batch names the version that answered, and no row of the file is lost.",
           BATCH, run("metrics.rows > 0 AND metrics.lost_rows = 0 AND params.version LIKE '%'")),
    proved("criterion", "7.9", "Scores arrive by themselves on a sample of new traces.",
           ONLINE, run("metrics.scored > 0 AND metrics.traces > 0 AND params.sample_rate LIKE '0.%'")),
    proved("criterion", "7.9", "The gateway stops calls when their budget is used up, and says so.",
           ONLINE, run("metrics.calls_before_budget > 0 AND metrics.over_budget_status = 429")),
)  # fmt: skip

CHECKLIST = (
    proved("production", "7.1", "Prompt, retriever and settings are one version that loads in a fresh process.",
           REGISTER, trace("predict", "prompt = 'docs-agent-answer/1'")),
    proved("production", "7.2", "A version is promoted only after its tests, and rolled back in one step.",
           PROMOTE, run("metrics.promoted >= 1 AND metrics.rollback_ms > 0")),
    proved("production", "7.3", "Keys, rate limits, body limits and time limits stand before the agent.",
           SERVE, run("metrics.guards >= 10")),
    proved("production", "7.3", "A stop finishes what is running and flushes its traces.",
           SERVE, run("metrics.cut_off = 0 AND metrics.traced > 0")),
    proved("production", "7.4", "Personal data is masked before it reaches the store.",
           TRACING, run("metrics.masked > 0")),
    proved("production", "7.4", "Sampling and retention keep the store at a size that was chosen.",
           TRACING, run("metrics.sampled_share > 0 AND metrics.deleted > 0")),
    proved("production", "7.5", "Feedback lands on its trace, and failing traces become test rows.",
           FEEDBACK, run("metrics.thumbs_down > 0 AND metrics.rows > 0")),
    proved("production", "7.6", "Latency, errors, cost and quality have alerts that were seen to fire.",
           MONITOR, run("metrics.planted_found >= 4")),
    proved("production", "7.7", "There is a budget, and something happens when it is used up.",
           COSTS, run("metrics.refused > 0 AND metrics.budget_alert >= 1")),
    proved("production", "7.8", "A batch job that is killed goes on where it stopped.",
           RESUMED, run("metrics.kept_texts > 0 AND metrics.calls > 0 AND metrics.lost_rows = 0 "
                        "AND metrics.asked_twice = 0")),
    proved("production", "7.9", "The tracking server asks for an account.",
           ONLINE, run("metrics.refused_401 >= 2 AND metrics.refused_403 >= 2")),
)  # fmt: skip
