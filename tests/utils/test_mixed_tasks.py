"""Reviews and questions take turns, so that halves are alike."""

from collections import Counter

import pytest

from utils.errors import InputError
from utils.mixed_tasks import Task, load_mixed_tasks
from utils.options import InputOptions


def test_both_halves_hold_as_many_of_each_kind():
    tasks, labels = load_mixed_tasks(InputOptions(), 40, seed=7)
    assert labels == ("positive", "negative", "neutral") and len(set(tasks)) == 40
    for half in (tasks[:20], tasks[20:]):
        assert Counter(task.kind for task in half) == {"label": 10, "answer": 10}
    assert load_mixed_tasks(InputOptions(), 40, seed=7)[0] == tasks != load_mixed_tasks(InputOptions(), 40, seed=8)[0]


def test_own_rows_are_labels_only_and_need_labels(tmp_path):
    (tmp_path / "my.csv").write_text("text,kind\na,x\nb,y\na,x\n")
    tasks, labels = load_mixed_tasks(InputOptions(tmp_path / "my.csv", "text", "kind"), 3, seed=0)
    assert sorted(task.text for task in tasks) == ["a", "b"] and labels == ("x", "y")
    with pytest.raises(InputError, match="--label-column"):
        load_mixed_tasks(InputOptions(tmp_path / "my.csv"), 3, seed=0)


@pytest.mark.parametrize(
    ("kind", "reply", "right"),
    [
        ("label", "positive, 0.9", True),
        ("label", "positive or negative", False),
        ("answer", "It is positive.", True),
        ("answer", "I do not know whether it is positive.", False),
    ],
)
def test_what_is_right(kind, reply, right):
    assert Task(kind, "t", "q", "positive").is_right(reply, ("positive", "negative")) == right
