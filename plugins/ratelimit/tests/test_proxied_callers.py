"""Whose word on the caller's address counts."""

from __future__ import annotations

import ipaddress
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_core.server.proxies import MAX_HOPS, TrustedProxies

PROXIES = ["127.0.0.1", "10.0.0.0/8", "2001:db8:ffff::/48"]
CLIENT = "203.0.113.9"


def address(peer, *, trusted=tuple(PROXIES), forwarded=None, x_forwarded_for=None, **others):
    headers = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in others.items()}
    if forwarded is not None:
        headers[b"forwarded"] = forwarded.encode("latin-1")
    if x_forwarded_for is not None:
        headers[b"x-forwarded-for"] = x_forwarded_for.encode("latin-1")
    return TrustedProxies(trusted).client(peer, headers)


X_FORWARDED_FOR = [
    (CLIENT, CLIENT),
    (f"  {CLIENT}\t", CLIENT),
    (f"{CLIENT}:4711", CLIENT),
    (f"1.2.3.4, {CLIENT}", CLIENT),
    (f"1.2.3.4, {CLIENT}, 10.1.1.1, 10.2.2.2", CLIENT),
    (f"{CLIENT},10.1.1.1", CLIENT),
    ("2001:db8::7", "2001:db8::7"),
    ("[2001:db8::7]", "2001:db8::7"),
    ("[2001:db8::7]:443", "2001:db8::7"),
    ("2001:0DB8:0:0::7", "2001:db8::7"),
    (f"::ffff:{CLIENT}", CLIENT),
    (f"{CLIENT}, 2001:db8:ffff::1", CLIENT),
    ("10.3.3.3, 10.1.1.1", "10.3.3.3"),  # all are proxies: the first one calls
    # What can't be read ends it at the last address that can.
    ("", "127.0.0.1"),
    ("unknown", "127.0.0.1"),
    ("unknown, 10.1.1.1", "10.1.1.1"),
    (f"{CLIENT}, , 10.1.1.1", "10.1.1.1"),
    (f"{CLIENT},", "127.0.0.1"),
    (f"{CLIENT} 10.1.1.1", "127.0.0.1"),
    ("203.0.113.999", "127.0.0.1"),
    ("0203.0.113.9", "127.0.0.1"),
    ("3405803785", "127.0.0.1"),
    ("203.0.113.9/32", "127.0.0.1"),
    ("203.0.113.9:", "127.0.0.1"),
    ("203.0.113.9:port", "127.0.0.1"),
    ("[203.0.113.9", "127.0.0.1"),
    ("fe80::1%eth0", "127.0.0.1"),
    ("localhost", "127.0.0.1"),
    ("\xe9\x00", "127.0.0.1"),
    ("1" * 5000, "127.0.0.1"),
]


@pytest.mark.parametrize(("header", "client"), X_FORWARDED_FOR)
def test_x_forwarded_for(header, client):
    assert address("127.0.0.1", x_forwarded_for=header) == client


FORWARDED = [
    (f"for={CLIENT}", CLIENT),
    (f'for="{CLIENT}"', CLIENT),
    (f"For={CLIENT};proto=https;by=10.0.0.1", CLIENT),
    (f"proto=https; for={CLIENT}", CLIENT),
    (f"for={CLIENT}:4711", CLIENT),
    ('for="[2001:db8::7]"', "2001:db8::7"),
    ('for="[2001:db8::7]:4711";proto=http', "2001:db8::7"),
    (f"for=1.2.3.4, for={CLIENT}", CLIENT),
    (f'for=1.2.3.4,for="{CLIENT}";host="a, b", for=10.1.1.1', CLIENT),
    (f"for={CLIENT}, for=10.1.1.1;by=10.1.1.2", CLIENT),
    # What the caller has sent can't swallow what the proxy has added.
    (f'for="1.2.3.4, for={CLIENT}', CLIENT),
    (f'for=1.2.3.4;host=", for={CLIENT}', CLIENT),
    (f'"", for={CLIENT};host="a,b"', CLIENT),
    (f'for=1.2.3.4;x="\\", for={CLIENT}', CLIENT),
    ('for="1.2.3.4, for=10.1.1.1', "10.1.1.1"),
    ("for=unknown", "127.0.0.1"),
    ("for=_hidden, for=10.1.1.1", "10.1.1.1"),
    ("proto=https", "127.0.0.1"),
    (f"for={CLIENT};for=1.2.3.4", "127.0.0.1"),
    (f"for={CLIENT},", "127.0.0.1"),
    (f'for="{CLIENT}', "127.0.0.1"),
    ('for=""', "127.0.0.1"),
    ('for="', "127.0.0.1"),
    ("for", "127.0.0.1"),
    ("", "127.0.0.1"),
    (CLIENT, "127.0.0.1"),
]


@pytest.mark.parametrize(("header", "client"), FORWARDED)
def test_forwarded(header, client):
    assert address("127.0.0.1", forwarded=header) == client


@pytest.mark.parametrize("peer", [CLIENT, "127.0.0.2", "2001:db8::1", "::ffff:127.0.0.2", "testclient", "11.0.0.1"])
def test_nobody_else_is_believed(peer):
    for other in ({"x_forwarded_for": "1.2.3.4"}, {"forwarded": "for=1.2.3.4"}, {"x_real_ip": "1.2.3.4"}):
        assert address(peer, **other) == peer


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.200.1.1", "::ffff:10.0.0.1", "2001:db8:ffff:1::1"])
def test_proxies_are_believed(peer):
    assert address(peer, x_forwarded_for=CLIENT) == CLIENT
    assert address(peer) == peer


def test_a_proxy_of_the_link_may_be_named():
    assert address("fe80::1%eth0", trusted=["fe80::/10"], x_forwarded_for=CLIENT) == CLIENT


@pytest.mark.parametrize("name", ["x_real_ip", "x_client_ip", "true_client_ip", "cf_connecting_ip", "via"])
def test_no_other_header_counts(name):
    assert address("127.0.0.1", **{name: CLIENT}) == "127.0.0.1"


def test_two_headers_that_differ_are_not_believed():
    assert address("127.0.0.1", forwarded=f"for={CLIENT}", x_forwarded_for=f"1.2.3.4, {CLIENT}") == CLIENT
    assert address("127.0.0.1", forwarded="for=1.2.3.4", x_forwarded_for=CLIENT) == "127.0.0.1"
    assert address("127.0.0.1", forwarded="x", x_forwarded_for=CLIENT) == "127.0.0.1"


def test_a_chain_has_an_end():
    assert address("127.0.0.1", x_forwarded_for=f"{CLIENT}, " + "10.1.1.1, " * (MAX_HOPS - 2) + "10.1.1.2") == CLIENT
    assert address("127.0.0.1", x_forwarded_for=f"{CLIENT}, " + "10.1.1.1, " * MAX_HOPS + "10.1.1.2") == "10.1.1.1"
    assert address("127.0.0.1", forwarded=f"for={CLIENT}," + "for=10.1.1.1," * MAX_HOPS + "for=10.1.1.2") == "10.1.1.1"


def test_what_is_remembered_of_addresses_is_small():
    proxies = TrustedProxies(PROXIES)
    for n in range(20):
        proxies.client("127.0.0.1", {b"x-forwarded-for": b"%d" % n * 3000})
    assert proxies._known.cache_info().currsize == 1


@pytest.mark.parametrize(
    "header",
    [
        "for=10.1.1.1," * 5000,
        '"' * 60_000,
        '",' * 30_000,
        ',"' * 30_000,
        "," * 60_000,
        'for="' * 12_000,
        '"a,' * 20_000,
    ],
    ids=lambda header: header[:15],
)
def test_a_long_header_takes_no_long_time(header):
    begin = time.perf_counter()
    address("127.0.0.1", forwarded=header)
    address("127.0.0.1", x_forwarded_for=header)
    assert time.perf_counter() - begin < 3


pieces = st.sampled_from(
    ["for=", "1.2.3.4", "10.1.1.1", '"', ",", ";", " ", "\\", "=", "[2001:db8::1]", ":80", "unknown", "host="]
)


@given(st.lists(pieces, max_size=12).map("".join))
def test_whatever_a_caller_sends_the_address_that_the_proxy_adds_is_its_own(sent):
    assert address("127.0.0.1", x_forwarded_for=f"{sent}, {CLIENT}") == CLIENT
    for added in (f"for={CLIENT}", f'for="{CLIENT}:80";proto=https;host="a,b"'):
        assert address("127.0.0.1", forwarded=f"{sent}, {added}") == CLIENT
        assert address("127.0.0.1", forwarded=f"{sent},{added}, for=10.1.1.1") == CLIENT


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_give_an_address(forwarded, other):
    for headers in ({b"forwarded": forwarded}, {b"x-forwarded-for": other}):
        ipaddress.ip_address(TrustedProxies(PROXIES).client("127.0.0.1", headers))


async def test_callers_behind_a_proxy_are_told_apart(start):
    platform = await start(trusted_proxies=["127.0.0.1"])
    for client in ("1.2.3.4", "1.2.3.5"):
        headers = {b"x-forwarded-for": f"6.6.6.6, {client}".encode()}
        assert await platform.count(5, address="127.0.0.1", headers=headers) == 3
        invocation, _ = await platform.call(address="127.0.0.1", headers=headers)
        assert invocation.client_address == client


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded", b"x-real-ip"])
async def test_a_caller_does_not_get_calls_by_other_names(start, name):
    for options in ({}, {"trusted_proxies": ["10.0.0.0/8"]}):
        platform = await start(**options)
        headers = [
            {name: f"for=1.2.3.{n}".encode()} if name == b"forwarded" else {name: b"1.2.3.%d" % n} for n in range(9)
        ]
        assert sum([await platform.passes(headers=each) for each in headers]) == 3


async def test_later_stages_see_the_address_even_where_nothing_is_limited(start):
    platform = await start(enable_rate_limiting=False, trusted_proxies=["127.0.0.1"])
    invocation, error = await platform.call(address="127.0.0.1", headers={b"x-forwarded-for": b"1.2.3.4"})
    assert error is None
    assert invocation.client_address == "1.2.3.4"
    assert await platform.count(5) == 5
