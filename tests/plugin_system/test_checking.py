"""`nexus plugins check` among plugins that do to their process what they like."""

from __future__ import annotations

import json
import time
from typing import Any

GOOD = "@hookimpl\ndef nexus_register_commands(nexus): return []\n"
ACTIVE = {
    "prints": "print('{\"status\": \"failed\"}')\nimport atexit\natexit.register(print, 'bye')",
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
