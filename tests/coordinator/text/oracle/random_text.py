"""Random texts from a seed: ordinary sentences, code, emoji, white space, control strings, raw code points."""

CONTROL = ["<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|\"|>",
           "<|think|>", "<bos>", "<eos>", "<unk>", "<pad>", "<|image|>", "<0x0A>", "<0xE2>", "<mask>",
           "<|tool>", "<tool|>", "<|tool_response>", "<tool_response|>", "[multimodal]", "<unused7>"]
WORDS = ("the of and to in is was for model token stream request import return def class self None "
         "https://example.org/a?b=c&d=1 e.g. don't it's U.S.A. 3.14159 1,000,000 0x1F snake_case "
         "CamelCase résumé naïve Straße Ærø přílišžluťoučký zażółć Привет мир Ελληνικά עברית العربية "
         "हिन्दी বাংলা தமிழ் ไทย 日本語 中文字符 한국어 ქართული Հայերեն አማርኛ ខ្មែរ 👍 👨‍👩‍👧‍👦 🇩🇪 e\u0301 \u200b ﷽ 𝔘𝔫𝔦 𓀀𓂀 "
         "<div class=\"x\"> </div> {\"a\":[1,2]} // /* */ #include <vector> && || -> => != <= :: ... -- __init__ "
         "\u2581 \u2581\u2581x a\u2581b").split(" ")
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\n\n\n\n", "\t", "\t\t", "\r\n", " \n ", "        ", "\u00a0", "\u3000",
          " " * 33, "\n" * 40, "\t" * 19, "\n    ", "\x0b", "\x00"]


def code_point(rng):
    kind = rng.random()
    if kind < 0.35:
        return chr(rng.randrange(0x20, 0x7F))
    if kind < 0.5:
        return chr(rng.randrange(0, 0x250))
    if kind < 0.8:
        value = rng.randrange(0x250, 0xFFFE)
    else:
        value = rng.choice([rng.randrange(0x1F300, 0x1FAFF), rng.randrange(0x10000, 0x110000)])
    return "\ufffd" if 0xD800 <= value <= 0xDFFF else chr(value)


def random_text(rng, pieces=None):
    """`pieces`: strings of the vocabulary, glued together in one of the modes."""
    mode = rng.random()
    length = rng.choice([1, 2, 3, 5, 8, 13, 30, 80])
    if mode < 0.35:
        return "".join(rng.choice(WORDS) + (rng.choice(SPACES) if rng.random() < 0.8 else "") for _ in range(length))
    if mode < 0.5:
        return "".join(code_point(rng) for _ in range(length))
    if mode < 0.6:
        return "".join(rng.choice([rng.choice(CONTROL), rng.choice(WORDS), rng.choice(SPACES)]) for _ in range(length))
    if mode < 0.7:
        unit = rng.choice([rng.choice(WORDS), rng.choice(SPACES), code_point(rng), "aA"])
        return unit * rng.randrange(1, 150)
    if mode < 0.9 and pieces:
        return "".join(rng.choice(pieces) for _ in range(length))
    return "".join(rng.choice("aeinorst \n.<>|_\u2581") for _ in range(length * 3))
