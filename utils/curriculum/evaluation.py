"""Module 6: Evaluation."""

from utils.curriculum.entries import Evidence, Lesson

LESSONS: tuple[Lesson, ...] = (
    Lesson(
        number="6.4",
        title="A metric and a judge of your own, and how far to believe it",
        command="mlflow-custom-judge",
        file="genai/evaluation/custom_judge.py",
        page="evaluation-runs",
        look="judge-once and judge-options-turned: press Compare, which ratings changed by the order of words alone?",
        docs="https://mlflow.org/docs/latest/genai/eval-monitor/scorers/llm-judge/custom-judges/",
        shows=(
            "mlflow.genai.evaluate",
            "mlflow.genai.scorer",
            "make_judge",
            "judge.align",
            "mlflow.log_feedback",
            "mlflow.log_figure",
        ),
        evidence=(
            Evidence("run", "the judge's agreement with people", filter="metrics.`people.kappa` > -1"),
            Evidence("run", "five versions by the same metric", minimum=5, filter="params.prompt_version != '0'"),
            Evidence("trace", "a rated text", minimum=4, filter="trace.name = 'review'"),
            Evidence("prompt", "the judge's instructions", name="desk-judge"),
            Evidence("prompt", "the versions that were measured", name="desk-label"),
        ),
        hints=(
            "A judge gives the same label as a person on 60 of 100 texts. How many would one that guesses?",
            "People agree with each other on four texts of five. What does a judge that agrees on five mean?",
            "The options in the instructions changed places, and a rating changed with them. What was rated?",
            "Look at utils/judge_agreement.py::agreement and genai/evaluation/custom_judge.py::ShowExamples.",
        ),
    ),
    Lesson(
        number="6.7",
        title="A gate in CI that refuses what got worse",
        command="mlflow-quality-gate",
        file="genai/evaluation/quality_gate.py",
        page="evaluation-runs",
        look="select baseline and shorter and press Compare: which rows fell, and by which scorer?",
        docs="https://mlflow.org/docs/latest/genai/eval-monitor/",
        shows=(
            "mlflow.genai.evaluate",
            "mlflow.genai.scorer",
            "mlflow.genai.load_prompt",
            "mlflow.search_runs",
            "mlflow.set_tags",
            "mlflow.log_metrics",
        ),
        evidence=(
            Evidence("run", "a recorded baseline", filter="tags.gate = 'baseline'"),
            Evidence("run", "a candidate that passed", filter="tags.`gate.verdict` = 'passed'"),
            Evidence("run", "a candidate that was refused", filter="tags.`gate.verdict` = 'refused'"),
            Evidence("trace", "a scored answer for every row", minimum=2, filter="trace.name = 'answer'"),
            Evidence("prompt", "the prompt that is guarded", name="gate-answer"),
        ),
        hints=(
            "A change made two rows wrong and two others right. Did quality fall?",
            "A scorer crashed on half of the rows, and the other half is perfect. What should the gate say?",
            "Three scorers are looked at, each with a level of 0.05. How often is an equal version refused then?",
            "Look at utils/gate_decision.py::check_scores and genai/evaluation/quality_gate.py::judge.",
        ),
    ),
)
