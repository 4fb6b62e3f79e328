"""`SqliteRunStore` keeps the contract."""

from __future__ import annotations

import pytest
from nexus_runs.sqlite_store import SqliteRunStore

from nexus_core.runs.status import new_run_id
from nexus_core.testing import RunStoreContract


class TestContract(RunStoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path

    def place(self):
        return self.folder / f"{new_run_id()}.db"

    def store(self, place):
        return SqliteRunStore(place)
