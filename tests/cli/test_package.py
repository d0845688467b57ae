"""`gsp-deploy package` and `verify`: what they print, and their exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from gsp_deploy_cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch, capsys) -> Run:
    """Return a function that runs a command: exit code, stdout, stderr."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gsp-deploy", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return command


def test_packaged_and_verified(run: Run, tiny_export: str, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    code, out, err = run("package", tiny_export, "-o", bundle)
    assert code == 0, err
    assert "test_resnet, 8-D" in out
    assert "does not name its licence" in err
    code, out, err = run("verify", bundle)
    assert code == 0, err
    assert "ok: every hash is as packaged" in out
    code, out, _ = run("verify", bundle, "--json")
    document = json.loads(out)
    assert (code, document["document"], document["passed"]) == (0, "verify", True)
    code, out, _ = run("package", tiny_export, "-o", bundle, "--force", "--json")
    document = json.loads(out)
    assert (document["document"], document["version"]) == ("package", 1)
    assert {"file": "LICENSE", "bytes": (bundle / "LICENSE").stat().st_size} in document["files"]


def test_exit_codes(run: Run, tiny_export: str, make_engine, tmp_path: Path) -> None:
    bundle, both = tmp_path / "bundle", tmp_path / "both"
    assert run("package", tiny_export, "-o", bundle)[0] == 0
    code, out, err = run("package", tiny_export, "-o", bundle)
    assert (code, out) == (2, "")
    assert "--force" in err
    assert run("verify", tmp_path)[0] == 1
    (bundle / "README.md").write_text("changed")
    code, out, err = run("verify", bundle)
    assert code == 3
    assert "FAILED: README.md is not the file that was packaged" in " ".join(out.split())
    assert "error: " in err
    engine = make_engine(Path(tiny_export), tmp_path / "m.engine")
    assert run("package", engine, "-o", both, "--onnx", tiny_export)[0] == 0
    code, out, err = run("verify", both)
    assert (code, out) == (4, "")
    assert "--allow-fallback" in err
    code, _, err = run("verify", both, "--allow-fallback")
    assert code == 0
    assert "note: fell back to tiny.onnx" in err


def test_files_that_are_no_images_are_counted(run: Run, tiny_export: str, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (40, 40), "red").save(photos / "a.png")
    (photos / "b.heic").write_bytes(b"")
    code, _, err = run("package", tiny_export, "-o", tmp_path / "bundle", "--images", photos)
    assert code == 0, err
    assert "passed over 1 file: 1 .heic" in err
