"""Module 1: Fundamentals."""

from utils.exercise_checks import fundamentals
from utils.exercises.entries import Exercise

EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        id="1.1a",
        title="Log a regressor of your own, and link its score to the data",
        file="tracking/exercises/own_regressor.py",
        task="Train a regressor of your own in place of the baseline, and log it as a model of the run. Give its rmse "
        "the model and the held-out dataset, so that the number is found from both.",
        proof="a logged model of your own, and its rmse on data that it was not trained on",
        hints=(
            "A run has a metric rmse. What would a reader need besides, to know whose it is and on which data?",
            "log_model returns what it logged. Which of its attributes does log_metrics ask for?",
            "MLflow refuses to store types that it does not know. What does its message tell you to pass?",
            "Look at tracking/simple_tracking_basic.py::train_one; then compare with tests/solutions/own_regressor.py.",
        ),
        check=fundamentals.find_own_regressor,
    ),
    Exercise(
        id="1.1b",
        title="Log checkpoints of one model, find the best and tag it",
        file="tracking/exercises/best_checkpoint.py",
        task="Log the model at every stage as a checkpoint with its step, and its rmse with it. Then ask MLflow which "
        "checkpoint of this run has the lowest rmse, and give that one the tag best = true.",
        proof="at least three checkpoints of one run with their steps, and the tag on the best of them",
        hints=(
            "More trees fit the training data ever better. At which stage would you stop, and how do you know?",
            "log_model and log_metrics both take a step. What else makes a metric a checkpoint's own?",
            "search_logged_models can order by a metric. Which filter keeps checkpoints of earlier tries out?",
            "Look at tracking/simple_tracking_basic.py::best_model; then compare with "
            "tests/solutions/best_checkpoint.py.",
        ),
        check=fundamentals.find_best_checkpoint,
    ),
)
