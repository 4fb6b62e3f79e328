"""A process that was told to stop ends, whatever its event loop and its threads do."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

import pytest
from process_code import CALLS_AT_START, until

from nexus_core.concurrency.watchdog import EXIT_FORCED

SECONDS = 30
"""Longer than any stop may take here, and shorter than what keeps it."""

STARTS_WORK = "\n    from nexus_core import Invocation" + CALLS_AT_START
SERVES = """
    nexus.start()
    print("left", flush=True)
"""
SLEEPS_ON_THE_LOOP = """
    @nexus.workflow
    async def work():
        print("asleep", flush=True)
        time.sleep(300)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_event_loop_that_is_blocked_does_not_keep_the_process(run: Any, number: int) -> None:
    process = run(STARTS_WORK + SLEEPS_ON_THE_LOOP + SERVES)
    until(process, "asleep")
    process.send_signal(number)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == EXIT_FORCED
    assert "its event loop is blocked, in work (<string>:" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_is_not_kept_waiting_by_it(run: Any, number: int) -> None:
    process = run(STARTS_WORK.replace("shutdown_grace=0.2", "shutdown_grace=300") + SLEEPS_ON_THE_LOOP + SERVES)
    until(process, "asleep")
    for _ in range(2):  # a terminal that closes may send two
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
    process.send_signal(number)
    assert process.wait(SECONDS) == 128 + number


def test_nor_does_a_shutdown_that_blocks_the_loop(run: Any) -> None:
    process = run(
        """
        class Blocks:
            @hookimpl
            async def nexus_shutdown(self):
                time.sleep(300)
        make(Blocks(), shutdown_grace=0).start()
        """
    )
    until(process, "ready")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == EXIT_FORCED
    assert "its event loop is blocked, in nexus_shutdown (<string>:" in err


def test_nor_a_start_that_blocks_the_loop(run: Any) -> None:
    process = run(
        """
        class Blocks:
            @hookimpl
            async def nexus_startup(self):
                print("starting", flush=True)
                time.sleep(300)
        make(Blocks(), shutdown_grace=0).start()
        """
    )
    until(process, "starting")
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == EXIT_FORCED


def test_what_runs_until_a_signal_ends_although_its_loop_is_blocked(run: Any) -> None:
    process = run(
        """
        from nexus_core.concurrency import process
        process.CANCEL_SECONDS = 0.1
        async def main():
            print("ready", flush=True)
            time.sleep(300)
        process.run_until_signal(main())
        """
    )
    until(process, "ready")
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == EXIT_FORCED


@pytest.mark.parametrize(
    "pool", ["threading.Thread(target=sleep, daemon=False).start()", "ThreadPoolExecutor().submit(sleep)"]
)
def test_threads_that_workflows_have_started_do_not_keep_the_process(run: Any, pool: str) -> None:
    process = run(
        STARTS_WORK
        + f"""
    from concurrent.futures import ThreadPoolExecutor
    def sleep():
        print("asleep", flush=True)
        time.sleep(300)
    @nexus.workflow
    def work():
        {pool}
    """
        + SERVES
    )
    until(process, "asleep")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=SECONDS)
    assert (out.splitlines()[-1], process.returncode) == ("left", 0), err
    assert "threads that go on: " in err


def test_a_program_may_go_on_after_the_platform(run: Any) -> None:
    process = run(
        """
        import atexit
        make(shutdown_grace=0).start()
        time.sleep(3)
        print("cleaned up", flush=True)
        atexit.register(lambda: (time.sleep(3), print("written", flush=True)))
        sys.exit(5)
        """.replace("import atexit", "import atexit, sys")
    )
    until(process, "ready")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=SECONDS)
    assert (out.split(), process.returncode) == (["cleaned", "up", "written"], 5), err


def test_sighup_stops_in_good_order(run: Any) -> None:
    process = run("make().start()\nprint('left', flush=True)")
    until(process, "ready")
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=SECONDS)
    assert (out.split(), process.returncode) == (["left"], 0), err


def test_sighup_is_ignored_under_nohup(run: Any) -> None:
    process = run("make().start()", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    until(process, "ready")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0


def test_handlers_that_others_set_on_the_loop_take_nothing_away(run: Any) -> None:
    process = run(
        """
        import signal
        class Listens:
            @hookimpl
            async def nexus_startup(self):
                loop = asyncio.get_running_loop()
                loop.add_signal_handler(signal.SIGUSR1, lambda: print("told", flush=True))
        make(Listens()).start()
        print("left", flush=True)
        """
    )
    until(process, "ready")
    process.send_signal(signal.SIGUSR1)
    until(process, "told")
    process.send_signal(signal.SIGTERM)
    until(process, "left")
    assert process.wait(SECONDS) == 0


def test_a_signal_to_a_process_that_a_workflow_forked_is_that_ones_alone(run: Any) -> None:
    process = run(
        STARTS_WORK
        + """
    import multiprocessing
    @nexus.workflow
    def work():
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
        child.start()
        child.terminate()
        child.join()
        print("child", child.exitcode, flush=True)
    """
        + SERVES
    )
    until(process, f"child -{int(signal.SIGTERM)}")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGTERM)
    until(process, "left")
    assert process.wait(SECONDS) == 0
