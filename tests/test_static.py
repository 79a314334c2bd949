"""What is found without running anything: style and likely mistakes (ruff), types that don't fit (mypy), pages that don't build."""

import subprocess
import sys

import pytest
from conftest import ROOT

import mmn_jax


@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "mypy"])
def test_nothing_is_found(command):
    done = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_pages_build_and_every_public_name_has_one(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    for name in mmn_jax.__all__:
        page = (tmp_path / "api" / f"mmn_jax.{name}" / "index.html").read_text()
        assert "doc-contents" in page, name
