"""An installed wheel works outside the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cascade_core", "cascade_langchain", "cascade_llamaindex")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("cascade_routing-*.whl"))


def test_the_wheel_holds_the_three_packages_typed_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)


def test_it_says_what_it_is_and_needs(wheel):
    archive = zipfile.ZipFile(wheel)
    (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = message_from_bytes(archive.read(path))
    assert (metadata["Name"], metadata["Requires-Python"]) == ("cascade-routing", ">=3.10")
    assert metadata["License-Expression"] == "MIT"
    assert {"langchain", "llamaindex", "local", "dev"} <= set(metadata.get_all("Provides-Extra"))
    assert "pydantic<2.14,>=2.7" in metadata.get_all("Requires-Dist")


def test_constraints_are_versions_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    version = re.compile(r"[\w.-]+(\[\w+\])?==[\w.!+-]+( *; .+)?")
    assert [line for line in lines if not line.startswith("#") and not version.fullmatch(line)] == []


def test_it_imports_in_a_fresh_environment_outside_the_checkout(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "fresh")], check=True)
    python = tmp_path / "fresh" / "bin" / "python"
    home = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(home),
    ]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    # Its dependencies come from here; the checkout's own editable install does not (a .pth inside is not read).
    (home / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    script = "\n".join(f"import {package}; print({package}.__file__)" for package in PACKAGES)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    out = subprocess.run(
        [python, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path, env=clean
    )
    assert out.returncode == 0, out.stderr
    assert all(line.startswith(str(home)) for line in out.stdout.split())
