"""What the README promises exists: its commands, files, recipes and settings."""

import re
import subprocess
from pathlib import Path

from mmn_jax.config import default

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_ci_runs_the_readme_s_own_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in script and "pytest" not in script
    extracted = subprocess.run(
        ["awk", "/<!-- test -->/ {found = 1; next} found && /^```/ {if (inside) exit; inside = 1; next} inside", str(ROOT / "README.md")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "venv" in extracted and "pip install" in extracted and "pytest" in extracted


def test_every_setting_named_in_the_docs_exists():
    settings = default()
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "configs").glob("*.py")):
        for key in re.findall(r"--config\.([a-z0-9_.]+)=", page.read_text()):
            value = settings
            for part in key.split("."):
                assert part in value, f"{page.name} names --config.{key}"
                value = value[part]


def test_every_file_named_in_the_readme_exists():
    for name in re.findall(r"`((?:mmn_jax|configs|bin|tests|docs)/[\w./]*)`", README):
        assert (ROOT / name).exists(), name


def test_every_module_says_what_it_is_for():
    for path in (*(ROOT / "mmn_jax").rglob("*.py"), *(ROOT / "configs").glob("*.py")):
        assert path.read_text().lstrip().startswith('"""'), path
