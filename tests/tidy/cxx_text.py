"""Just enough C++ reading for the checks: blanking of comments and literals, function bodies."""

import re

_TOKEN = re.compile(
    r"""//[^\n]*"""
    r"""|/\*.*?\*/"""
    r'''|R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)"'''
    r'''|"(?:\\.|[^"\\\n])*"'''
    r"""|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'""",
    re.DOTALL,
)


def code_only(text):
    """Comments and literals replaced by spaces; line numbers and columns stay."""

    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))

    return _TOKEN.sub(blank, text)


_SCOPE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")


def functions(text):
    """Yields (first line, number of lines, name) of each body that is not inside another body.

    A brace opens a body if there is a parenthesis between it and the previous `;`, `{` or `}` and
    no word that opens a scope; that is enough for code formatted by clang-format."""
    code = code_only(text)
    code = re.sub(r"(?m)^[ \t]*#.*(\\\n.*)*$", lambda m: re.sub(r"[^\n]", " ", m.group(0)), code)
    stack = []  # of "scope", "body", "inner" (in a body), "initializer"
    head_start = 0
    begin = None
    for position, character in enumerate(code):
        if character == ";" and "initializer" not in stack:
            head_start = position + 1
        elif character == "{":
            stack.append(_kind(stack, code[head_start:position]))
            if stack[-1] == "body":
                begin = (code[head_start:position], head_start)
            if stack[-1] != "initializer":
                head_start = position + 1
        elif character == "}" and stack:
            kind = stack.pop()
            if kind == "body":
                yield _describe(code, begin, position)
            if kind != "initializer":
                head_start = position + 1


def _kind(stack, head):
    if stack and stack[-1] in ("body", "inner"):
        return "inner"
    # `member_{1}`, `= {}`, and anything within parentheses; a body has a space before its brace.
    is_open = head.count("(") > head.count(")")
    if is_open or re.search(r"[\w>=]$|=\s*$", head):
        return "initializer"
    if "(" in head and not _SCOPE.search(_before_parameters(head)):
        return "body"
    return "scope"


def _before_parameters(head):
    return head.split("(", 1)[0]


def _describe(code, begin, end):
    head, start = begin
    start += len(head) - len(head.lstrip())
    first = code.count("\n", 0, start) + 1
    last = code.count("\n", 0, end) + 1
    names = re.findall(r"[\w:~]+(?=\s*\()", head)
    return first, last - first + 1, names[0] if names else "?"
