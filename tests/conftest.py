"""What the tests share: the repository's own catalogue, and a params.yaml of the test's own."""

from pathlib import Path

import pytest
import yaml

from toolforge import params
from toolforge.tools import Catalogue, load_tools

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return load_tools(ROOT / "data" / "tools.json")


@pytest.fixture
def write_params(tmp_path, monkeypatch):
    """Write sections as the params.yaml that load_params reads."""

    def write(document) -> None:
        path = tmp_path / "params.yaml"
        path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
        monkeypatch.setattr(params, "PARAMS", path)

    return write
