"""What is masked, what is left alone, and that nothing else of a text changes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from utils.redaction import find, mask, mask_text, passes_iban, passes_luhn, secrets_of

BEFORE, AFTER = st.sampled_from(["", "so: ", "(", "\n", "x, ", '{"a": "']), st.sampled_from(
    ["", ".", ", and", ")", '"}']
)


def luhn_digit(digits: str) -> str:
    return next(str(last) for last in range(10) if passes_luhn(f"{digits}{last}"))


CARDS = st.from_regex(r"(4|5[1-5]|62)[0-9]{13}", fullmatch=True).map(lambda digits: digits + luhn_digit(digits))


@given(card=CARDS, group=st.sampled_from([" ", "-", ""]), before=BEFORE, after=AFTER)
def test_every_valid_card_is_masked_however_it_is_grouped(card, group, before, after):
    written = group.join(re.findall("....?", card))
    assert mask_text(f"{before}{written}{after}") == f"{before}[card]{after}"


@given(card=CARDS, place=st.integers(0, 14), step=st.integers(1, 9))
def test_one_wrong_digit_is_no_card(card, place, step):
    wrong = card[:place] + str((int(card[place]) + step) % 10) + card[place + 1 :]
    assert not passes_luhn(wrong) and "[card]" not in mask_text(wrong)


@given(
    local=st.from_regex(r"[a-z0-9](\.?[a-z0-9_+-]){0,20}", fullmatch=True),
    host=st.from_regex(r"([a-z][a-z0-9-]{0,9}\.){1,3}[a-z]{2,6}", fullmatch=True),
    before=BEFORE,
    after=AFTER,
)
def test_every_address_is_masked(local, host, before, after):
    masked = mask_text(f"{before}{local}@{host}{after}")
    assert masked == f"{before}[email]{after}"


@given(country=st.integers(1, 99), digits=st.from_regex("[0-9]{7,11}", fullmatch=True), gap=st.sampled_from(["", " "]))
def test_every_international_number_is_masked(country, digits, gap):
    assert mask_text(f"call +{country}{gap}{digits} now") == "call [phone] now"


@given(st.text(max_size=300))
def test_masking_twice_is_masking_once_and_only_what_was_found_changes(text):
    masked = mask_text(text)
    assert mask_text(masked) == masked
    rest, done = [], 0
    for start, end, kind in find(text):
        rest += [text[done:start], f"[{kind}]"]
        done = end
    assert masked == "".join(rest) + text[done:]
    assert find(text) or masked == text


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers(-(10**6), 10**6) | st.text("ab c", max_size=9),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text("xyz", max_size=4), part, max_size=3),
    max_leaves=12,
)


@given(JSON)
def test_values_without_personal_data_stay_as_they_are(value):
    assert mask(value) == value


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("+49 30 5550-1234 or 030/55501234", "[phone] or [phone]"),
        ("(212) 555-0123, 212-555-0123, 0171 5550123", "[phone], [phone], [phone]"),
        ("DE89 3704 0044 0532 0130 00 and GB82WEST12345698765432", "[iban] and [iban]"),
        ("sk-proj-abcdefghijklmnop1234, AKIAIOSFODNN7EXAMPLE", "[key], [key]"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer [key]"),
        ('{"password": "hunter22", "n": 1}', '{"password": "[key]", "n": 1}'),
        ("ada@example.org,bob@example.co.uk", "[email],[email]"),
        ("mail ümlaut@bücher.example now", "mail [email] now"),
    ],
)
def test_forms(text, masked):
    assert mask_text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-25 10:36:21, 127.0.0.1:8000, 0.467, 10,000 rows, 3.17.2",
        "1795610577990951936 ns, tr-e79c8db4a9bd4b2c8e4d1f0a5c6b7d8e, order 104212",
        "4111 1111 1111 1112, GB82WEST12345698765431",  # the check digits are wrong
        "@mlflow.trace, prompts:/support-reply@production, a@b",
        "the password is secret, a bearer of news",
    ],
)
def test_what_only_looks_like_it_stays(text):
    assert mask_text(text) == text


def test_nothing_is_masked_in_the_sample_documents_and_reviews():
    files = [*(ROOT / "documents").glob("*"), ROOT / "utils" / "data" / "reviews.csv", ROOT / "README.md"]
    assert len(files) > 10
    assert {path.name: found for path in files if (found := find(path.read_text(encoding="utf-8")))} == {}


def test_keys_numbers_and_nested_values_are_masked_too():
    value = {"bob@example.org": [{"card": 4111111111111111, "n": 7, "ok": True, "none": None}, ("+4930123456", 0.5)]}
    card = {"card": "[card]", "n": 7, "ok": True, "none": None}
    assert mask(value) == {"[email]": [card, ["[phone]", 0.5]]}


def test_check_digits():
    assert passes_luhn("79927398713") and not passes_luhn("79927398710")
    assert passes_iban("GB82WEST12345698765432") and not passes_iban("GB82WEST12345698765431")


def test_the_secrets_of_texts_with_their_kinds():
    found = secrets_of(["a@b.org and 4111-1111-1111-1111", "none"])
    assert found == {"a@b.org": "email", "4111-1111-1111-1111": "card"}
