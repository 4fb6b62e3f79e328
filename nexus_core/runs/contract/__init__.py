"""`RunStoreContract`: the tests that every `RunStore` passes. They need pytest, and one of them hypothesis."""

# ruff: noqa: D102  (the names of tests say what they test)

from __future__ import annotations

import pytest

from nexus_core.runs.contract.asking import AskingTests
from nexus_core.runs.contract.reading import ReadingTests
from nexus_core.runs.contract.sharing import SharingTests
from nexus_core.runs.contract.writing import WritingTests


class RunStoreContract(WritingTests, ReadingTests, AskingTests, SharingTests):
    """What every `RunStore` keeps to. Subclass it, and say how a store and the place of its data are made.

    Example::

        class TestContract(RunStoreContract):
            @pytest.fixture(autouse=True)
            def _folder(self, tmp_path):
                self.folder = tmp_path

            def place(self):
                return self.folder / new_run_id()

            def store(self, place):
                return MyRunStore(place)

    Attributes:
        examples: How many sequences of calls are compared with a model.
    """

    def test_sequences_of_calls_do_what_a_model_does(self) -> None:
        pytest.importorskip("hypothesis")
        from nexus_core.runs.contract.machine import run_machine

        run_machine(self, self.examples)
