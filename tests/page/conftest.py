"""A project whose page is served, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.stack import free_ports
from tests.helpers.browser import chromium, sample_project, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_project(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def address(project: Path) -> Iterator[str]:
    """Of the project's page, which lives on whatever a test does to it."""
    with serving(project, *free_ports(1)) as (address, process):
        yield address
        assert process.poll() is None
        assert "Traceback" not in (project / "ui.log").read_text()


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser
