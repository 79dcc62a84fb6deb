"""What the lessons share. Importing it sets the quiet, offline-safe defaults of MLflow's environment.

MLflow reads these variables when it is imported, so they are set here, in the package that every command imports first
(MLflow itself imports `utils.lesson_context` through an entry point, so `mlflow ui` gets them too). A value that the
user has set wins.
"""

import logging
import os

_QUIET_DEFAULTS = {
    # MLflow and its companions would otherwise contact public hosts: usage statistics, model prices.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_MODEL_CATALOG_URI": "",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    # log_model would otherwise run `uv export` in this uv project at every call.
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_LOG_UV_FILES": "false",
    # It would list the names of environment variables, OPENAI_API_KEY among them, at each log_model.
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    # Spans are written in batches of 5 by default, and each write reads the whole trace again: far too often for jobs
    # with thousands of calls. Commands flush before they end, so a longer wait loses nothing.
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_SPAN_BATCH_SIZE": "512",
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_INTERVAL_MILLIS": "2000",
    # A thread that stores a span holds two connections. MLflow's pool has 15 for all threads: with 16 of them storing
    # at once, some waited 30 seconds for a second connection, and their spans were lost without a word.
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "128",
    # MLflow's records of its own housekeeping, which no lesson talks about.
    "GIT_PYTHON_REFRESH": "quiet",
    "TQDM_DISABLE": "1",
}

for _name, _value in _QUIET_DEFAULTS.items():
    os.environ.setdefault(_name, _value)

# It would announce the pool above at every store that is opened.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
