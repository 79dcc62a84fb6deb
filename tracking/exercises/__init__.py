import utils  # noqa: F401  MLflow reads its environment defaults at import, so they come first
