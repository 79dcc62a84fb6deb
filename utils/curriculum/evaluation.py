"""Module 6: Evaluation."""

from utils.curriculum.entries import Evidence, Lesson

LESSONS: tuple[Lesson, ...] = (
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
