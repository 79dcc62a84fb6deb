"""The picture of a training: loss and accuracy by epoch, and the checkpoint that was chosen."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves_figure(histories: Mapping[str, Mapping[int, float]], best_epoch: int) -> "Figure":
    """Two plots side by side, loss and accuracy (0 to 1), each with a line for train and one for held_out.

    histories: `train_loss`, `held_out_loss`, `train_accuracy` and `held_out_accuracy`, each value by epoch.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for name in ("train", "held_out"):
            epochs = sorted(histories[f"{name}_{kind}"])
            axes.plot(epochs, [histories[f"{name}_{kind}"][epoch] for epoch in epochs], label=name.replace("_", " "))
        axes.axvline(best_epoch, color="grey", linestyle="--", label="best checkpoint")
        axes.set(xlabel="epoch", ylabel=kind)
        axes.set_ylim(0, 1.02 if kind == "accuracy" else None)
        axes.legend()
    return figure
