"""Values that are easily lost on the way: decimals sent as numbers, bytes in models. The same on every channel."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import textwrap
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pydantic
import pytest
from doors import DOORS

from nexus_core import Nexus

if TYPE_CHECKING:
    from pathlib import Path

LONG = "12345678901234567890.12"
LONGER = "0.1000000000000000000000000000000001"


class Price(pydantic.BaseModel):
    amount: Decimal
    rate: float = 0.5
    image: bytes = b""


@dataclasses.dataclass
class Order:
    prices: list[Price]
    total: Decimal | None = None


class Packed(msgspec.Struct):
    amount: Decimal
    price: Price | None = None
    rate: float = 0.5


def pay(amount: Decimal) -> Any:
    assert type(amount) is Decimal
    return {"repr": repr(amount), "amount": amount}


def order(order: Order, note: Any = None) -> Any:
    return {"prices": [repr(each) for each in order.prices], "total": repr(order.total), "note": repr(note)}


def pack(packed: Packed) -> Any:
    return repr(packed)


def rest(**amounts: Decimal) -> Any:
    return {name: repr(each) for name, each in amounts.items()}


def plain(real: float, anything: Any = None) -> Any:
    assert type(real) is float
    return [repr(real), repr(anything)]


def image(price: Price) -> Price:
    return price


def maybe(price: Price | None = None) -> Any:
    return price


def build() -> Nexus:
    nexus = Nexus(api_port=0, cli_port=0, mcp_port=0)
    for function in (pay, order, pack, rest, plain, image, maybe):
        nexus.register(function.__name__, function)
    return nexus


@pytest.fixture(name="urls", scope="module")
def urls_fixture(serving: Any) -> Any:
    with serving(build()) as (urls, _):
        yield urls


CASES = {
    "number": ("pay", f'{{"amount": {LONG}}}', {"repr": f"Decimal('{LONG}')", "amount": LONG}),
    "text": ("pay", f'{{"amount": "{LONG}"}}', {"repr": f"Decimal('{LONG}')", "amount": LONG}),
    "long fraction": ("pay", f'{{"amount": {LONGER}}}', {"repr": f"Decimal('{LONGER}')", "amount": LONGER}),
    "short": ("pay", '{"amount": 0.1}', {"repr": "Decimal('0.1')", "amount": "0.1"}),
    "negative": ("pay", f'{{"amount": -{LONG}}}', {"repr": f"Decimal('-{LONG}')", "amount": f"-{LONG}"}),
    "integer": (
        "pay", f'{{"amount": {10**40 + 1}}}', {"repr": f"Decimal('{10**40 + 1}')", "amount": str(10**40 + 1)},
    ),
    "nested": (
        "order",
        f'{{"order": {{"prices": [{{"amount": {LONG}, "rate": {LONG}}}], "total": {LONGER}}}, "note": {LONG}}}',
        {
            "prices": [f"Price(amount=Decimal('{LONG}'), rate=1.2345678901234567e+19, image=b'')"],
            "total": f"Decimal('{LONGER}')", "note": "1.2345678901234567e+19",
        },
    ),
    "struct": (
        "pack", f'{{"packed": {{"amount": "{LONG}", "price": {{"amount": {LONGER}}}, "rate": {LONG}}}}}',
        f"Packed(amount=Decimal('{LONG}'), price=Price(amount=Decimal('{LONGER}'), rate=0.5, image=b''), "
        "rate=1.2345678901234567e+19)",
    ),
    "any name": ("rest", f'{{"a": {LONG}, "b": 1}}', {"a": f"Decimal('{LONG}')", "b": "Decimal('1')"}),
    "no decimal": (
        "plain", f'{{"real": {LONG}, "anything": [{LONG}]}}', ["1.2345678901234567e+19", "[1.2345678901234567e+19]"],
    ),
    "bytes": (
        "image", '{"price": {"amount": 1, "image": "//4="}}', {"amount": "1", "rate": 0.5, "image": "//4="},
    ),
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS, ids=lambda each: each.name)
@pytest.mark.parametrize("case", CASES)
async def test_nothing_is_lost(urls: dict[str, str], door: Any, case: str) -> None:
    workflow, params, wanted = CASES[case]
    answer = await door(urls).call(workflow, params)
    assert (answer.code, answer.value) == (None, wanted)


@pytest.mark.parametrize("door", DOORS, ids=lambda each: each.name)
async def test_errors_in_an_optional_type_name_the_field(urls: dict[str, str], door: Any) -> None:
    answer = await door(urls).call("maybe", '{"price": {"rate": "x"}}')
    assert answer.code == "validation_error"
    assert [each["pointer"] for each in answer.errors] == ["/price/amount", "/price/rate"]


async def run(*words: str, given: bytes = b"", **environment: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={k: v for k, v in os.environ.items() if not k.startswith("NEXUS_")} | environment,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(given), 60)
    assert process.returncode == 0, err.decode()
    return out


APP = """
from decimal import Decimal
from nexus_core import Nexus

nexus = Nexus(api_port=0, cli_port=0, mcp_port=0)

@nexus.workflow
def pay(amount: Decimal, amounts: list[Decimal] = []) -> str:
    return f"{amount!r} {amounts}"
"""
PAID = f"Decimal('{LONG}') [Decimal('-{LONGER}')]"


@pytest.fixture(name="app")
def app_fixture(tmp_path: Path) -> str:
    (tmp_path / "shop.py").write_text(textwrap.dedent(APP))
    return f"{tmp_path / 'shop.py'}:nexus"


@pytest.mark.parametrize("where", ["in process", "connected"])
async def test_fields_of_the_command_line(urls: dict[str, str], app: str, where: str) -> None:
    if where == "connected":
        out = await run("-m", "nexus_core", "--json", "--connect", urls["cli"], "execute", "pay", "--amount", LONG)
        assert json.loads(out)["result"]["repr"] == f"Decimal('{LONG}')"
        return
    words = ["-m", "nexus_core", "--json", "--app", app, "execute", "pay"]
    out = await run(*words, "--amount", LONG, "--amounts", f"-{LONGER}")
    assert json.loads(out)["result"] == PAID
    out = await run(*words, "--data", f'{{"amount": {LONG}, "amounts": [-{LONGER}]}}')
    assert json.loads(out)["result"] == PAID


async def test_mcp_over_stdio(app: str) -> None:
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
    lines = [
        json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}),
        '{"jsonrpc": "2.0", "method": "notifications/initialized"}',
        '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pay", "arguments": '
        f'{{"amount": {LONG}, "amounts": [-{LONGER}]}}}}}}',
    ]
    out = await run(
        "-m", "nexus_core", "serve", "--stdio", "--app", "shop:nexus", given="\n".join(lines).encode() + b"\n",
        PYTHONPATH=os.path.dirname(app.removesuffix(":nexus")),
    )  # fmt: skip
    answer = json.loads(out.splitlines()[-1])
    assert answer["result"]["structuredContent"]["result"] == PAID
