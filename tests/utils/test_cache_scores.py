"""Scores of a cache on cases small enough to count by hand, the questions that come with it, and what hits save."""

import json
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from utils.cache_questions import Request, halves, load_cache_questions, made_up_traffic, meanings
from utils.cache_savings import IDENTICAL, MODEL, SIMILAR, Reply, count_replies
from utils.cache_scores import GRID, Probe, by_difference, choose, draw_curve, embed_all, probe, score
from utils.errors import InputError
from utils.evaluation import wilson_interval
from utils.lexical import embed_lexically
from utils.semantic_cache import Entry


def a_probe(kind, similarity, right=True, difference="name"):
    return Probe("text", kind, difference, 0, similarity, right and kind != "look_alike")


PROBES = [
    a_probe("rewording", 0.95),
    a_probe("paraphrase", 0.8),
    a_probe("paraphrase", 0.6, right=False),
    a_probe("paraphrase", 0.4),
    a_probe("look_alike", 0.9, difference="number"),
    a_probe("look_alike", 0.5),
]


def test_hits_are_counted_by_whether_they_are_right():
    low, middle, high = (score(PROBES, threshold) for threshold in (0.6, 0.8, 0.96))
    assert (low.right_hits, low.wrong_hits, low.false_hits) == (2, 1, 1)
    assert (low.hit_rate, low.false_hit_rate, low.precision) == (0.5, 0.5, 0.5)
    assert (middle.hits, middle.precision) == (
        3,
        pytest.approx(2 / 3),
    ), "a similarity that equals the threshold is a hit"
    assert high.hits == 0 and high.precision is None and "precision" not in high.metrics()
    assert low.intervals()["hit_rate"] == wilson_interval(2, 4) and high.intervals()["precision"] is None
    with pytest.raises(ValueError, match="some that do not"):
        score([each for each in PROBES if each.kind != "look_alike"], 0.5)


def test_the_threshold_is_the_one_with_most_hits_among_those_with_few_false_ones():
    scores = [score(PROBES, threshold) for threshold in GRID]
    most, safest = choose(scores, 1.0), choose(scores, 0.0)
    assert most and most.threshold == 0.8, "of equal hit rates the highest threshold"
    assert safest and safest.threshold == 0.95
    assert choose([score(PROBES, 0.99)], 0.5) is None, "a threshold without any hit is none"
    assert choose([score(PROBES, 0.8)], 0.4) is None


def test_look_alikes_are_counted_by_what_differs_most_dangerous_first():
    rows = by_difference(PROBES, 0.7)
    assert [(row["differs by"], row["answered"], row["look-alikes"]) for row in rows] == [
        ("number", 1, 1),
        ("name", 0, 1),
    ]


def test_the_curve_is_drawn_also_where_nothing_is_hit():
    figure = draw_curve([score(PROBES, threshold) for threshold in GRID], 0.9)
    assert len(figure.axes[0].lines) == 4
    assert len(draw_curve([score(PROBES, 0.99)], None).axes[0].lines) == 3


def test_the_sample_questions_are_enough_of_each_and_all_different():
    questions = load_cache_questions()
    assert len(questions) >= 100 and set(Counter(q.topic for q in questions).values()) == {37}
    assert all(len(q.wordings()) == 4 and q.facts and q.difference for q in questions)
    texts = [text.casefold() for q in questions for text in q.wordings().values()]
    assert len(set(texts)) == len(texts)
    assert min(Counter(q.difference for q in questions).values()) >= 8


def test_probing_agrees_with_scikit_learn_and_takes_no_look_alike_for_right():
    questions = load_cache_questions()[:20]
    vectors = embed_all(embed_lexically, questions)
    found = probe(questions, vectors)
    texts, entries = [each.text for each in found], [q.question for q in questions]
    expected = cosine_similarity(embed_lexically(texts), embed_lexically(entries))
    assert np.allclose([each.similarity for each in found], expected.max(axis=1), atol=1e-5)
    assert all(
        each.right == (each.entry == number // 3) for number, each in enumerate(found) if each.kind != "look_alike"
    )
    assert not any(each.right for each in found if each.kind == "look_alike") and len(found) == 60


def test_halves_share_nothing_and_have_the_same_topics():
    questions = load_cache_questions()
    first, second = halves(questions, 3)
    assert sorted(q.id for q in [*first, *second]) == sorted(q.id for q in questions)
    assert abs(len(first) - len(second)) <= 1
    topics = [Counter(q.topic for q in half) for half in (first, second)]
    assert all(abs(topics[0][topic] - topics[1][topic]) <= 2 for topic in topics[0])
    assert halves(questions, 3) == (first, second) != halves(questions, 4)


def test_traffic_is_seeded_and_a_look_alike_means_something_else():
    questions = load_cache_questions()
    traffic = made_up_traffic(questions, 300, 1)
    assert traffic == made_up_traffic(questions, 300, 1) != made_up_traffic(questions, 300, 2)
    known = meanings(questions)
    assert all(known[request.text] == request.meaning for request in traffic)
    assert all(("look-alike" in request.meaning) == (request.kind == "look_alike") for request in traffic)
    assert {request.kind for request in traffic} == {"question", "rewording", "paraphrase", "look_alike"}


OWN = [{"question": f"q {n}", "paraphrase": f"p {n}", "look_alike": f"l {n}"} for n in range(10)]


def test_own_questions_as_csv_and_as_jsonl(tmp_path):
    (tmp_path / "my.jsonl").write_text("\ufeff" + "\n".join(json.dumps(row) for row in OWN) + "\n\n", encoding="utf-8")
    lines = ["look_alike,question,paraphrase,facts"] + [f'l {n},q {n},p {n},"a, b"' for n in range(10)]
    (tmp_path / "my.csv").write_text("\n".join(lines))
    for name, facts in (("my.jsonl", ""), ("my.csv", "a, b")):
        found = load_cache_questions(tmp_path / name)
        assert [q.look_alike for q in found] == [f"l {n}" for n in range(10)] and found[3].facts == facts
        assert found[0].wordings() == {"question": "q 0", "paraphrase": "p 0", "look_alike": "l 0"}
        assert len(made_up_traffic(found, 50, 0)) == 50, "without rewordings, too"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (OWN[:9], "9 questions"),
        ([*OWN, {"question": "x", "paraphrase": "y"}], "line 11 has no look_alike"),
        ([*OWN, {"question": "q 3", "paraphrase": "y", "look_alike": "z"}], "stands in"),
        ([*OWN, ["no object"]], "line 11 is no JSON object"),
    ],
)
def test_questions_that_cannot_be_used(tmp_path, rows, said):
    path = tmp_path / "my.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(InputError, match=said):
        load_cache_questions(path)


def reply(source, tokens=(100, 10), right=None, answer="Yes.", ms=50.0, text="t"):
    entry = Entry("t", answer, tokens[0], tokens[1], ms)
    return Reply(Request(text, "question", "m", ""), source, entry, 1.0, right, 2.0, "tr")


def test_what_is_saved_is_what_the_calls_behind_the_hits_had_cost():
    replies = [reply(MODEL), reply(MODEL, answer="I do not know."), reply(IDENTICAL, right=True),
               reply(SIMILAR, right=True, text="u"), reply(SIMILAR, right=False, text="v")]  # fmt: skip
    found = count_replies(replies, "mock-small", "mock")
    assert (found["answered_by_model"], found["hits_identical"], found["hits_similar"]) == (2, 1, 2)
    assert found["hits_similar_wrong"] == 1 and found["declined_not_kept"] == 1
    assert found["spent_tokens"] == 220 and found["saved_tokens"] == 330 and found["saved_by_similar_tokens"] == 220
    assert found["share_saved"] == 0.6 and found["share_saved_by_similar"] == 0.4
    assert found["saved_usd"] == pytest.approx((300 * 0.10 + 30 * 0.40) / 1e6)
    assert found["saved_seconds"] == pytest.approx(0.150 - 0.010)


def test_a_rewording_asked_again_would_be_found_by_its_text():
    replies = [reply(MODEL), *[reply(SIMILAR, right=True, text="u")] * 3, reply(SIMILAR, right=True),
               reply(MODEL, answer="I do not know.", text="w"), reply(SIMILAR, right=True, text="w")]  # fmt: skip
    found = count_replies(replies, "mock-small", "mock")
    assert (found["hits_similar"], found["hits_similar_first"]) == (5, 2), "the first u, and w, which was not kept"
    assert found["saved_by_similar_tokens"] == 220


def test_what_is_not_known_is_left_out():
    unknown_tokens = count_replies([reply(MODEL), reply(IDENTICAL, (None, None), True)], "mock-small", "mock")
    assert not {"saved_tokens", "saved_usd", "share_saved"} & set(unknown_tokens)
    unknown_price = count_replies([reply(MODEL), reply(IDENTICAL, right=True)], "my-model", "openai")
    assert unknown_price["share_saved"] == 0.5 and "saved_usd" not in unknown_price
