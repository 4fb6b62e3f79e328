"""What the command line shows of the names that language models see."""

from __future__ import annotations

TOOL = "reports_monthly_xebe30a3c20"


def test_list_and_describe_tell_the_tool_name_that_models_see(nexus, terminal, tmp_path):
    app = tmp_path / "shop.py"
    app.write_text("from nexus_core import Nexus\nnexus = Nexus()\nnexus.register('reports.monthly', lambda: 1)\n")
    listed = nexus.forked("--app", str(app), "list", app=False).json["workflows"]
    assert listed == [{"name": "reports.monthly", "description": "", "tool_name": TOOL}]
    described = nexus.forked("--app", str(app), "describe", "reports.monthly", app=False)
    assert described.json["tool_name"] == TOOL
    for words in (["list"], ["describe", "reports.monthly"]):
        shown = terminal("--app", str(app), *words, app=False)
        assert shown.end() == 0
        assert TOOL in shown.text
