"""`nexus plugins check` among plugins that do to their process what they like."""

from __future__ import annotations

import json
import time
from typing import Any

GOOD = "@hookimpl\ndef nexus_register_commands(nexus): return []\n"
ACTIVE = {
    "babbles": "print('{\"status\": \"failed\"}')\nimport atexit\natexit.register(print, 'bye')",
    "thread": "import threading\nthreading.Thread(target=threading.Event().wait).start()",
    "child": "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'])",
    "closes": "import os\nos.close(1)\nos.close(2)",
    "replaces": "import sys\nsys.stdout = sys.stderr = None",
}
FAILED = {
    "exits": ("import os\nos._exit(7)", "ended the interpreter (7)"),
    "crashes": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "ended the interpreter (-11)"),
    "asks": ("input()", "EOFError"),
}


def test_each_is_judged_by_its_hooks_and_nothing_is_waited_for(site: Any, installed: list[str]) -> None:
    for name, code in ACTIVE.items():
        site.add(name, GOOD + code)
    for name, (code, _) in FAILED.items():
        site.add(name, code)
    begin = time.monotonic()
    done = site.python("-m", "nexus_core", "plugins", "check", "--json", *ACTIVE, *FAILED)
    assert time.monotonic() - begin < 20
    assert done.returncode == 1
    records = {record["name"]: record for record in json.loads(done.stdout)}
    for name in ACTIVE:
        assert (records[name]["status"], records[name]["hooks"]) == ("active", ["nexus_register_commands"]), name
    for name, (_, reason) in FAILED.items():
        assert records[name]["status"] == "failed"
        assert reason in records[name]["reason"]


def test_it_agrees_with_a_platform_that_starts(site: Any) -> None:
    site.add("startless", "@hookimpl\nasync def nexus_startup(nexus): raise ValueError('no database')\n")
    site.add("flawed", "@hookimpl\ndef nexus_register_interceptors(nexus): return [object()]\n")
    site.add("exiting", "import os\nos._exit(7)")
    site.add("fine", GOOD)
    done = site.python("-m", "nexus_core", "plugins", "check", "--json", "startless", "flawed", "exiting", "fine")
    records = {record["name"]: (record["status"], record["reason"]) for record in json.loads(done.stdout)}
    assert records.pop("exiting")[0] == "failed"
    assert records == {
        "startless": ("failed", "nexus_startup failed: ValueError: no database"),
        "flawed": ("failed", "nexus_register_interceptors returned a object without 'stage'"),
        "fine": ("active", ""),
    }
    assert (done.returncode, done.stderr) == (1, "")


def test_a_platform_that_does_not_start_is_told_of(site: Any) -> None:
    site.add("fine", GOOD)
    done = site.python("-m", "nexus_core", "plugins", "check", "--json", "fine", NEXUS_MAX_CONCURRENT_WORKFLOWS="0")
    assert "does not start: environment variable NEXUS_MAX_CONCURRENT_WORKFLOWS: " in done.stderr


def test_functions_that_are_called_like_hooks_are_reported(site: Any) -> None:
    site.add(
        "forgetful",
        GOOD + "def nexus_startup(nexus): ...\ndef nexus_register_interceptor(nexus): ...\ndef nexus_helper(): ...\n",
    )
    done = site.python("-m", "nexus_core", "plugins", "check", "--json", "forgetful")
    (record,) = json.loads(done.stdout)
    assert (record["status"], done.returncode) == ("active", 0)
    assert record["warnings"] == [
        "nexus_register_interceptor (did you mean nexus_register_interceptors?) is not marked with @hookimpl: it is "
        "never called",
        "nexus_startup is not marked with @hookimpl: it is never called",
    ]
    assert record["reason"] == "; ".join(record["warnings"])
