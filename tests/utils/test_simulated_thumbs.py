"""Simulated users: some are silent, some err, and the same ones each time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.simulated_thumbs import DOWN, UP, rate

RIGHT = st.lists(st.booleans(), max_size=60)


@given(RIGHT)
def test_users_who_never_err_say_what_is_true(right):
    opinions = rate(right, share=1.0, mistaken=0.0)
    assert [one.place for one in opinions] == list(range(len(right)))
    assert [one.thumbs_up for one in opinions] == right
    assert all(one.comment in (UP if one.thumbs_up else DOWN) for one in opinions)


@given(RIGHT)
def test_who_speaks_and_who_errs_does_not_depend_on_the_answers(right):
    some, others = rate(right), rate([not one for one in right])
    assert [(one.place, one.user) for one in some] == [(one.place, one.user) for one in others]
    assert all(a.thumbs_up != b.thumbs_up for a, b in zip(some, others, strict=True))


def test_shares():
    opinions = rate([True] * 2000, share=0.5, mistaken=0.1)
    assert len(opinions) == pytest.approx(1000, abs=80)
    assert sum(not one.thumbs_up for one in opinions) == pytest.approx(100, abs=35)
    assert rate([True] * 9, share=0.0) == []
