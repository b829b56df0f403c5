"""Random text that is hard to tokenize: scripts, white space, contractions, digits, emoji, special tokens."""

# ruff: noqa: RUF001, SIM905, E501 -- lists of awkward characters

from random import Random

PIECES = (
    " |  |   |'s|'T|'re|'LL|'| don't|we'VE|123|1234567| 42|½|٣|²|Ⅷ|hello| world|Hello|HELLOworld|camelCase| iPhone|é|"
    "e\u0301|ß|ñandú|Привет| мир|你好|世界|日本語|カタカナ|ひらがな|한국어|😀|👩\u200d👩\u200d👧|🏳\ufe0f\u200d🌈|…|—|“q”|!!!|?!|...|"
    "(a)|[b]|{c}|<d>|#|$5|€|+=|`x`|~|^|\\|/path/x|//|a_b|__init__|<|ﬁ|Ǆ|ǅ|ʰ|ª|ا|سلام|שלום|हिन्दी|ไทย|𝔘𝔫𝔦|𐐷|🇩🇪|ÅÄÖ|µ|İ|ı|_|-|0|"
    "٪|،|。|、|！|～|\u0300|\u20e3|1\ufe0f\u20e3|  x|x |A'S|'ſ|K|’s|s|S|lL|ve"
).split("|") + (
    "\n,\n\n, \n,\t,\r\n,\r,\n x, \t y,\u200b,\u200d,\u00a0,\u2003,\u3000,\x00,\x01,\x1c,\x7f,\x85,\ufeff,\u180e,\u2028,|,"
    "<|im_start|>,<|im_end|>,<|endoftext|>,<|im_end,|>"
).split(",")


def random_text(random: Random, longest: int = 9) -> str:
    """Mostly joined pieces, sometimes arbitrary characters."""
    count = random.randint(1, longest)
    draw = random.random()
    if draw < 0.75:
        return "".join(random.choices(PIECES, k=count))
    if draw < 0.9:
        return "".join(chr(random.choice(_RANGES)(random)) for _ in range(count))
    return "".join(chr(random.randrange(1, 128)) for _ in range(2 * count))


_RANGES = (
    lambda random: random.randrange(0x1, 0x250),
    lambda random: random.randrange(0x250, 0xD800),
    lambda random: random.randrange(0xE000, 0x110000),
)
