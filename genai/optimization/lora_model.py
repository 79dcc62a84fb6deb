"""A LoRA checkpoint of lesson 8.7, as MLflow logs it: this file is the model, and is run again wherever it is loaded.

The logged model holds the adapters and the training's state; the transformer is read from where model_config says, and
refused when its weights are others. `mlflow.pyfunc.load_model(uri, model_config={"base": FOLDER})` names a new place.
"""

from pathlib import Path

import mlflow
from mlflow.pyfunc import PythonModel, PythonModelContext

from utils.lora_training import LoraClassifier


class LoraModel(PythonModel):
    """Texts in, labels out; `classifier` is what was trained, and can be trained on."""

    classifier: LoraClassifier

    def load_context(self, context: PythonModelContext) -> None:
        self.classifier = LoraClassifier.load(Path(context.artifacts["adapter"]), context.model_config["base"])

    def predict(self, model_input: list[str]) -> list[str]:
        return [str(label) for label in self.classifier.predict(model_input)]


mlflow.models.set_model(LoraModel())
