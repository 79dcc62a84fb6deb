"""The stop rule: its p against scipy's, its level against simulation, and what it can find."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, fisher_exact

from utils.sequential_decision import Arm, Plan, better_p, simulate

REPETITIONS = 1_000
arms = st.integers(0, 60).flatmap(lambda users: st.builds(Arm, st.just(users), st.integers(0, users)))


@given(arms, arms)
def test_the_p_of_a_look_is_that_of_fishers_exact_test(first, second):
    table = [[first.satisfied, first.users - first.satisfied], [second.satisfied, second.users - second.satisfied]]
    assert better_p(first, second) == pytest.approx(fisher_exact(table, alternative="greater").pvalue, abs=1e-9)


@pytest.mark.parametrize("looks", [1, 2, 5, 20])
def test_the_looks_together_spend_the_level(looks):
    plan = Plan(looks, 10, alpha=0.05)
    levels = [plan.level(look) for look in range(1, looks + 1)]
    assert sum(levels) == pytest.approx(0.05) and levels == sorted(levels)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_equal_prompts_have_a_winner_no_more_often_than_the_level(rate, share):
    """The binomial bound: a rule at exactly 5 % would stay below it in 999 of 1,000 such tests."""
    plan = Plan(5, 60, share, alpha=0.05)
    found = simulate(plan, rate, rate, REPETITIONS, seed=7)
    assert found.candidate_wins + found.production_wins <= binom.ppf(0.999, REPETITIONS, 0.05) / REPETITIONS


def test_looking_at_the_full_level_each_time_would_break_it():
    """Why the level is spent: the same looks at 5 % each find winners among equals far too often."""

    class Peeking(Plan):
        def level(self, look: int) -> float:
            return self.alpha

    found = simulate(Peeking(20, 60), 0.5, 0.5, REPETITIONS, seed=7)
    assert found.candidate_wins + found.production_wins > binom.ppf(0.999, REPETITIONS, 0.05) / REPETITIONS


def test_a_real_gain_is_found_a_loss_never_wins_and_a_large_gain_ends_early():
    plan = Plan(5, 60)
    gain, loss, large = (simulate(plan, *rates, REPETITIONS) for rates in ((0.5, 0.7), (0.7, 0.5), (0.2, 0.9)))
    assert gain.candidate_wins > 0.75 and loss.candidate_wins < 0.01 and loss.production_wins > 0.75
    assert large.candidate_wins > 0.99 and large.mean_users < 90 < gain.mean_users <= 300


def test_the_simulation_and_the_lesson_use_the_same_rule():
    plan = Plan(1, 40)
    assert plan.winner(1, Arm(20, 4), Arm(20, 16)) == "candidate"
    assert plan.winner(1, Arm(20, 16), Arm(20, 4)) == "production"
    assert plan.winner(1, Arm(20, 10), Arm(20, 12)) is None and plan.winner(1, Arm(0, 0), Arm(40, 40)) is None


@pytest.mark.parametrize("wrong", [(0, 10), (5, 0), (5, 10, 0.0), (5, 10, 1.0), (5, 10, 0.5, 0.0)])
def test_no_plan(wrong):
    with pytest.raises(ValueError, match="No plan"):
        Plan(*wrong)
