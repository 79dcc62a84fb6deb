"""The picture of a training holds every epoch of every curve."""

import numpy as np

from utils.training_curves import curves_figure


def test_two_plots_with_two_curves_and_the_chosen_epoch():
    names = ("train_loss", "held_out_loss", "train_accuracy", "held_out_accuracy")
    histories = {name: {3: 0.5 + place / 10, 1: 1.0, 2: 0.7} for place, name in enumerate(names)}
    plots = curves_figure(histories, best_epoch=2).axes
    assert [axes.get_ylabel() for axes in plots] == ["loss", "accuracy"]
    for axes, kind in zip(plots, ("loss", "accuracy"), strict=True):
        train, held_out, best = (np.asarray(line.get_xydata()).tolist() for line in axes.lines)
        assert train == [[1, 1.0], [2, 0.7], [3, histories[f"train_{kind}"][3]]]
        assert held_out[-1] == [3, histories[f"held_out_{kind}"][3]] and {x for x, _ in best} == {2}
