"""Tests that are started in the background, where signals are ignored, can interrupt what they start."""

from __future__ import annotations

import signal
import subprocess
import sys

from signal_dispositions import BACKGROUND

SHOW = f"import signal; print([signal.getsignal(each) is signal.SIG_IGN for each in {tuple(map(int, BACKGROUND))}])"


def ignore_signals() -> None:
    for number in BACKGROUND:
        signal.signal(number, signal.SIG_IGN)


def test_what_a_test_starts_ignores_no_signal():
    shown = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True, timeout=30)
    assert shown.stdout.strip() == "[False, False, False]"


def test_what_a_test_starts_ignores_no_signal_where_the_tests_run_in_the_background(request):
    test = f"{request.path}::{test_what_a_test_starts_ignores_no_signal.__name__}"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        request.config.rootpath,
        test,
    ]
    done = subprocess.run(
        command, preexec_fn=ignore_signals, capture_output=True, text=True, timeout=50, cwd=request.config.rootpath
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
