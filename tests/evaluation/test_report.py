import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from danq_keras.data.targets import Targets
from danq_keras.draw import panels, style
from danq_keras.evaluation import auc_tables, comparison_text, report
from danq_keras.evaluation.calibration import calibrate, calibration_summary
from danq_keras.evaluation.comparison import AucTable, compare
from danq_keras.evaluation.metrics import TargetMetrics
from danq_keras.system.errors import InputError

HOSTILE = '<script>alert("1")</script>|&"\'$x$'
VOID = {"meta", "link", "input", "br", "hr", "img", "path", "use"}


class Page(HTMLParser):
    """Reads a page: checks that tags are closed in order, keeps tags, texts and table rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.sort_values: list[list[str | None]] = []
        self.text: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
            self.sort_values.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.sort_values[-1].append(dict(attrs).get("data-v"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text[self.open[-1] if self.open else ""] = (
            self.text.get(self.open[-1] if self.open else "", "") + data
        )
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def metrics(auroc: list[float]) -> TargetMetrics:
    values = np.array(auroc)
    n = len(values)
    return TargetMetrics(
        positives=np.where(np.isnan(values), 0, np.arange(10, 10 + n)),
        negatives=np.full(n, 500),
        auroc=values,
        auprc=values / 2,
        auprc_interpolated=values / 2 + 0.01,
        accuracy=np.full(n, 0.9),
        f1=values / 3,
        best_f1=values / 2.5,
        best_threshold=np.full(n, 0.2),
    )


def auc_table(names: tuple[str, ...] = ("plain", HOSTILE, "no positive", "other")) -> pd.DataFrame:
    aucs = [0.91234567, 0.7, np.nan, 0.6]
    groups = ("TF", "<i>odd</i>", "TF", "")
    table = auc_tables.auc_table(Targets(names, group=groups), range(4), metrics=metrics(aucs))
    return auc_tables.add_baselines(table, {"kmer": metrics([0.6, 0.65, np.nan, 0.55])})


def calibration() -> dict[str, Any]:
    labels = np.array([[0, 0, 1, 1, 1, 1]])
    found = calibrate(labels.astype(bool), np.array([[0.0005, 0.003, 0.004, 0.85, 0.95, 1.0]]))
    return calibration_summary(found, unlabelled_share=0.0)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with every file; `run` is a copy of it that a test may change."""
    folder = tmp_path_factory.mktemp("runs") / "my-run"
    folder.mkdir()
    table = auc_table()
    auc_tables.write_auc_table(folder / "test_aucs.tsv", table)
    summary = auc_tables.summarise(table, loss=0.0625, notes={"kmer": "1- to <5>-mers"})
    summary["calibration"] = calibration()
    (folder / "test_summary.json").write_text(json.dumps(summary))
    reference = AucTable("ref <b>", table.assign(auroc=table["auroc"] - 0.1))
    comparison_text.write_comparison([compare(AucTable("my-run", table), reference)], folder)
    pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "loss": [0.3, 0.2, 0.1],
            "val_loss": [0.35, 0.25, 0.3],
            "val_auroc": [0.6, 0.7, 0.8],
            "val_auprc": [0.2, 0.3, 0.4],
            "val_accuracy": [0.9, 0.91, 0.92],
            "val_f1": [0.1, 0.2, 0.3],
            "val_best_f1": [0.2, 0.3, 0.4],
        }
    ).to_csv(folder / "history.csv", index=False)
    config = {
        "preset": "demo",
        "source": "a <small> network",
        "dataset": {"path": "/data/<x>", "windows": {"train": 1234}},
        "model": {"filters": 64, "motif_file": None},
        "train": {"learning_rate": 0.002},
        "targets": list(table["name"]),
        "synthetic": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "environment.json").write_text(json.dumps({"versions": {"keras": "3.15.0"}}))
    return folder


@pytest.fixture
def run(whole_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole_run, tmp_path / "my-run")


@pytest.fixture(scope="module")
def rendered(whole_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, "Page"]:
    """The page of the whole run, made once."""
    return render(shutil.copytree(whole_run, tmp_path_factory.mktemp("rendered") / "my-run"))


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a test does not look at plots, drawing them only takes time."""
    monkeypatch.setattr(panels, "svg_text", lambda _draw: "<svg></svg>")


def render(run: Path) -> tuple[str, Page]:
    path = report.write_report(run)
    assert path == run / "report.html"
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


@pytest.mark.usefixtures("no_plots")
def test_an_evaluation_tells_its_own_and_the_training_apart(run: Path) -> None:
    text, _ = render(run)
    assert "This evaluation" not in text
    assert ">Settings</h2>" in text
    summary = json.loads((run / "test_summary.json").read_text())
    summary["evaluation"] = {
        "command": f"evaluate_danq.py {HOSTILE}",
        "model": ["/models/<b>", "/models/two"],
        "weights_sha256": ["12ab", "34cd"],
        "trained_in": "/models/<b>",
        "data": "/data/<i>",
        "split": "valid",
    }
    summary["bootstrap"] = {
        "resamples": 1000,
        "unit": "57 blocks of 100 kb",
        "overall": {"auroc": {"low": 0.71, "high": 0.75}, "mcc": {"low": -0.1, "high": 0.2}},
        "groups": {"<i>odd</i>": {"auroc": {"low": 0.6, "high": 0.8}}},
    }
    summary["overall"]["mcc"] = {"mean": 0.05}
    (run / "test_summary.json").write_text(json.dumps(summary))
    text, page = render(run)
    assert "<b>/models/&lt;b&gt;</b> and 1 more, the mean of their probabilities," in text
    assert "on the valid split of /data/&lt;i&gt;." in text
    assert ">Split valid</h2>" in text
    assert "<script>alert" not in text
    told = text.partition("This evaluation</h2>")[2].partition("</section>")[0]
    assert "12ab 34cd" in told
    assert "Trained in /models/&lt;b&gt;; what follows is of that training." in text
    assert ">Settings of the training</h2>" in text
    assert ">Environment of the training</h2>" in text
    assert "95 % interval of the mean: 0.7100 to 0.7500" in text
    assert "-0.1000 to 0.2000" in text
    assert ["<i>odd</i>", "0.6000 to 0.8000", "NA", "NA"] in page.rows
    assert "from 1,000 resamples of 57 blocks of 100 kb." in text


def test_page_opens_offline(rendered: tuple[str, Page]) -> None:
    text, page = rendered
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            if name.startswith("xmlns"):
                continue  # the name of a vocabulary, never fetched
            assert not re.search("https?:", value or ""), (tag, name)
            if name in ("src", "href", "xlink:href", "action", "data"):
                assert (value or "").startswith("#")
    assert "link" not in {tag for tag, _ in page.tags}
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    policy = [a["content"] for a in page.attributes("meta") if "http-equiv" in a]
    assert policy == [
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    ]


def test_numbers_are_those_of_the_table(run: Path, rendered: tuple[str, Page]) -> None:
    _, page = rendered
    table = auc_tables.read_auc_table(run / "test_aucs.tsv")
    header = next(row for row in page.rows if row and row[0].strip() == "#")
    start = page.rows.index(header) + 1
    labels = [cell.strip() for cell in header]
    for offset, expected in table.iterrows():
        shown = dict(zip(labels, page.rows[start + offset], strict=True))
        sort_by = dict(zip(labels, page.sort_values[start + offset], strict=True))
        assert shown["#"] == str(expected["target"])
        assert shown["target"] == expected["name"]
        assert shown["positives"] == str(expected["positives"])
        for label, column in (("ROC AUC", "auroc"), ("kmer ROC AUC", "baseline_kmer_auroc")):
            if np.isnan(expected[column]):
                assert (shown[label], sort_by[label]) == ("NA", "")
            else:
                assert shown[label] == f"{expected[column]:.4f}"
                assert sort_by[label] == f"{expected[column]:.9g}"
    assert "threshold" not in labels  # nothing in that column
    assert "0.91234567" in {value for row in page.sort_values for value in row}


def test_headline_figures_and_baselines(rendered: tuple[str, Page]) -> None:
    text, page = rendered
    mean = (0.91234567 + 0.7 + 0.6) / 3
    assert f'<p class="value">{mean:.4f}</p>' in text
    assert "mean of 3 of 4 targets; median 0.7000" in text
    assert "<span>k-mer logistic regression</span><b>0.6000</b>" in text
    assert "<span>loss</span><b>0.0625</b>" in text
    assert "1- to &lt;5&gt;-mers" in text
    rows = [[cell.strip() for cell in row] for row in page.rows]
    of_group = next(row for row in rows if row[0] == "TF")
    assert of_group[:4] == ["TF", "1 of 2", "0.9123", "0.9123"]
    assert text.index('class="value"') < text.index("<h2 id=") + 2000  # first of all
    assert text.index("Test split") < text.index("Settings")


def test_hostile_names_are_text(rendered: tuple[str, Page]) -> None:
    text, page = rendered
    assert "<script>alert" not in text
    assert "<i>odd" not in text
    assert "ref <b>" not in text
    assert "a <small>" not in text
    assert len(page.attributes("script")) == 1
    assert HOSTILE in [cell for row in page.rows for cell in row]
    assert page.attributes("i") == page.attributes("small") == []


def test_table_can_be_sorted_and_filtered(rendered: tuple[str, Page]) -> None:
    text, page = rendered
    script = page.text["script"]
    ids = {attributes.get("id") for _, attributes in page.tags}
    wanted = set(re.findall(r'getElementById\("([^"]+)"\)', script))
    assert wanted == {"targets-table", "shown", "filter"}
    assert wanted <= ids
    columns = [a for a in page.attributes("th") if "aria-sort" in a]
    buttons = page.attributes("button")
    assert len(columns) == len(buttons)
    assert [a["aria-sort"] for a in columns].count("ascending") == 1  # by number, as in the file
    assert all(a["type"] == "button" for a in buttons)  # keyboard and click alike
    assert [a["for"] for a in page.attributes("label")] == ["filter"]
    assert 'tabindex="0" role="region" aria-labelledby="targets"' in text


def test_settings_curves_comparison_banner(rendered: tuple[str, Page]) -> None:
    text, page = rendered
    assert "Synthetic data." in text
    assert "<dt>windows.train</dt><dd>1234</dd>" in text
    assert "<dt>targets</dt><dd>4</dd>" in text
    assert "<dt>motif_file</dt><dd>none</dd>" in text
    assert "<dt>versions.keras</dt><dd>3.15.0</dd>" in text
    assert "Best validation after epoch 2" in text
    captions = [a["aria-label"] for a in page.attributes("div") if a.get("role") == "img"]
    assert len(captions) == len(page.attributes("svg")) == 5 + 1 + 6 + 2
    for what in ("Loss", "Validation ROC AUC", "Validation PR AUC", "Validation F1"):
        assert any(caption.startswith(what) for caption in captions), what
    assert "Validation accuracy of all labels, at 0.5" in captions
    assert "PR AUC: my-run against ref <b>" in captions
    assert "my-run against ref &lt;b&gt;</h3>" in text
    assert "Targets where my-run is higher: ROC AUC 3 of 3 (100.0 %)" in text
    assert "Not in the run folder" not in text


def test_calibration_with_its_condition(rendered: tuple[str, Page]) -> None:
    text, page = rendered
    assert "6 labels of all targets together" in text
    assert "P(target | some peak)" in text
    assert "Share of positives by probability" in text
    rows = [[cell.strip() for cell in row] for row in page.rows]
    start = next(i for i, row in enumerate(rows) if row and row[0] == "probability above") + 1
    assert rows[start : start + 4] == [
        ["0.0", "0.001", "1", "0.0005", "0.0000"],
        ["0.002", "0.005", "2", "0.0035", "0.5000"],
        ["0.8", "0.9", "1", "0.8500", "1.0000"],
        ["0.9", "1.0", "2", "0.9750", "1.0000"],
    ]
    brier = (0.0005**2 + 0.003**2 + 0.996**2 + 0.15**2 + 0.05**2) / 6
    assert f"Brier score <b>{brier:.4f}</b>" in text
    assert f"Brier score of the base rate <b>{4 / 6 * 2 / 6:.4f}</b>" in text


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("found", [None, {"labels": 0, "bins": []}])
def test_without_calibration_there_is_no_section(run: Path, found: dict[str, Any] | None) -> None:
    summary = json.loads((run / "test_summary.json").read_text())
    (run / "test_summary.json").write_text(json.dumps({**summary, "calibration": found}))
    assert '<h2 id="calibration">' not in render(run)[0]


@pytest.mark.usefixtures("no_plots")
def test_real_data_has_no_banner(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "synthetic": False}))
    assert "Synthetic data." not in render(run)[0]


@pytest.mark.parametrize("name", [*report.PARTS, "comparison.tsv"])
@pytest.mark.usefixtures("no_plots")
def test_each_part_is_optional(run: Path, name: str) -> None:
    (run / name).unlink()
    text, _ = render(run)
    assert (f"Not in the run folder when this page was written: {name}." in text) == (
        not name.startswith("comparison")
    )


@pytest.mark.parametrize("name", report.PARTS)
@pytest.mark.usefixtures("no_plots")
def test_each_part_is_enough(run: Path, name: str) -> None:
    for other in (*report.PARTS, "comparison.tsv", "comparison.png"):
        if other != name:
            (run / other).unlink()
    render(run)


@pytest.mark.usefixtures("no_plots")
def test_summary_is_made_from_the_table_where_missing(run: Path) -> None:
    (run / "test_summary.json").unlink()
    assert "mean of 3 of 4 targets; median 0.7000" in render(run)[0]


@pytest.mark.usefixtures("no_plots")
def test_empty_objects_and_no_epoch(run: Path) -> None:
    (run / "config.json").write_text("{}")
    (run / "history.csv").write_text("epoch,loss,val_loss\n")
    text, _ = render(run)
    assert "A DanQ run." in text
    assert '<h2 id="curves">' not in text
    assert '<h2 id="settings">' not in text


@pytest.mark.usefixtures("no_plots")
def test_no_target_counted(run: Path) -> None:
    table = auc_table().assign(auroc=np.nan, auprc=np.nan, auprc_interpolated=np.nan)
    auc_tables.write_auc_table(run / "test_aucs.tsv", table, overwrite=True)
    (run / "test_summary.json").write_text(json.dumps(auc_tables.summarise(table)))
    text, _ = render(run)
    assert '<p class="value">NA</p>' in text


def test_report_is_replaced_and_reproducible(run: Path) -> None:
    first, _ = render(run)
    (run / "report.html").write_text("old")
    second, _ = render(run)
    assert first == second
    assert not [path for path in run.iterdir() if "partial" in path.name]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "config.json: not JSON text"),
        ("config.json", "[1]", "expected a JSON object. Received: list"),
        ("history.csv", "epoch,loss\n1,x\n", "history.csv: expected numbers, a row per epoch"),
        ("history.csv", "", "history.csv: expected numbers"),
        ("test_aucs.tsv", "a\tb\n", "Missing: target"),
    ],
)
@pytest.mark.usefixtures("no_plots")
def test_malformed_parts(run: Path, name: str, content: str, message: str) -> None:
    (run / name).write_text(content)
    with pytest.raises(InputError) as error:
        report.write_report(run)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (run / "report.html").exists()


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a report needs a run folder"):
        report.write_report(tmp_path / "nothing")


def test_groups_keep_their_colours() -> None:
    colours = style.group_colours(["histone", "mine", "TF", "", "yours"])
    assert colours["TF"] == style.group_colours(["TF"])["TF"]
    assert len(set(colours.values())) == 5


def test_one_target_can_be_plotted() -> None:
    """No range, one box, a group without a name."""
    table = auc_table().iloc[[3]]
    for svg in (
        panels.scatter(table, "auroc", "auprc", xlabel="x", ylabel="y"),
        panels.by_group(table, "auroc", xlabel="x"),
        panels.by_positives(table, "auroc", ylabel="y"),
    ):
        assert svg.startswith("<svg")
        assert "#010203" not in svg.lower()
        assert "currentColor" in svg


def motif_rows(n_matching: int) -> str:
    """A motifs.tsv: the E-values fall from row to row; the last kernel matches nothing."""
    columns = "kernel sites information_bits consensus match match_name match_evalue"
    lines = [columns.replace(" ", "\t")]
    for kernel in range(n_matching):
        name = f"{HOSTILE[:8]}{kernel}".replace('"', "")
        lines.append(f"{kernel}\t7\t9.87\tGATTACA\tMA{kernel}\t{name}\t1.23e-{kernel + 3:02d}")
    lines.append(f"{n_matching}\t0\tNA\tNA\tNA\tNA\tNA")
    return "\n".join(lines) + "\n"


def test_motifs_of_the_run_best_first_with_logos(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    logos = tmp_path / "motifs" / "logos"
    logos.mkdir(parents=True)
    (tmp_path / "motifs" / "motifs.tsv").write_text(motif_rows(43))
    (tmp_path / "motifs" / "summary.json").write_text('{"summary": "43 of 44 kernels <match>"}')
    (logos / "kernel_42.png").write_bytes(b"png")
    text = report.write_report(tmp_path).read_text()
    page = Page(text)
    shown = [row for row in page.rows if len(row) == 6][1:]
    assert len(shown) == 40
    assert shown[0] == ["42", "", f"{HOSTILE[:8]}42 (MA42)", "1.2e-45", "9.9", "7"]
    assert shown[1][:2] == ["41", "GATTACA"]  # no logo: the letters
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert images == [
        {"class": "logo", "src": "data:image/png;base64,cG5n", "alt": "GATTACA"},
    ]
    assert "43 of 44 kernels &lt;match&gt;." in text
    assert "The best 40 are shown;" in text


def test_motif_table_without_its_columns(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "motifs").mkdir()
    (tmp_path / "motifs" / "motifs.tsv").write_text("kernel\tsites\n1\t2\n")
    with pytest.raises(InputError, match=r"motifs\.tsv: lacks consensus, information_bits, match"):
        report.write_report(tmp_path)


def test_the_sheet_of_matches_stands_before_the_table(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "motifs").mkdir()
    (tmp_path / "motifs" / "motifs.tsv").write_text(motif_rows(2))
    (tmp_path / "motifs" / "matches.png").write_bytes(b"png")
    text = report.write_report(tmp_path).read_text()
    assert 0 < text.index("data:image/png;base64,cG5n") < text.index("best match</th>")


def test_pictures_of_explanations_are_limited_each_and_in_all(tmp_path: Path) -> None:
    """7 explanations of 8 pictures: 6 of each of the first 5 are in the page, 30 in all."""
    (tmp_path / "config.json").write_text("{}")
    for number in range(7):
        folder = tmp_path / "explain" / f"e{number}"
        folder.mkdir(parents=True)
        files = [f"{i}.png" for i in range(8)]
        for file in files:
            (folder / file).write_bytes(b"png")
        pictures = [{"file": file, "caption": f"c{number}"} for file in files]
        summary = {"title": f"title {number}", "pictures": pictures}
        (folder / "explanation.json").write_text(json.dumps(summary))
    text = report.write_report(tmp_path).read_text()
    assert text.count("data:image/png;base64,cG5n") == 30
    assert [text.count(f"<figcaption>c{number}<") for number in range(7)] == [6] * 5 + [0] * 2
    assert text.count("2 more pictures and the numbers") == 5
    assert text.count("8 more pictures and the numbers") == 2
    assert all(f"<h3>title {number}</h3>" in text for number in range(7))
