"""The tests and intervals of utils/evaluation.py against a second library: statsmodels, which the project does not
install for learners."""

import gc
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import cohens_kappa, to_table
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from utils import evaluation as ev

few = settings(max_examples=60, deadline=None)
LABELS = ("0", "1", "2")


@pytest.fixture(scope="module", autouse=True)
def cheap_collections() -> Iterator[None]:
    """statsmodels' multipletests collects garbage at each call: a second each time beside all of MLflow."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@few
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p_values):
    assert ev.holm_correction(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]), abs=1e-12)


@few
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.99))
def test_the_wilson_interval_is_that_of_statsmodels(trial, level):
    successes, n = trial
    reference = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    assert ev.wilson_interval(successes, n, level) == pytest.approx(reference, abs=1e-9)


@few
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_that_of_statsmodels(b, c):
    assume(b + c > 0)
    reference = mcnemar([[5, b], [c, 7]], exact=True).pvalue
    assert ev.mcnemar_exact(b, c) == pytest.approx(min(1.0, reference))


@few
@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=2, max_size=40))
def test_kappa_is_that_of_statsmodels(pairs):
    first, second = map(list, zip(*pairs, strict=True))
    table, _ = to_table(np.array([[int(a), int(b)] for a, b in pairs]), bins=np.arange(4) - 0.5)
    found = ev.cohens_kappa(first, second)
    if math.isnan(found):
        assert len({*first, *second}) == 1
    else:
        assert found == pytest.approx(cohens_kappa(table, return_results=False), abs=1e-9)
