"""Prompts: registered once, found again, moved by the learner only, and safe in single braces."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.genai import load_prompt, register_prompt, set_prompt_alias

from utils.prompt_utils import PromptError, get_or_register, to_single_braces, use_alias

TERSE = "One word, please: {{text}}"
VAGUE = "What do you make of {{text}}?"
CHAT = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "{{text}}"}]


def count_versions(store: str, name: str) -> int:
    return len(MlflowClient(store).search_prompt_versions(name))


@pytest.mark.parametrize("template", [TERSE, CHAT], ids=["text", "chat"])
def test_the_same_template_makes_no_second_version(store, template):
    first = get_or_register("p", template, commit_message="first", tags={"author": "me"})
    again = get_or_register("p", template)
    assert first.version == again.version == 1 and count_versions(store, "p") == 1
    assert again.commit_message == "first" and again.tags["author"] == "me"


def test_another_template_makes_one_and_an_older_one_is_found_again(store):
    versions = [get_or_register("p", template).version for template in (TERSE, VAGUE, TERSE, f"{VAGUE} ")]
    assert versions == [1, 2, 1, 3] and count_versions(store, "p") == 3


def test_of_two_equal_versions_the_newest_is_taken(store):
    register_prompt("p", TERSE)
    register_prompt("p", TERSE)
    assert get_or_register("p", TERSE).version == 2


def test_versions_are_compared_as_numbers(store):
    for number in range(11):
        register_prompt("p", TERSE if number in (1, 10) else f"{VAGUE}{number}")
    assert get_or_register("p", TERSE).version == 11


def test_an_alias_that_nobody_has_set_points_at_the_template(store):
    assert use_alias("p", "production", TERSE) == "prompts:/p@production"
    assert load_prompt("prompts:/p@production", cache_ttl_seconds=0).template == TERSE


def test_an_alias_stays_where_the_learner_put_it(store):
    use_alias("p", "production", TERSE)
    other = register_prompt("p", VAGUE)
    set_prompt_alias("p", "production", other.version)
    uri = use_alias("p", "production", TERSE)
    assert load_prompt(uri, cache_ttl_seconds=0).template == VAGUE and count_versions(store, "p") == 2


def test_a_prompt_without_the_alias_gets_it_and_keeps_its_versions(store):
    register_prompt("p", VAGUE)
    uri = use_alias("p", "production", TERSE)
    assert load_prompt(uri, cache_ttl_seconds=0).version == 2 and count_versions(store, "p") == 2


def test_two_aliases_do_not_move_each_other(store):
    use_alias("p", "production", TERSE)
    use_alias("p", "candidate", VAGUE)
    assert load_prompt("prompts:/p@production", cache_ttl_seconds=0).template == TERSE


def test_a_version_that_lacks_a_variable_is_refused_by_name(store):
    register_prompt("p", "Without the review")
    set_prompt_alias("p", "production", 1)
    with pytest.raises(PromptError) as caught:
        use_alias("p", "production", TERSE, needs=("text",))
    assert "{{text}}" in caught.value.problem and "version 1" in caught.value.problem
    assert "set_prompt_alias('p', 'production', VERSION)" in caught.value.cure


def test_more_variables_than_the_lesson_needs_are_the_learners_affair(store):
    assert use_alias("p", "production", "{{text}} in {{language}}", needs=("text",))


@pytest.mark.parametrize("text", ["plain", "{x}", "{", "100 % {{}}", '{"a": {"b": 1}}'])
@pytest.mark.parametrize("template", ["{{text}}", "{{ text }}", "a {{text}} b {{text}}", "{{{text}}}"])
def test_the_variable_is_filled_with_any_text(template, text):
    filled = to_single_braces(template).format(text=text)
    assert filled == template.replace("{{ text }}", "{{text}}").replace("{{text}}", text)


def test_braces_of_json_come_out_as_they_went_in():
    template = 'Answer as {"label": "positive", "scores": {"a": [0.5]}}. Review: {{text}}'
    assert to_single_braces(template).format(text="Good.") == template.replace("{{text}}", "Good.")


@given(st.text(alphabet='ab{} "\n:', max_size=40).filter(lambda text: "{{" not in text and "}}" not in text))
@settings(max_examples=100, deadline=None)
def test_any_text_with_single_braces_around_a_variable_survives(text):
    template = f"{text} {{{{x}}}} {text}"
    assert to_single_braces(template).format(x="X") == f"{text} X {text}"


@pytest.mark.parametrize(
    "template",
    ["{% if x %}a{% endif %}", "{# note #}{{x}}", "{{ x | upper }}", "{{ x.name }}", "{{ x[0] }}", "{{ f(x) }}"],
)
def test_jinja_is_refused_rather_than_corrupted(template):
    with pytest.raises(PromptError, match="Jinja2"):
        to_single_braces(template)


def test_langchain_reads_what_comes_out():
    from langchain_core.prompts import PromptTemplate

    prompt = PromptTemplate.from_template(to_single_braces('{{text}} as {"label": "…"}'))
    assert prompt.input_variables == ["text"] and prompt.format(text="Good") == 'Good as {"label": "…"}'


def test_llama_index_reads_what_comes_out():
    from llama_index.core import PromptTemplate

    prompt = PromptTemplate(to_single_braces('{{context_str}} as {"label": "…"}', escape=False))
    assert prompt.template_vars == ["context_str"]
    assert prompt.format(context_str="Good") == 'Good as {"label": "…"}'
