"""Progress is not remembered, it is proved: each lesson's evidence is a query on the tracking store."""

from dataclasses import dataclass

from utils.curriculum import Evidence, Lesson


@dataclass(frozen=True)
class Finding:
    """How many objects the store holds for one piece of evidence."""

    evidence: Evidence
    found: int

    @property
    def proved(self) -> bool:
        return self.found >= self.evidence.minimum


class Store:
    """The questions that progress asks of a tracking store that mlflow_setup has opened.

    since_ms: only what began at this time (milliseconds since 1970) or later counts; prompts have no such time.
    """

    def __init__(self, since_ms: int = 0) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient()
        self.since_ms = since_ms
        self.experiment_ids = [experiment.experiment_id for experiment in self.client.search_experiments()]

    def findings(self, entry: Lesson) -> list[Finding]:
        """One finding for each piece of evidence that the lesson leaves."""
        return [Finding(evidence, COUNTERS[evidence.kind](self, entry, evidence)) for evidence in entry.evidence]

    def is_done(self, entry: Lesson) -> bool:
        return all(finding.proved for finding in self.findings(entry))

    def count_runs(self, entry: Lesson, evidence: Evidence) -> int:
        """Runs of the lesson that ended well."""
        wanted = self._by("attributes.start_time", entry) + " AND attributes.status = 'FINISHED'"
        found = self.client.search_runs(
            self.experiment_ids, _both(wanted, evidence.filter), max_results=evidence.minimum
        )
        return len(found)

    def count_traces(self, entry: Lesson, evidence: Evidence) -> int:
        found = self.client.search_traces(
            locations=self.experiment_ids,
            filter_string=_both(self._by("trace.timestamp_ms", entry), evidence.filter),
            max_results=evidence.minimum,
            include_spans=False,
        )
        return len(found)

    def count_models(self, entry: Lesson, evidence: Evidence) -> int:
        found = self.client.search_logged_models(
            experiment_ids=self.experiment_ids,
            filter_string=_both(self._by("creation_timestamp", entry), evidence.filter),
            max_results=evidence.minimum,
        )
        return len(found)

    def count_prompts(self, _entry: Lesson, evidence: Evidence) -> int:
        return int(self.client.get_prompt(evidence.name) is not None)

    def count_datasets(self, entry: Lesson, _evidence: Evidence) -> int:
        """Different datasets (by digest) that are inputs of the lesson's runs."""
        wanted = self._by("attributes.start_time", entry) + " AND attributes.status = 'FINISHED'"
        runs = self.client.search_runs(self.experiment_ids, wanted, max_results=100)
        return len({(item.dataset.name, item.dataset.digest) for run in runs for item in run.inputs.dataset_inputs})

    def _by(self, time: str, entry: Lesson) -> str:
        """The filter for what this lesson left since the time that is asked about."""
        return f"tags.lesson = '{entry.number}' AND {time} >= {self.since_ms}"


COUNTERS = {
    "run": Store.count_runs,
    "trace": Store.count_traces,
    "model": Store.count_models,
    "prompt": Store.count_prompts,
    "dataset": Store.count_datasets,
}


def _both(wanted: str, further: str) -> str:
    return f"{wanted} AND {further}" if further else wanted
