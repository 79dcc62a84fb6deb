"""`python -m utils.learn` is `mlflow-learn`."""

from utils.learn import main

main()
