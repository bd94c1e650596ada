"""The house rules that no other test sees: which module may import which, and what imports cost."""

import ast
import graphlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import danq_keras

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "danq_keras"
HEAVY = {"tensorflow", "keras", "torch"}
MOST_LINES = 520

# Top to bottom. An import points to a line above, or within a line without a cycle. A new module
# must be given its place here.
LINES: dict[str, str] = {
    "package": "__init__",
    "NumPy only": "dna metrics calibration resources console presets effects",
    "files": "targets store deepsea matlab matlab_writer genome fasta_index bed motifs "
    "vcf motif_matching tomtom",
    "composition": "build build_summary build_write genome_spec labels splits bundle bundle_files "
    "duplicates dataset_comparison demo baseline auc_tables comparison comparison_text plots "
    "report inputs recipes search_space study repeats run_sets repeats_report repeats_comparison "
    "folds pooling kernel_motifs variants background effects_reader effects_files boosted_trees "
    "prioritisation prioritiser sequence_inputs prediction_files explain_plots explanation_files "
    "logos",
    "TensorFlow and Keras": "pipeline models optimizers checkpoints legacy restudy steps predict "
    "predict_stream first_layer finetuning training experiment variant_scores variant_stream "
    "explain insertions",
    "commands": "commands.*",
}
FIRST_HEAVY_LINE = list(LINES).index("TensorFlow and Keras")


def line_of(module: str) -> int | None:
    name = "commands.*" if module.startswith("commands.") else module
    found = [i for i, names in enumerate(LINES.values()) if name in names.split()]
    return found[0] if found else None


def package_modules() -> dict[str, Path]:
    """Dotted name below danq_keras → file; packages count as their __init__."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imported_names(source: str) -> set[str]:
    """Absolute dotted names of all imports, also those inside functions and conditions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            names |= {f"{prefix}.{alias.name}" for alias in node.names}
    return names


def own_imports(source: str, modules: set[str]) -> set[str]:
    """Modules of the package that `source` imports; the package itself is `__init__`."""
    own = set()
    for name in imported_names(source):
        parts = name.split(".")
        if parts[0] != "danq_keras":
            continue
        candidates = [".".join(parts[1:end]) for end in range(len(parts), 1, -1)]
        own.add(next((c for c in candidates if c in modules), "__init__"))
    return own


def import_graph() -> dict[str, set[str]]:
    modules = package_modules()
    names = set(modules)
    return {name: own_imports(path.read_text(), names) for name, path in modules.items()}


def test_reader_sees_lazy_aliased_and_relative_imports() -> None:
    source = (
        "import keras.ops as ops\n"
        "from danq_keras import store, __version__\n"
        "def f():\n    from danq_keras.models import unpack\n    import torch\n"
        "if True:\n    from danq_keras.commands import train\n"
        "from . import dna\n"
    )
    assert {"keras.ops", "torch", "..dna"} <= imported_names(source)
    modules = {"__init__", "store", "models", "commands.train"}
    assert own_imports(source, modules) == modules


def test_every_module_has_its_place() -> None:
    unplaced = [name for name in package_modules() if line_of(name) is None]
    assert not unplaced, f"give these a line in LINES: {unplaced}"
    listed = [name for names in LINES.values() for name in names.split()]
    assert len(listed) == len(set(listed))


def test_imports_point_upwards() -> None:
    wrong = [
        f"{module} → {imported}"
        for module, targets in import_graph().items()
        for imported in sorted(targets)
        if (line_of(imported) or 0) > (line_of(module) or 0)
    ]
    assert not wrong


def test_no_import_cycle() -> None:
    graph = {module: targets - {module} for module, targets in import_graph().items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"modules import each other: {' → '.join(error.args[1])}")


def test_no_relative_imports() -> None:
    relative = [
        module
        for module, path in package_modules().items()
        if any(name.startswith(".") for name in imported_names(path.read_text()))
    ]
    assert not relative


def test_no_tensorflow_above_its_line() -> None:
    wrong = [
        f"{module}: {name}"
        for module, path in package_modules().items()
        if (line_of(module) or 0) < FIRST_HEAVY_LINE
        for name in sorted(imported_names(path.read_text()))
        if name.split(".")[0] in HEAVY
    ]
    assert not wrong


def test_modules_are_of_readable_size() -> None:
    long = {
        name: n_lines
        for name, path in package_modules().items()
        if (n_lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not long


def run_python(code: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_light_modules_load_neither_tensorflow_nor_keras() -> None:
    """The package, all modules above the line and all parsers, in one fresh process."""
    light = [m for m in package_modules() if (line_of(m) or 0) < FIRST_HEAVY_LINE]
    parsers = [
        name
        for name, path in package_modules().items()
        if name.startswith("commands.") and "\ndef parser(" in path.read_text()
    ]
    assert len(parsers) >= 4
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1].split():\n"
        "    importlib.import_module('danq_keras.' + name)\n"
        "for name in sys.argv[2].split():\n"
        "    importlib.import_module('danq_keras.' + name).parser()\n"
        f"print(sorted({HEAVY} & set(sys.modules)))\n"
    )
    loaded = run_python(code, " ".join(m for m in light if m != "__init__"), " ".join(parsers))
    assert loaded.strip() == "[]"


_RUN_SCRIPT = f"""
import contextlib, io, json, runpy, sys
script, answers = sys.argv[1], {{}}
for flag in ("--help", "--version"):
    sys.argv = [script, flag]
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code or 0
    answers[flag] = [status, out.getvalue()]
answers["heavy"] = sorted({HEAVY} & set(sys.modules))
print(json.dumps(answers))
"""

SCRIPTS = sorted(path.name for path in (ROOT / "bin").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_say_help_and_version_without_tensorflow(script: str) -> None:
    answers = json.loads(run_python(_RUN_SCRIPT, str(ROOT / "bin" / script)))
    status, text = answers["--help"]
    assert status == 0
    assert script in text
    assert "example" in text.lower()
    status, text = answers["--version"]
    assert status == 0
    assert danq_keras.__version__ in text
    assert answers["heavy"] == []


def test_scripts_are_installed_too() -> None:
    """Each bin/ script calls the main of a console script of the wheel, and the reverse."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    mains = {target.removesuffix(":cli") for target in project["scripts"].values()}
    called = {
        name.removesuffix(".cli")
        for script in SCRIPTS
        for name in imported_names((ROOT / "bin" / script).read_text())
        if name.endswith(".cli")
    }
    assert called == mains
