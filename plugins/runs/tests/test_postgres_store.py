"""`PostgresRunStore` keeps the contract."""

from __future__ import annotations

from itertools import count

import pytest
from nexus_runs.postgres_store import PostgresRunStore

from nexus_core.testing import RunStoreContract

numbers = count(1)


class TestContract(RunStoreContract):
    examples = 10

    @pytest.fixture(autouse=True)
    def _server(self, postgres_server):
        self.url = postgres_server.url

    def place(self):
        return f"place_{next(numbers)}"

    def store(self, place):
        return PostgresRunStore(self.url, place)
