"""`Nexus.start` as it owns a process or a thread."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from process_code import CALLS_AT_START, until

from nexus_core.app import serving


def test_it_may_run_in_another_thread(run: Any) -> None:
    process = run(
        """
        nexus = make()
        thread = threading.Thread(target=nexus.start)
        thread.start()
        nexus.stop()
        thread.join()
        print("left")
        nexus.stop()
        """
    )
    out, err = process.communicate(timeout=30)
    assert "Traceback" not in err
    assert out.splitlines()[-1] == "left"
    assert process.returncode == 0


def test_it_can_be_started_again(run: Any) -> None:
    process = run(
        """
        class Stopping:
            @hookimpl
            def nexus_startup(self, nexus):
                threading.Timer(0.3, nexus.stop).start()
        nexus = make(Stopping())
        for number in (1, 2):
            nexus.start()
            print("left", number)
        """
    )
    out, err = process.communicate(timeout=30)
    assert out.splitlines() == ["ready", "left 1", "ready", "left 2"], err
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(run: Any, number: int) -> None:
    process = run(
        """
        class Stuck:
            @hookimpl
            def nexus_shutdown(self):
                print("stopping", flush=True)
                threading.Event().wait()
        make(Stuck(), plugin_timeout=60).start()
        """
    )
    until(process, "ready")
    process.send_signal(number)
    until(process, "stopping")
    process.send_signal(number)
    assert process.wait(10) == 128 + number


def test_one_signal_waits_for_the_shutdown(run: Any) -> None:
    process = run(
        """
        class Slow:
            @hookimpl
            async def nexus_shutdown(self):
                await asyncio.sleep(0.3)
                print("shut down", flush=True)
        make(Slow()).start()
        print("left")
        """
    )
    until(process, "ready")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert out.splitlines() == ["shut down", "left"], err
    assert process.returncode == 0


IGNORES_CANCELLATION = """
    @nexus.workflow
    async def work():
        while True:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                pass
"""
LEAVES_A_TASK = """
    left = []
    async def stubborn():
        while True:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                pass
    @nexus.workflow
    async def work():
        left.append(asyncio.create_task(stubborn()))
        await left[0]
"""
BLOCKS_A_THREAD = """
    @nexus.workflow
    async def work():
        await asyncio.to_thread(threading.Event().wait)
"""
BLOCKS = """
    @nexus.workflow
    def work():
        threading.Event().wait()
"""


@pytest.mark.parametrize(
    "work",
    [IGNORES_CANCELLATION, LEAVES_A_TASK, BLOCKS_A_THREAD, BLOCKS],
    ids=["ignores", "task", "executor", "thread"],
)
def test_work_that_does_not_stop_does_not_keep_the_process(run: Any, work: str) -> None:
    process = run(
        "    from nexus_core import Invocation\n"
        + CALLS_AT_START
        + work
        + """
    nexus.start()
    print("left", flush=True)
    """
    )
    until(process, "working")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert out.splitlines()[-1] == "left", err
    assert process.returncode == 0
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_what_runs_until_one_in_good_order(run: Any, number: int) -> None:
    process = run(
        """
        from nexus_core.concurrency import process
        class Closes:
            @hookimpl
            def nexus_shutdown(self):
                print("shut down", flush=True)
        async def main():
            async with make(Closes()):
                print("ready", flush=True)
                await asyncio.Event().wait()
        process.run_until_signal(main())
        print("left", flush=True)
        """
    )
    until(process, "ready")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert out.splitlines() == ["shut down", "left"], err
    assert (process.returncode, err) == (0, "")


def test_calls_in_threads_of_the_loop_are_waited_for_at_the_end(run: Any) -> None:
    process = run(
        """
        from nexus_core.concurrency import process
        def slow(number):
            time.sleep(0.3)
            return number
        async def main():
            asyncio.get_running_loop().run_in_executor(None, lambda: (time.sleep(0.5), print("written", flush=True)))
            return sum(await asyncio.gather(*(asyncio.to_thread(slow, n) for n in range(50))))
        print(process.run(main()))
        """
    )
    out, err = process.communicate(timeout=30)
    assert sorted(out.splitlines()) == ["1225", "written"], err


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("Nexus(discover=False).start()", "pip install nexus-hub-hypercorn"),
        ("make(server='other').start()", "There is no server 'other'; installed plugins provide: ready."),
        ("make(host='192.0.2.1').start()", "enable_auth=True"), ("make(host='::').start()", "enable_auth=True"),
        ("make(host='').start()", "enable_auth=True"),
    ],
)  # fmt: skip
def test_what_prevents_the_start_is_one_line(run: Any, code: str, words: str) -> None:
    process = run(code)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert len(err.splitlines()) == 1
    assert err.startswith("nexus: ")
    assert words in err
    assert out == ""


def test_a_server_that_ends_early_or_raises_is_not_waited_for(run: Any) -> None:
    process = run(
        """
        from nexus_core import Channel
        class Door(Channel):
            name, port = "door", 0
            def asgi_app(self):
                return lambda *_: None
        class Doors:
            @hookimpl
            def nexus_register_channels(self):
                return [Door()]
        Ready.serve = lambda self, listeners, started, stop: asyncio.sleep(0)
        make(Doors()).start()
        """
    )
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == 'nexus: The server "ready" stopped before it was listening.\n'


def test_a_platform_without_ports_runs_until_it_is_stopped(run: Any) -> None:
    process = run(
        """
        class Stopping:
            @hookimpl
            def nexus_startup(self, nexus):
                threading.Timer(0.3, nexus.stop).start()
        Ready.serve = lambda self, listeners, started, stop: asyncio.sleep(0)
        make(Stopping()).start()
        print("left")
        """
    )
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "left\n"), err
    assert "No port is open: no active plugin has a channel that listens. pip install nexus-hub-api adds REST" in err


def test_nothing_on_the_event_loop_but_a_signal_ends_the_process(run: Any) -> None:
    process = run(
        """
        class Leaves:
            @hookimpl
            async def nexus_startup(self, nexus):
                loop = asyncio.get_running_loop()
                self.task = loop.create_task(self.leave(SystemExit(3)))
                self.other = loop.create_task(self.leave(KeyboardInterrupt()))
                loop.call_later(0.2, lambda: (_ for _ in ()).throw(SystemExit(4)))
                loop.call_later(0.5, nexus.stop)
            async def leave(self, exception):
                raise exception
        make(Leaves()).start()
        print("left", flush=True)
        """
    )
    out, err = process.communicate(timeout=30)
    assert (out.split(), process.returncode) == (["ready", "left"], 0), err
    assert err.count("; the process continues") == 3


def test_a_start_where_an_event_loop_runs_says_what_to_do(run: Any) -> None:
    process = run(
        """
        from nexus_core import ConfigurationError
        nexus = make()
        async def cell():
            try:
                nexus.start()
            except ConfigurationError as exc:
                print(exc)
            thread = threading.Thread(target=nexus.start)
            thread.start()
            while "serving" not in repr(nexus):
                await asyncio.sleep(0.01)
            nexus.stop()
            thread.join()
        asyncio.run(cell())
        """
    )
    out, err = process.communicate(timeout=30)
    assert "here one runs, as in notebooks and async code: serve with `async with nexus.serving(): ...`" in out
    assert "threading.Thread(target=nexus.start).start()" in out
    assert "Traceback" not in err
    assert "Warning" not in err


def test_serve_takes_no_option_by_its_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    """As where the plugin cli reads the command line."""
    with pytest.raises(SystemExit) as left:
        serving.run(["absent.py", "--stdi"])
    assert left.value.code == 2
    assert "unrecognized arguments: --stdi" in capsys.readouterr().err
