"""The proof of a GPU day, rehearsed: its parts on the CPU, its document, and its states."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gsp_deploy.doctor.diagnosis import Diagnosis, diagnose
from gsp_deploy.errors import GateError, GspDeployError, MissingCapabilityError
from gsp_deploy.proof import Finding, Proof, ProofSettings, prove, run
from gsp_deploy.proof.kernel import kernel_lab
from gsp_deploy.proof.suite import device_tests
from gsp_deploy_cli.main import main

CPU = ProofSettings("cpu")
LAB = """#!{python}
import json, sys
right = {right}
case = {{"right": right, "same_twice": True, "pooled_error": 1e-6, "plan": "block"}}
timing = {{"solver": "certified", "input": "float16", "layout": "last", "batch": 1, "locations": 49,
          "plan": "block", "l2": "warm", "p50_us": 9.0, "p90_us": 9.5, "average_p50_us": 5.0,
          "floor_us": None}}
path = sys.argv[sys.argv.index("--json") + 1]
json.dump({{"device": {{}}, "correctness": [case], "timings": [timing]}}, open(path, "w"))
sys.exit(0 if right else 1)
"""


@pytest.fixture(scope="module")
def diagnosis() -> Diagnosis:
    return replace(diagnose(), no_gpu="no GPU in this test")


def lab(folder: Path, right: bool = True) -> Path:
    program = folder / "lab"
    program.write_text(LAB.format(python=sys.executable, right=right))
    program.chmod(0o755)
    return program


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(run, "PARTS", {name: run.PARTS[name] for name in names})


@pytest.mark.slow
def test_a_rehearsal_runs_every_part(diagnosis, tiny_export, tmp_path) -> None:
    seen: list[str] = []
    settings = ProofSettings("cpu", lab(tmp_path), Path("tests"), Path(tiny_export))
    found = prove(diagnosis, settings, seen.append)
    states = {one.name: one.state for one in found.findings}
    assert set(run.PARTS) <= set(states)
    assert seen[: len(run.PARTS)] == list(run.PARTS)
    wrong = [one for one in found.findings if one.state in ("failed", "error")]
    assert wrong == []
    assert {name for name in run.PARTS if states[name] == "not run"} == {"clocks and power"}
    found.check()
    page = found.to_markdown()
    assert "Nothing here ran on a GPU" in page
    assert all(f"| {name} |" in page for name in run.PARTS)
    json.dumps(found.to_dict())


def test_without_a_gpu_every_part_is_not_run_with_its_reason(diagnosis) -> None:
    found = prove(diagnosis, ProofSettings())
    parts = [one for one in found.findings if one.name in run.PARTS]
    assert {(one.state, one.detail) for one in parts} == {("not run", "no GPU in this test")}
    assert "Nothing here ran" not in found.to_markdown()


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (GateError("x"), "failed"),
        (MissingCapabilityError("x"), "not run"),
        (ModuleNotFoundError("x"), "not run"),
        (GspDeployError("x"), "error"),
        (RuntimeError("x"), "error"),
    ],
)
def test_the_state_of_every_kind_of_failure(error, state, diagnosis, monkeypatch) -> None:
    def fail(settings: ProofSettings, folder: Path) -> Finding:
        raise error

    monkeypatch.setattr("gsp_deploy.proof.kernel.kernel_lab", fail)
    only(monkeypatch, "pooling kernel")
    found = prove(diagnosis, CPU)
    assert found.findings[0].state == state
    assert "x" in found.findings[0].detail


def test_the_lab_is_read_and_a_wrong_case_fails(tmp_path: Path) -> None:
    found = kernel_lab(replace(CPU, lab=lab(tmp_path)), tmp_path)
    assert found.detail == "1 cases are right, the worst by 1.0e-06; 1 timings"
    assert found.table[0]["floor_us"] is None
    assert found.data["correctness"][0]["plan"] == "block"
    with pytest.raises(GateError, match=r"1 of 1 cases are wrong; the first: .*block"):
        kernel_lab(replace(CPU, lab=lab(tmp_path, right=False)), tmp_path)
    program = tmp_path / "lab"
    program.write_text(f"#!{sys.executable}\nraise SystemExit(4)\n")
    with pytest.raises(MissingCapabilityError):
        kernel_lab(replace(CPU, lab=program), tmp_path / "none")
    program.write_text("not a program")
    with pytest.raises(GspDeployError, match="does not run here"):
        kernel_lab(replace(CPU, lab=program), tmp_path / "none")
    with pytest.raises(MissingCapabilityError, match="no lab program"):
        kernel_lab(CPU, tmp_path)


def test_a_failed_test_fails_the_proof(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    (tests / "device").mkdir(parents=True)
    law = tests / "device" / "test_laws.py"
    law.write_text("def test_right(): pass\ndef test_wrong(): assert 1 == 2\n")
    with pytest.raises(GateError, match=r"1 of 2 tests failed; the first: .*test_wrong"):
        device_tests(replace(CPU, tests=tests), tmp_path)
    law.write_text("import pytest\n@pytest.mark.skip('why')\ndef test_right(): pass\n")
    found = device_tests(replace(CPU, tests=tests), tmp_path)
    assert found.detail == "0 tests passed, 1 were not run"
    assert found.table[0]["reason"] == "why"


def test_tests_that_need_an_absent_package_are_not_run(tmp_path: Path) -> None:
    """Each by itself: the laws of devices need no torch, and no TensorRT."""
    tests = tmp_path / "tests"
    for name, text in {
        "device/test_laws.py": "def test_right(): pass\n",
        "device/test_other.py": "import no_such_package\ndef test_it(): pass\n",
        "device/test_fixture.py": "def test_it():\n    import no_such_package\n",
        "gpu/conftest.py": "import no_such_package\n",
        "gpu/test_engines.py": "def test_it(): pass\n",
    }.items():
        (tests / name).parent.mkdir(parents=True, exist_ok=True)
        (tests / name).write_text(
            text.replace("def test", "import pytest\n@pytest.mark.gpu\ndef test")
        )
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["gpu: a"]\n')
    found = device_tests(ProofSettings(tests=tests), tmp_path)
    assert found.detail == "1 tests passed, 3 were not run"
    assert {row["reason"] for row in found.table} == {"No module named 'no_such_package'"}
    (tests / "device" / "test_other.py").write_text("import gsp_deploy.no_such_module\n")
    with pytest.raises(GateError, match="1 of 4 tests failed; the first: "):
        device_tests(ProofSettings(tests=tests), tmp_path)


def proof(*findings: Finding) -> Proof:
    return Proof(False, "2026-01-02", {"name": "a GPU", "gsp-deploy": "1"}, findings)


def test_the_worst_finding_is_raised() -> None:
    fine, odd = Finding("a", "passed", "1"), Finding("b", "error", "2")
    proof(fine).check()
    with pytest.raises(GateError, match="proof: c: 3"):
        proof(fine, odd, Finding("c", "failed", "3")).check()
    with pytest.raises(GspDeployError, match="proof: b: 2"):
        proof(fine, odd).check()


def test_a_page_keeps_its_tables_whole() -> None:
    page = proof(Finding("a|b", "passed", "x\ny", table=({"t": 1.23456, "u": None},))).to_markdown()
    assert "# a GPU" in page
    assert "| a\\|b | passed | 0 | x y |" in page
    assert "| 1.235 | None |" in page


def command(monkeypatch: pytest.MonkeyPatch, capsys, *words: str) -> tuple[int, str]:
    """Run `doctor`; return its exit code and what it wrote to stderr."""
    monkeypatch.setattr(sys, "argv", ["gsp-deploy", "doctor", *words])
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--full",), "--selftest --full"),
        (("--rehearse",), "--selftest --full"),
        (("--selftest", "--full", "-o", "x.txt"), "ending in .json"),
    ],
)
def test_options_that_do_not_fit_are_one_line(words, said, monkeypatch, capsys) -> None:
    code, err = command(monkeypatch, capsys, *words)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_the_findings_are_written_as_json_and_page(tmp_path, monkeypatch, capsys) -> None:
    only(monkeypatch, "clocks and power")
    output = tmp_path / "proof.json"
    words = ("--selftest", "--full", "--rehearse", "-o", str(output))
    assert command(monkeypatch, capsys, *words)[0] == 0
    found = json.loads(output.read_text())
    assert (found["document"], found["is_rehearsal"]) == ("proof", True)
    assert output.with_suffix(".md").read_text().startswith("<!-- made by gsp-deploy -->")
    code, err = command(monkeypatch, capsys, *words)
    assert code == 2
    assert "pass --force to replace it" in err
    assert command(monkeypatch, capsys, *words, "--force")[0] == 0
