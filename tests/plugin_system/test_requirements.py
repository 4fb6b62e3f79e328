"""Requirements on the core, against the reference implementation."""

from __future__ import annotations

import itertools

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from nexus_core.plugins.requirements import holds, unmet_requirement

VERSIONS = ["0.1", "0.1.0", "0.1.5", "0.2", "0.2.0", "0.10", "1", "1.0", "1.0.0", "1.0.1", "1.10.2", "2.0", "v1.0"]
WANTED = ["0.1", "0.1.0", "0.1.5", "0.2", "0.10.0", "1", "1.0", "1.0.1", "1.10", "2"]


def meets(version: str, specifier: str) -> bool:
    return unmet_requirement([f"core{specifier}"], "core", version) is None


@pytest.mark.parametrize("operator", [">=", "<=", ">", "<", "==", "!=", "~="])
def test_operators_on_final_releases(operator: str) -> None:
    for version, wanted in itertools.product(VERSIONS, WANTED):
        if operator == "~=" and "." not in wanted:
            continue  # not allowed
        expected = SpecifierSet(operator + wanted).contains(version)
        assert meets(version, operator + wanted) is expected, (version, operator, wanted)


@pytest.mark.parametrize("operator", ["==", "!="], ids=["equal", "unequal"])
def test_wildcards(operator: str) -> None:
    for version, wanted in itertools.product(VERSIONS, WANTED):
        specifier = f"{operator}{wanted}.*"
        assert meets(version, specifier) is SpecifierSet(specifier).contains(version), (version, specifier)


@pytest.mark.parametrize(
    "text",
    [
        "core", "core>=0.1,<0.2", "core >= 0.1, < 0.2", "core (>=0.1,<0.2)", "core[extra]>=1", "Core>=1",
        "core!=0.1.5,>=0.1", "core~=0.1.0", 'core>=0.1; python_version >= "3.11"',
    ],
)  # fmt: skip
def test_forms_of_a_requirement(text: str) -> None:
    for version in VERSIONS:
        expected = Requirement(text).specifier.contains(version)
        assert (unmet_requirement([text], "core", version) is None) is expected, (text, version)


@pytest.mark.parametrize("version", ["0.2.0a1", "0.2.0rc1", "0.2.0.dev3", "0.2.0.post1", "0.2.0+local", "1!0.2.0"])
def test_what_follows_the_release_does_not_count(version: str) -> None:
    """A pre-release of the core counts as its release: who tests 0.2.0rc1 wants the plugins for 0.2.0."""
    assert meets(version, ">=0.2")
    assert meets(version, "==0.2.0")
    assert not meets(version, "<0.2")
    assert not meets(version, ">0.2.0")


def test_others_requirements_and_those_of_extras_do_not_count() -> None:
    lines = ["other>=9", 'core>=9; extra == "tests"', "core-more>=9", "corelike>=9"]
    assert unmet_requirement(lines, "core", "1.0") is None
    assert unmet_requirement([*lines, "core>=9"], "core", "1.0") == "core>=9"
    assert unmet_requirement(["Nexus_Hub.Core>=9"], "nexus-hub-core", "1.0") == "Nexus_Hub.Core>=9"
    assert unmet_requirement([], "core", "1.0") is None


@pytest.mark.parametrize(
    "marker",
    [
        'python_version >= "3.11"', "python_version<'3.11'", 'python_full_version != "3.11.0"',
        'sys_platform == "linux"',
        'os_name=="posix" and sys_platform=="win32"', 'os_name == "nt" or sys_platform == "linux"',
        '(os_name == "nt" or sys_platform == "linux") and python_version ~= "3.9"',
        'platform_machine in "x86_64 arm64"',
        'implementation_name not in "pypy"', '"linux" in sys_platform', 'python_version > "3.9" and extra == "x"',
        'os_name == "nt" and os_name == "nt" or os_name == "posix"', 'platform_python_implementation == "CPython"',
    ],
)  # fmt: skip
def test_markers(marker: str) -> None:
    assert holds(marker) is Marker(marker).evaluate({"extra": ""})
    line = f"core>=9; {marker}"
    assert (unmet_requirement([line], "core", "1") is not None) is holds(marker)


@pytest.mark.parametrize("marker", ["nonsense", 'a == "b"', "(os_name == 'posix'", "os_name ==", "or", 'os_name "x"'])
def test_a_marker_that_is_none_does_not_hold(marker: str) -> None:
    assert not holds(marker)
