"""Words of the command line: what is typed is what the workflow gets, whatever the encoding."""

from __future__ import annotations

import json
import math
import os
import pty
import subprocess
import sys
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("nexus_cli")

from nexus_cli.commands.execution import read_data
from nexus_cli.commands.fields import Fields
from nexus_cli.options import Options, UsageError, as_utf8, take
from nexus_cli.terminal.output import Output, json_escape

from nexus_core import Nexus, NexusError

COMMAND = [sys.executable, "-m", "nexus_core"]
APP = Path(__file__).with_name("app_for_tests.py")
STRING, INTEGER, NUMBER, BOOLEAN, NULL = ({"type": each} for each in ("string", "integer", "number", "boolean", "null"))


@pytest.mark.parametrize(
    ("rest", "words", "params"),
    [
        (STRING, ["--a", "1", "--b", "true", "--c", '{"x": 1}'], {"a": "1", "b": "true", "c": '{"x": 1}'}),
        (STRING, ["--a="], {"a": ""}),
        (INTEGER, ["--a", "1", "--b", "x"], {"a": 1, "b": "x"}),
        (BOOLEAN, ["--a", "--b=false", "--c", "false"], {"a": True, "b": False, "c": False}),
        ({"type": "array", "items": STRING}, ["--a", "1", "--a", "2"], {"a": ["1", "2"]}),
        ({"$ref": "#/$defs/Name"}, ["--a", "1"], {"a": "1"}),
        (True, ["--a", "1", "--b", "x", "--c"], {"a": 1, "b": "x", "c": True}),
        (False, ["--a", "1"], {"a": 1}),
    ],
)  # fmt: skip
def test_names_without_a_schema_of_their_own_have_that_of_the_rest(rest, words, params):
    schema = {"type": "object", "properties": {}, "additionalProperties": rest, "$defs": {"Name": STRING}}
    assert Fields(schema).read(words) == params


def test_flags_of_more_text_reach_the_workflow(nexus, tmp_path):
    (tmp_path / "rest.py").write_text(
        "from nexus_core import Nexus\nnexus = Nexus()\n@nexus.workflow\ndef tag(**more: str) -> dict: return more\n"
    )
    done = nexus("--app", f"{tmp_path / 'rest.py'}:nexus", "execute", "tag", "--n", "1", "--flag", "true", app=False)
    assert (done.code, done.json["result"]) == (0, {"n": "1", "flag": "true"})


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        (".5", NUMBER, 0.5), ("-.5", NUMBER, -0.5), ("+.5", NUMBER, 0.5), ("5.", NUMBER, 5), ("+1", INTEGER, 1),
        ("-0.5e-3", NUMBER, -0.0005), (".5e3", NUMBER, 500.0), ("007", INTEGER, 7), ("-00", INTEGER, 0),
        (".5", {"anyOf": [NUMBER, NULL]}, 0.5), (".5", STRING, ".5"), (".5", {"anyOf": [NUMBER, STRING]}, ".5"),
        (".", NUMBER, "."), ("1_000", NUMBER, "1_000"), ("nan", NUMBER, "nan"), ("-", NUMBER, "-"), ("٣", INTEGER, "٣"),
        ("1e", NUMBER, "1e"), ("--5", NUMBER, "--5"), (".5", INTEGER, 0.5), (".5", {}, ".5"),
        ("12345678901234567890.12", NUMBER, Decimal("12345678901234567890.12")),
        (".12345678901234567890", NUMBER, Decimal("0.12345678901234567890")),
    ],
)  # fmt: skip
def test_numbers_as_people_write_them(text, schema, value):
    found = Fields({}).value(text, schema)
    assert (found, type(found)) == (value, type(value))


def test_headers_of_a_shell_and_of_one_line():
    base, rest = take(["--header", "X-Region: eu", "shell", "--header=X-Stage:"], Options())
    assert (base.headers, rest) == ({"x-region": "eu", "x-stage": ""}, ["shell"])
    line, _ = take(["--header", "x-region: us"], base)
    assert line.headers == {"x-region": "us", "x-stage": ""}
    assert base.headers["x-region"] == "eu"


@pytest.mark.parametrize(
    "text",
    ["true", ": eu", "X Region: eu", "X-Region: ä", "X-Region: eu\r\nHost: x", "Host: example.com", "authorization: x",
     "X-Nexus-Session: s", "Transfer-Encoding: chunked"],
)  # fmt: skip
def test_headers_that_are_refused(text):
    with pytest.raises(UsageError, match=r"^Option --header (needs 'NAME: VALUE'|can't set [a-z-]+: --token)"):
        take(["execute", "--header", text], Options())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["null", "true", "1", "-1", "--x", "[]", '["a"]', "{}", '"', "", " ", "=", "a=b", "\ufeff", "\u202e"]
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
KINDS = {
    "string": (STRING, TEXTS),
    "optional": ({"anyOf": [STRING, NULL]}, TEXTS),
    "integer": (INTEGER, st.integers()),
    "number": (NUMBER, FLOATS),
    "decimal": ({"anyOf": [NUMBER, STRING]}, st.decimals(allow_nan=False, allow_infinity=False, places=30)),
    "boolean": (BOOLEAN, st.booleans()),
    "strings": ({"type": "array", "items": STRING}, st.lists(TEXTS, max_size=4)),
    "numbers": ({"type": "array", "items": NUMBER}, st.lists(FLOATS, max_size=4)),
    "object": ({"type": "object"}, st.dictionaries(TEXTS, TEXTS | st.integers() | st.none(), max_size=3)),
    "anything": ({}, st.integers() | st.booleans() | st.none() | st.lists(TEXTS, max_size=3)),
}


@st.composite
def command_lines(draw):
    """A schema, the words of a command line, and the parameters that they mean."""
    names = draw(st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), min_size=1, max_size=6, unique=True))
    properties, words, params = {}, [], {}
    for name in names:
        kind = draw(st.sampled_from(sorted(KINDS)))
        properties[name], values = KINDS[kind]
        params[name] = value = draw(values)
        option = f"--{name.replace('_', '-') if draw(st.booleans()) and name.replace('_', '-') == name else name}"
        for text in written(kind, value, draw):
            is_apart = draw(st.booleans()) and not text.startswith("--") and kind != "boolean"
            words += [option, text] if is_apart else [f"{option}={text}"]
    return {"type": "object", "properties": properties}, words, params


def written(kind, value, draw):
    """Return the texts that a person types for a value: several for a list."""
    if kind in ("string", "optional"):
        return [value]
    if kind == "decimal":
        return [f"{value:f}"]
    if kind == "number":
        text = repr(value)
        return [text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") and draw(st.booleans()) else text]
    items = value if kind == "strings" else [repr(each) for each in value] if kind == "numbers" else None
    if items and not (len(items) == 1 and items[0].strip()[:1] in ("[", "n")):  # which would be the whole list
        return items
    return [json.dumps(value, ensure_ascii=draw(st.booleans()))]


@settings(max_examples=200, deadline=None)
@given(command_lines())
def test_what_goes_in_comes_out(case):
    schema, words, params = case
    found = Fields(schema).read(words)
    for name, value in params.items():
        if isinstance(value, Decimal):
            assert Decimal(str(found[name])) == value
        elif isinstance(value, float):
            assert math.isclose(found[name], value, rel_tol=0, abs_tol=0)
        else:
            assert found[name] == value
    assert found.keys() == params.keys()


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, max_size=6))
def test_any_words_are_read_or_refused_in_words(words):
    """No command line ends in a traceback."""
    schema = {"type": "object", "properties": {"x": STRING, "n": NUMBER, "l": {"type": "array"}, "f": BOOLEAN}}
    with suppress(UsageError, NexusError):
        Fields(schema).read([f"--{each}" if index % 2 else each for index, each in enumerate(words)])


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
@pytest.mark.parametrize("way", ["stdin", "file"])
def test_a_byte_order_mark_is_no_part_of_the_data(nexus, tmp_path, mark, way):
    text = mark + b'{"a": 2}'
    (tmp_path / "in.json").write_bytes(text)
    done = nexus.forked("execute", "add", "--data", "-" if way == "stdin" else f"@{tmp_path / 'in.json'}", stdin=text)
    assert done.json["result"] == 3


def test_data_in_utf_16_is_read(tmp_path):
    for encoding in ("utf-16-le", "utf-16-be"):
        (tmp_path / "in.json").write_bytes(("\ufeff" + '{"a": "é"}').encode(encoding))
        assert read_data(f"@{tmp_path / 'in.json'}").decode() == '{"a": "é"}'


def test_a_byte_order_mark_in_front_of_a_shells_commands(nexus):
    done = nexus("shell", stdin=b"\xef\xbb\xbfexecute add --a 2\n")
    assert '"result":3' in done.out, done


ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
ENCODINGS = {
    "C locale": {"LC_ALL": "C"},
    "ASCII": ASCII,
    "ASCII streams": {"PYTHONIOENCODING": "ascii"},
    "strict ASCII streams": ASCII | {"PYTHONIOENCODING": "ascii:strict"},
    "Latin 1 streams": {"PYTHONIOENCODING": "latin-1"},
}
TEXT = "é→😀"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_passes_where_the_locale_is_not_utf_8(nexus, encoding):
    env = ENCODINGS[encoding]
    done = nexus("execute", "echo", "--text", TEXT, "--number", "1", env=env)
    assert (done.code, done.err) == (0, "")
    assert done.json["result"]["text"] == TEXT
    done = nexus("shell", stdin=f"execute echo --text {TEXT}\n".encode(), env=env)
    if encoding != "Latin 1 streams":  # whose input is Latin 1
        assert json.loads(done.out)["result"]["text"] == TEXT, done
    done = nexus("execute", "add", "--a", TEXT, env=env)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert "--a: expected integer" in done.err
    if encoding != "Latin 1 streams":  # whose output is Latin 1
        done = nexus("execute", "no" + TEXT, env=env)
        assert done.code == 66
        assert ("no" + TEXT in done.err) or (r"no\xe9\u2192\U0001f600" in done.err)
    for words in (["execute", "echo", "--help"], ["list"], ["--help"]):
        done = nexus(*words, env=env)
        assert (done.code, "Traceback" in done.err) == (0, False), done


@pytest.mark.parametrize(
    "words", [["execute", "echo", "--text", TEXT], ["list"], ["--help"], ["execute", "add", "--a", TEXT]]
)
def test_a_terminal_that_is_not_utf_8(nexus, words):
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=child, stdout=child, stderr=child, cwd=nexus.cwd,
        env=nexus.env | ASCII | {"NEXUS_APP": str(APP), "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(child)
    out = b""
    try:
        while chunk := os.read(parent, 65536):
            out += chunk
    except OSError:  # the other end is closed
        pass
    process.wait(30)
    os.close(parent)
    assert b"Traceback" not in out, out.decode(errors="replace")
    assert out.isascii()
    if "echo" in words:
        assert b"\\u00e9\\u2192\\ud83d\\ude00" in out or b"\\xe9\\u2192\\U0001f600" in out


def test_json_on_such_a_terminal_is_the_same_value():
    class Terminal:
        encoding = "ascii"

        def isatty(self):
            return True

    output = Output(Terminal(), Terminal())
    assert json.loads(output._shown(json.dumps(TEXT, ensure_ascii=False))) == TEXT
    assert json.loads(f'"{json_escape("😀")}"') == "😀"


def test_words_that_python_could_not_decode():
    assert as_utf8("a\udcc3\udca9") == "aé"
    assert as_utf8("é\u2192") == "é→"
    assert as_utf8("\udcff") == "\udcff"


@pytest.mark.parametrize(
    ("data", "params"),
    [
        ({"node": {"data": 1}}, {"node": {"data": 1}}),
        ({"data": 1}, {"data": 1}),
        ({"a": 1, "b": 2}, {"data": {"a": 1, "b": 2}}),
        ({"a": 1, "node": {}}, {"a": 1, "node": {}}),
        ({}, {}),
        ([1], [1]),
    ],
)
def test_data_is_the_parameter_of_that_name_only_where_no_name_is_the_workflows(data, params):
    from nexus_cli.server.service import Service

    from nexus_core import Workflow

    class ByNode(Workflow):
        def takes(self, name):
            return name == "node" or super().takes(name)

        async def run(self, params, context):
            return params

    nexus = Nexus(discover=False)
    nexus.register("by_node", ByNode("by_node", input_schema={
        "type": "object", "properties": {"data": {}}, "additionalProperties": False,
    }))  # fmt: skip
    assert Service(nexus)._params_of_data("by_node", data) == params


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--ap", "shop.py", "list"], "Unknown option '--ap'. Did you mean '--app'?"),
        (["--conect=http://127.0.0.1:1", "list"], "Unknown option '--conect'. Did you mean '--connect'?"),
        (["list", "--ap", "shop.py"], "Unknown option '--ap'. Did you mean '--app'?"),
        (["runs", "list", "--wrkflow", "x"], "Unknown option '--wrkflow'. Did you mean '--workflow'?"),
        (["serve", "--stdi"], "Unknown option '--stdi'. Did you mean '--stdio'?"),
        (["-x"], "Unknown option '-x'. See --help."),
        (["--quiet", "list"], "Unknown option '--quiet'. See --help."),
    ],
)
def test_a_misspelt_option_is_named_with_the_nearest(nexus, words, says):
    done = nexus(*words, app=False)
    assert (done.code, done.out, done.err) == (2, "", f"nexus: {says}\n")


@pytest.mark.parametrize("words", [[], ["runs"], ["runs", "list"], ["execute"]])
def test_help_is_a_word_for_the_option(nexus, words):
    done = nexus("help", *words, app=False)
    assert (done.code, done.out) == (0, nexus(*words, "--help", app=False).out)
    assert done.out.startswith("Usage: nexus")
