"""The end of a run: best weights tested, tables and report written."""

import shutil
from pathlib import Path

from danq_keras.data.store import Dataset
from danq_keras.evaluation.evaluate import Evaluation, evaluate_model, print_summary
from danq_keras.evaluation.report import write_report
from danq_keras.models.trained import TrainedModel
from danq_keras.system.terminal import log


def finish_evaluation(model: TrainedModel, dataset: Dataset, out: Path, *, how: Evaluation) -> None:
    """Evaluate into a folder: tables, comparison, report with the run's own description."""
    out.mkdir(parents=True, exist_ok=True)
    summary = evaluate_model(model, dataset, out, how=how)
    source = model.path if model.path.is_dir() else model.path.parent
    for name in ("config.json", "environment.json", "history.csv"):
        if (source / name).is_file() and source.resolve() != out.resolve():
            shutil.copyfile(source / name, out / name)
    write_report(out)
    print_summary(summary, out)


def finish_run(model: TrainedModel, dataset: Dataset, run: Path, *, how: Evaluation) -> None:
    """The end of a run: test, tables, comparison and report; without test windows the report."""
    if dataset.test.n_windows == 0:
        log.warning("%s: no windows; the run ends without a test.", dataset.test.path)
        log.info("Report: %s", write_report(run))
        return
    finish_evaluation(model, dataset, run, how=how)
