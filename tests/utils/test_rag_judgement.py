"""The figures of a RAG from made-up scores, by properties and against scikit-learn and statsmodels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score
from statsmodels.stats.proportion import proportion_confint

from utils.rag_judgement import (
    CODE,
    GROUNDED,
    JUDGED,
    JUDGES,
    correct_rows,
    draw_by_size,
    judge_errors,
    judged_in_all,
    measure,
    shown,
)
from utils.row_scores import RowScores

FEW = settings(deadline=None, max_examples=40)  # each draws intervals by bootstrap


@st.composite
def scores(draw, most=12):
    """Rows with every verdict, some of whose judges failed or said something else, and some rows without an answer."""
    keys = [str(number) for number in range(draw(st.integers(1, most)))]
    failed = {key: "500" for key in keys if draw(st.booleans()) and draw(st.booleans())}
    values: dict = {name: {} for name in (*CODE, *JUDGES)}
    errors: dict = {name: {} for name in (*CODE, *JUDGES)}
    for key in [key for key in keys if key not in failed]:
        values["similarity"][key] = [draw(st.floats(0, 1))]
        values["hit"][key], values["declined"][key] = [draw(st.booleans())], [draw(st.booleans())]
        for name in JUDGES:
            said = draw(st.sampled_from(["yes", "no", "yes", "no", "maybe", None]))
            if said is None:
                errors[name][key] = "garbage"
            else:
                values[name][key] = [said] * (3 if name == "retrieval_relevance" else 1)
    return RowScores("run", {}, values, errors, failed)


@FEW
@given(scores())
def test_judged_and_errors_add_up_and_every_mean_lies_in_its_interval(found):
    rows = len(found.values["hit"]) + len(found.failed)
    for name, each in measure(found).items():
        if name in ("correctness", "relevance", "groundedness"):
            assert each.rows + each.errors == rows
        if name == "sufficiency":
            assert each.rows + each.errors == rows - len(found.failed)
        if each.mean is None:
            assert each.rows == 0 and each.metrics(name).keys() == {f"{name}_rows", f"{name}_errors"}
            assert shown(each) == "-"
        else:
            assert 0 <= each.mean <= 1
            low, high = each.interval or (each.mean, each.mean)
            assert low - 1e-9 <= each.mean <= high + 1e-9 or name in ("similarity", "passage_relevance")


@FEW
@given(scores())
def test_shares_and_intervals_are_those_of_the_references(found):
    verdicts = [v[0] == "yes" for v in found.values["correctness"].values() if v[0] in ("yes", "no")]
    verdicts += [False] * len(found.failed)
    measured = measure(found)["correctness"]
    if verdicts:
        assert measured.mean == pytest.approx(accuracy_score([True] * len(verdicts), verdicts))
        reference = proportion_confint(sum(verdicts), len(verdicts), method="wilson")
        assert measured.interval == pytest.approx(reference, abs=1e-9)


@FEW
@given(scores(), st.sampled_from(sorted(JUDGED)))
def test_a_judge_that_fails_on_one_row_more_takes_that_row_out_and_adds_one_error(found, name):
    assessment = JUDGED[name]
    usual = [key for key, value in found.values[assessment].items() if value[0] in ("yes", "no")]
    before = measure(found)[name]
    if usual:
        said = found.values[assessment].pop(usual[0])
        found.errors[assessment][usual[0]] = "garbage"
        after = measure(found)[name]
        assert (after.rows, after.errors) == (before.rows - 1, before.errors + 1)
        total = (before.mean or 0) * before.rows - (said[0] == "yes")
        assert (after.mean or 0) * after.rows == pytest.approx(total, abs=1e-9)


@FEW
@given(scores())
def test_what_declines_is_never_grounded_and_never_unfaithful(found):
    for key in found.values["declined"]:
        found.values["declined"][key] = [True]
    figures = measure(found)
    assert figures["groundedness"].mean in (0, None) and figures["faithfulness"].mean is None


@FEW
@given(st.lists(scores(most=5), min_size=2, max_size=3))
def test_only_rows_that_were_judged_in_all_versions_are_compared(several):
    keys = [str(number) for number in range(5)]
    versions = {str(number): correct_rows(each, keys) for number, each in enumerate(several)}
    kept = judged_in_all(versions)
    complete = [place for place in range(5) if all(values[place] is not None for values in versions.values())]
    assert all(kept[name] == [versions[name][place] for place in complete] for name in versions)
    assert sum(judge_errors(each) for each in several) >= sum(len(each.errors[GROUNDED]) for each in several)


def test_the_picture_has_a_line_for_each_criterion_over_all_sizes():
    values: dict = {name: {"a": ["yes"], "b": ["no"]} for name in JUDGES}
    values |= {"similarity": {"a": [0.5], "b": [0.25]}, "hit": {"a": [True], "b": [False]}}
    values["declined"] = {"a": [False], "b": [False]}
    figures = measure(RowScores("run", {}, values, {name: {} for name in (*CODE, *JUDGES)}))
    (axes,) = draw_by_size({128: figures, 64: figures}, ["similarity", "correctness"]).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["64", "128"]
    legend = axes.get_legend()
    assert legend and [text.get_text() for text in legend.get_texts()] == ["similarity", "correctness"]
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == [0.375, 0.375]
