"""Writes what the model's own chat template makes of random conversations, as token ids.

usage: chat_oracle.py TOKENIZER_JSON TEMPLATE july|earlier OUT_FILE SEED NUM_CASES [short]
One JSON object a line: messages, tools, options, and the expected ids, media positions and
starts_in_reasoning. Arguments and schemas are JSON text, as the API receives them.
"""
import json
import random
import sys

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from random_text import CONTROL, random_text
from tokenizers import Tokenizer

NAMES = ["get_weather", "search", "a.b-c", "Tool2", "lookup_city"]
KEYS = ["city", "City", "b", "a", "B", "_x", "days", "äb", "Äa", "zed", "unit-1", "ключ", "Ключ", "type", "items", "keys"]
NUMBERS = ["0", "-1", "42", "3.5", "1e-7", "1E5", "1e16", "123456789012345678901234567890", "-0", "-0.0", "0.1",
           "100.0", "1e22", "2.5e-5", "12345.678", "1e999", "0.0001", "123456789012345680.0", "5e-324"]


class Maker:
    def __init__(self, seed, short):
        self.rng = random.Random(seed)
        self.short = short

    def text(self):
        while True:
            text = random_text(self.rng)
            if self.short:
                text = text[: self.rng.randrange(1, 24)]
            if self.rng.random() < 0.05:
                text = self.rng.choice(["", " ", "\n\n", "\u00a0x\u3000"])
            if not any(control in text for control in CONTROL):
                return text

    def chance(self, probability):
        return self.rng.random() < probability

    def value(self, depth=0):
        kind = self.rng.randrange(7 if depth < 3 else 5)
        if kind == 0:
            return json.dumps(self.text())
        if kind == 1:
            return self.rng.choice(NUMBERS)
        if kind == 2:
            return self.rng.choice(["true", "false"])
        if kind == 3:
            return "null"
        if kind == 4:
            return json.dumps(self.text(), ensure_ascii=False)
        if kind == 5:
            return "[" + ", ".join(self.value(depth + 1) for _ in range(self.rng.randrange(4))) + "]"
        return self.object(depth + 1)

    def object(self, depth=0):
        keys = self.rng.sample(KEYS, self.rng.randrange(5)) if depth else self.rng.choices(KEYS, k=self.rng.randrange(5))
        return "{" + ", ".join(json.dumps(key) + ":" + self.value(depth) for key in keys) + "}"

    def content(self, media, is_model=False):
        if self.chance(0.6):
            return self.marked_text(is_model)
        parts = []
        for _ in range(self.rng.randrange(0, 4)):
            kind = self.rng.choice(["text", "text", "image", "video", "audio"]) if media else "text"
            part = {"type": kind}
            if kind == "text":
                part["text"] = self.marked_text(is_model)
            parts.append(part)
        return parts

    def marked_text(self, is_model):
        text = self.text()
        if is_model and self.chance(0.15):
            text += "<|channel>" + self.text() + self.rng.choice(["<channel|>", ""]) + self.text()
        if is_model and self.chance(0.05):
            text += "<channel|>" + self.text()
        return text

    def property(self, depth):
        schema = {}
        kind = self.rng.choice(["string", "integer", "number", "boolean", "array", "object", "STRING"])
        if self.chance(0.7):
            schema["description"] = self.text()
        schema["type"] = kind
        if self.chance(0.2):
            schema["nullable"] = self.rng.choice([True, False])
        if kind.lower() == "string" and self.chance(0.4):
            schema["enum"] = [self.text() for _ in range(self.rng.randrange(4))]
        if self.chance(0.2):
            schema["default"] = self.rng.choice([1, "x", None, True])
        if kind == "array" and self.chance(0.8):
            schema["items"] = self.items(depth + 1)
        if kind == "object" and self.chance(0.7):
            schema["properties"] = self.properties(depth + 1)
            if self.chance(0.5):
                schema["required"] = list(schema["properties"])[:2]
        elif kind == "object" and self.chance(0.4):
            schema["additionalProperties"] = self.rng.choice([False, {"type": "string"}])
        return schema

    def items(self, depth):
        schema = self.property(depth) if depth < 4 else {"type": "string"}
        if self.chance(0.2):
            schema["type"] = ["string", "null"]
        if self.chance(0.2):
            schema["x"] = {"b": [1, None, "q"], "A": {"k": True}}
        if self.chance(0.1):
            schema["minimum"] = None
        return schema

    def properties(self, depth=0):
        keys = self.rng.sample(KEYS, self.rng.randrange(1, 4)) if depth < 4 else []
        return {key: self.property(depth) for key in keys}

    def tool(self):
        tool = {"name": self.rng.choice(NAMES), "description": self.text()}
        if self.chance(0.85):
            parameters = {"type": "object", "properties": self.properties()}
            if self.chance(0.6):
                parameters["required"] = list(parameters["properties"])[:2]
            if self.chance(0.2):
                parameters["additionalProperties"] = False
            if self.chance(0.1):
                del parameters["properties"]
            tool["parameters"] = json.dumps(parameters)
        return tool

    def assistant(self):
        message = {"role": "assistant"}
        if self.chance(0.8):
            message["content"] = self.content(self.chance(0.1), True)
        if self.chance(0.5):
            message["reasoning"] = self.text()
        results = []
        if self.chance(0.5):
            message["tool_calls"] = []
            for i in range(self.rng.randrange(1, 3)):
                arguments = self.rng.choice([self.object(), self.object(), "{}", "null"])
                message["tool_calls"].append({"id": f"call_{i}", "name": self.rng.choice(NAMES), "arguments": arguments})
            if self.chance(0.8):
                results = [self.result() for _ in range(self.rng.randrange(1, 3))]
        return [message] + results

    def result(self):
        message = {"role": "tool", "tool_call_id": self.rng.choice(["call_0", "call_1", "other", ""])}
        message["content"] = self.rng.choice([self.content(self.media), self.content(False), None])
        if self.chance(0.3):
            message["name"] = self.rng.choice(NAMES)
        return message

    def conversation(self):
        self.media = self.chance(0.3)
        messages = []
        if self.chance(0.4):
            messages.append({"role": self.rng.choice(["system", "developer"]), "content": self.content(False)})
        for _ in range(self.rng.randrange(1, 4 if self.short else 7)):
            if self.chance(0.5):
                messages.append({"role": "user", "content": self.content(self.media)})
            elif self.chance(0.1):
                messages.append({"role": self.rng.choice(["system", "developer"]), "content": self.content(False)})
            else:
                messages += self.assistant()
        return messages


def stranded(messages):
    """Index of a caller with content whose results end the conversation, else -1."""
    i = len(messages) - 1
    while i >= 0 and messages[i]["role"] == "tool":
        i -= 1
    is_caller = 0 <= i < len(messages) - 1 and messages[i].get("tool_calls")
    return i if is_caller else -1


def strip_thinking(text):
    return "".join(part.split("<|channel>")[0] for part in text.split("<channel|>")).strip()


def for_template(messages):
    """As transformers gets them: arguments parsed; and the documented change of stranded content."""
    shaped = []
    for message in messages:
        message = dict(message)
        if "tool_calls" in message:
            message["tool_calls"] = [
                {"id": c["id"], "function": {"name": c["name"], "arguments": json.loads(c["arguments"])}}
                for c in message["tool_calls"]]
        shaped.append(message)
    i = stranded(messages)
    if i >= 0 and shaped[i].get("content"):
        content = shaped[i].pop("content")
        if isinstance(content, list):
            content = "".join(strip_thinking(part.get("text", "")) for part in content)
        else:
            content = strip_thinking(content)
        if content:
            old = shaped[i].get("reasoning")
            shaped[i]["reasoning"] = old + "\n" + content if old else content
    return shaped


def options_of(maker, messages):
    options = {name: maker.chance(0.5) for name in ("enable_thinking", "preserve_thinking")}
    options["add_generation_prompt"] = maker.chance(0.85)
    last = messages[-1]
    options["continue_final_message"] = (
        last["role"] == "assistant" and "tool_calls" not in last and maker.chance(0.5))
    return options


def expected_text(template, case, revision):
    tools = [{"function": {"name": t["name"], "description": t["description"],
                           "parameters": json.loads(t.get("parameters", "null"))}} for t in case["tools"]]
    options = dict(case["options"])
    if options.pop("continue_final_message"):
        options["add_generation_prompt"] = False
        text = template.render(messages=for_template(case["messages"]), tools=tools, bos_token="<bos>", **options)
        assert text.endswith("<turn|>\n")
        return text[: -len("<turn|>\n")]
    return template.render(messages=for_template(case["messages"]), tools=tools, bos_token="<bos>", **options)


def must_skip(case, revision):
    """What the earlier template prints differently on purpose (lists of system text, media, names)."""
    messages = case["messages"]
    if any(m["role"] == "tool" and m["content"] is None for m in messages) and revision == "earlier":
        return True
    if revision != "earlier":
        return False
    if case["options"]["continue_final_message"]:
        return True
    for i, message in enumerate(messages):
        if i == 0 and message["role"] in ("system", "developer") and not isinstance(message["content"], str):
            return True
        content = message.get("content")
        if isinstance(content, list) and any(part["type"] != "text" for part in content):
            return True
        if message["role"] == "tool" and "name" not in message:
            message["name"] = "search"
        if message["role"] == "assistant" and message.get("tool_calls") and content is not None:
            shown = content if isinstance(content, str) else "".join(part["text"] for part in content)
            if bool(content) != bool(strip_thinking(shown)):
                return True
    return False


def main(tokenizer_path, template_path, revision, out_path, seed, num_cases, short=""):
    tokenizer = Tokenizer.from_file(tokenizer_path)
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    environment.globals["raise_exception"] = raise_exception
    template = environment.from_string(open(template_path, encoding="utf-8").read())
    media_ids = [tokenizer.token_to_id(t) for t in ("<|image|>", "<|audio|>", "<|video|>")]
    maker = Maker(int(seed), bool(short))
    written = 0
    with open(out_path, "w", encoding="utf-8") as out:
        while written < int(num_cases):
            messages = maker.conversation()
            case = {"messages": messages, "tools": [maker.tool() for _ in range(maker.rng.choice([0, 0, 1, 2]))],
                    "options": options_of(maker, messages), "revision": revision}
            i = stranded(messages)
            parts = messages[i].get("content") if i >= 0 else None
            if isinstance(parts, list) and any(part["type"] != "text" for part in parts):
                continue
            if must_skip(case, revision):
                continue
            text = expected_text(template, case, revision)
            case["ids"] = tokenizer.encode(text, add_special_tokens=False).ids
            case["media"] = [k for k, id in enumerate(case["ids"]) if id in media_ids]
            case["starts_in_reasoning"] = text.endswith("<|channel>thought\n")
            out.write(json.dumps(case, ensure_ascii=False, separators=(",", ":")) + "\n")
            written += 1


main(*sys.argv[1:])
