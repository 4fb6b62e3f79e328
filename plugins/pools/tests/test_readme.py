"""What the pages show works."""

from __future__ import annotations

import os
import re
import socketserver
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from nexus_core.plugins.discovery import discover

README = Path(__file__).parents[1] / "README.md"
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "connection-pools.md"
ADDRESS = "postgresql://shop:secret@127.0.0.1:5432/shop"
WEB = "https://rates.example"

SHOP = """
import asyncio

async def main():
    async with nexus:
        async with nexus.service("db_pool").acquire() as connection:
            await connection.execute("DROP TABLE IF EXISTS customers; CREATE TABLE customers (id int, name text)")
            await connection.execute("INSERT INTO customers VALUES (1, 'Ann')")
        print((await nexus.invoke("customer", {"id": 1})).value)
        await nexus.invoke("rename", {"id": 1, "name": "Bob"})
        print((await nexus.invoke("customer", {"id": 1})).value)
        print((await nexus.invoke("exchange_rates")).value)
        if "first_rate" in nexus.list_workflows():
            print((await nexus.invoke("first_rate")).value)
        async with nexus.service("db_pool").acquire() as connection:
            await connection.execute("DROP TABLE customers")

asyncio.run(main())
"""


class Rates(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"EUR": 1.0}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def web():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Rates) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def printers():
    class Printer(socketserver.StreamRequestHandler):
        def handle(self):
            self.rfile.read()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Printer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def run(program):
    others = ",".join(each.name for each in discover() if each.name != "pools")  # their imports would take seconds
    variables = {**os.environ, "NO_PROXY": "127.0.0.1", "NEXUS_DISABLED_PLUGINS": others}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readmes_workflows(postgres_server, web):
    first, second, _ = blocks(README)
    assert ADDRESS in first
    assert WEB in first
    program = (first + second).replace(ADDRESS, postgres_server.url).replace(WEB, web)
    assert run(program + SHOP) == "Ann\nBob\n{'EUR': 1.0}\n"


def test_the_readmes_pool_of_ones_own(printers):
    *_, own = blocks(README)
    assert run(own.replace("PORT", str(printers))) == "0 1 0 5\n"


def test_the_pages_workflows(postgres_server, web, printers):
    *shop, own = blocks(PAGE)
    program = "\n".join(shop).replace(ADDRESS, postgres_server.url).replace(WEB, web)
    assert ADDRESS in "".join(shop)
    assert run(program + SHOP) == "Ann\nBob\n{'EUR': 1.0}\n1.0\n"
    assert run(own.replace("PORT", str(printers))) == "printed\n"
