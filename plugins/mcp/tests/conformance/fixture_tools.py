"""The fixtures that workflows can't express: other content than JSON, and requests to the client."""

from __future__ import annotations

import asyncio

from mcp import types
from mcp.shared.exceptions import MCPError

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAAAAA=="
NOTHING = {"type": "object", "properties": {}}
OBJECT = "object"


def one(name):
    return {"type": OBJECT, "properties": {name: {"type": "string"}}, "required": [name]}


def text(value):
    return {"type": "text", "text": value}


def image():
    return {"type": "image", "data": PNG, "mimeType": "image/png"}


def embedded(uri, mime_type, content):
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": content}}


def result(*content):
    return {"content": list(content), "resultType": "complete"}


def constant(*content):
    async def call(ctx, params):
        return result(*content)

    return call


async def with_logging(ctx, params):
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.session.send_log_message("info", line, related_request_id=ctx.request_id)
        await asyncio.sleep(0.05)
    return result(text("logged"))


async def streaming(ctx, params):
    await ctx.session.send_log_message("info", "asking", related_request_id=ctx.request_id)
    return await basic_elicitation(ctx, params)


async def sampling(ctx, params):
    message = types.SamplingMessage(
        role="user", content=types.TextContent(type="text", text=params.arguments["prompt"])
    )
    answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    return result(text(f"LLM response: {answer.content.text}"))


def eliciting(schema, message="Please answer"):
    async def call(ctx, params):
        asked = (params.arguments or {}).get("message", message)
        answer = await ctx.session.elicit(asked, schema, related_request_id=ctx.request_id)
        return result(text(f"Elicitation completed: action={answer.action}, content={answer.content}"))

    return call


async def reconnection(ctx, params):
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
    await asyncio.sleep(0.3)
    return result(text("reconnected"))


async def missing_capability(ctx, params):
    capabilities = ctx.session.client_capabilities
    if capabilities is None or capabilities.sampling is None:
        required = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "The client must support sampling.", data=required)
    return result(text("supported"))


# Results that ask for input (2026-07-28)


def elicitation(message, name, kind="string"):
    schema = {"type": OBJECT, "properties": {name: {"type": kind}}, "required": [name]}
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def sample(prompt, tokens=100):
    messages = [{"role": "user", "content": text(prompt)}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": tokens}}


ROOTS = {"method": "roots/list", "params": {}}


def ask(state=None, **requests):
    asked = {"resultType": "input_required", "inputRequests": requests}
    return asked if state is None else asked | {"requestState": state}


def answers(ctx):
    return (ctx.params or {}).get("inputResponses") or {}


def content_of(ctx, key):
    answer = answers(ctx).get(key)
    content = answer.get("content") if isinstance(answer, dict) else None
    return content if isinstance(content, dict) else None


async def basic_elicitation(ctx, params):
    content = content_of(ctx, "user_name")
    if content is None or not isinstance(content.get("name"), str):
        return ask(user_name=elicitation("What is your name?", "name"))
    return result(text(f"Hello, {content['name']}!"))


async def basic_sampling(ctx, params):
    if "capital_question" not in answers(ctx):
        return ask(capital_question=sample("What is the capital of France?"))
    return result(text(str(answers(ctx)["capital_question"].get("content"))))


async def basic_roots(ctx, params):
    if "client_roots" not in answers(ctx):
        return ask(client_roots=ROOTS)
    return result(text(str(answers(ctx)["client_roots"].get("roots"))))


async def request_state(ctx, params):
    if "confirm" not in answers(ctx):
        return ask("round-1", confirm=elicitation("Please confirm", "ok", "boolean"))
    return result(text("state-ok" if ctx.params.get("requestState") == "round-1" else "state-wrong"))


async def multiple_inputs(ctx, params):
    wanted = {
        "user_name": elicitation("What is your name?", "name"),
        "greeting": sample("Generate a greeting", 50),
        "client_roots": ROOTS,
    }
    if wanted.keys() - answers(ctx).keys():
        return ask("several", **wanted)
    return result(text("complete"))


async def multi_round(ctx, params):
    if "step2" in answers(ctx):
        return result(text("complete"))
    if "step1" in answers(ctx):
        return ask("round-2", step2=elicitation("Step 2: What is your favorite color?", "color"))
    return ask("round-1", step1=elicitation("Step 1: What is your name?", "name"))


async def by_capabilities(ctx, params):
    capabilities = ctx.session.client_capabilities
    wanted = {}
    if capabilities is not None and capabilities.sampling is not None:
        wanted["sampled"] = sample("Say something")
    if capabilities is not None and capabilities.elicitation is not None:
        wanted["elicited"] = elicitation("Your name?", "name")
    return ask(**wanted)


def input_required_prompt(ctx, params):
    if "user_context" not in answers(ctx):
        return ask(user_context=elicitation("What context should the prompt use?", "context"))
    return {"messages": [{"role": "user", "content": text("With context.")}], "resultType": "complete"}


USER = {
    "type": OBJECT,
    "properties": {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    },
    "required": ["username", "email"],
}
DEFAULTS = {
    "type": OBJECT,
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
}
TITLED = [{"const": f"value{i}", "title": f"{word} Option"} for i, word in enumerate(("First", "Second", "Third"), 1)]
ENUMS = {
    "type": OBJECT,
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {"type": "string", "oneOf": TITLED},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
    },
}

ASKING = "test_input_required_result_"

TOOLS = {
    "test_image_content": (NOTHING, constant(image())),
    "test_audio_content": (NOTHING, constant({"type": "audio", "data": WAV, "mimeType": "audio/wav"})),
    "test_embedded_resource": (
        NOTHING,
        constant(embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")),
    ),
    "test_multiple_content_types": (
        NOTHING,
        constant(
            text("Multiple content types test:"),
            image(),
            embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
        ),
    ),
    "test_tool_with_logging": (NOTHING, with_logging),
    "test_logging_tool": (NOTHING, with_logging),
    "test_sampling": (one("prompt"), sampling),
    "test_elicitation": (one("message"), eliciting(USER)),
    "test_elicitation_sep1034_defaults": (NOTHING, eliciting(DEFAULTS)),
    "test_elicitation_sep1330_enums": (NOTHING, eliciting(ENUMS)),
    "test_reconnection": (NOTHING, reconnection),
    "test_missing_capability": (NOTHING, missing_capability),
    "test_streaming_elicitation": (NOTHING, streaming),
    "test_trigger_prompt_change": (NOTHING, None),
    f"{ASKING}elicitation": (NOTHING, basic_elicitation),
    f"{ASKING}sampling": (NOTHING, basic_sampling),
    f"{ASKING}list_roots": (NOTHING, basic_roots),
    f"{ASKING}request_state": (NOTHING, request_state),
    f"{ASKING}tampered_state": (NOTHING, request_state),
    f"{ASKING}multiple_inputs": (NOTHING, multiple_inputs),
    f"{ASKING}multi_round": (NOTHING, multi_round),
    f"{ASKING}capabilities": (NOTHING, by_capabilities),
}

PROMPTS = {
    "test_simple_prompt": ((), lambda a: [text("This is a simple prompt for testing.")]),
    "test_prompt_with_arguments": (
        ("arg1", "arg2"),
        lambda a: [text(f"Prompt with arguments: arg1='{a['arg1']}', arg2='{a['arg2']}'")],
    ),
    "test_prompt_with_embedded_resource": (
        ("resourceUri",),
        lambda a: [
            embedded(a["resourceUri"], "text/plain", "Embedded resource content for testing."),
            text("Please process the embedded resource above."),
        ],
    ),
    "test_prompt_with_image": ((), lambda a: [image(), text("Please analyze the image above.")]),
    "test_input_required_result_prompt": ((), None),
}
