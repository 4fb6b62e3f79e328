"""What tells functions of one name apart, and what does not."""

from __future__ import annotations

import functools
import subprocess
import sys

from nexus_cache.definition import definition

from nexus_core import Nexus


def of(function, **metadata):
    return definition(Nexus(discover=False).register("f", function, metadata))


def adder(more, extra=None):
    def add(n: int) -> int:
        return n + more + (extra is None)

    return add


def decorated(function):
    @functools.wraps(function)
    def wrapper(n: int) -> int:
        return function(n)

    return wrapper


class Callable:
    def __init__(self, more):
        self.more = more

    def __call__(self, n: int) -> int:
        return n + self.more


def test_the_same_function_is_the_same():
    assert of(adder(1)) == of(adder(1))
    assert of(adder(1), tags=["a"]) == of(adder(1), description="other words")
    assert of(decorated(adder(1))) == of(decorated(adder(1)))
    assert of(functools.partial(adder(1))) == of(functools.partial(adder(1)))
    assert of(Callable(1)) == of(Callable(1))
    assert of(adder(1, [])) == of(adder(1, [1])), "what may change is no part of it"


def test_what_is_known_to_differ_differs():
    def other(n: int) -> int:
        return n + 2

    def default(n: int = 1) -> int:
        return n

    def other_default(n: int = 2) -> int:
        return n

    def constant(n: int) -> bool:
        return n in (1, 2)

    def other_constant(n: int) -> bool:
        return n in (1, 3)

    different = [
        adder(1), adder(2), adder("1"), adder(1, adder(1)), adder(1, lambda: 5), other, default, other_default,
        constant, other_constant, decorated(adder(1)), decorated(other), functools.partial(adder(1), n=1),
        functools.partial(adder(1), n=2), Callable(1),
    ]  # fmt: skip
    versions = [of(other, version="1"), of(other, version="2")]
    assert len({*map(of, different), *versions}) == len(different) + 2


def test_every_process_has_the_same():
    code = """
from nexus_core import Nexus
from nexus_cache.definition import definition
def make(region):
    def f(name: str) -> bool:
        return name in {"a", "b", "c", region} or [x for x in name if x in ("x", "y")] == (lambda: region)()
    return f
print(definition(Nexus(discover=False).register("f", make("eu"))).hex())
"""
    printed = {
        subprocess.run(
            [sys.executable, "-c", "\n" * lines + code], capture_output=True, text=True, timeout=60, check=True,
            env={"PYTHONHASHSEED": str(lines)},
        ).stdout
        for lines in (0, 1, 7)
    }  # fmt: skip
    assert len(printed) == 1
