"""Numbers in words or digits: conversions and sums."""

import re
from collections.abc import Sequence

from toolforge.records import ToolCall

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBERS = {word: n for n, word in enumerate(_ONES.split())}
NUMBERS |= {word: 10 * n for n, word in enumerate(_TENS.split(), 2)}
SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "dozen": 12}
_WORD = rf"(?:{'|'.join([*NUMBERS, *SCALES])})"
SPELLED = re.compile(
    rf"\b(?:a (?=hundred|thousand|million|dozen))?{_WORD}(?:[ -]{_WORD}|(?:(?<=hundred)|(?<=thousand)) and {_WORD})*\b",
    re.I,
)

# By kind, each unit with the names that people give it behind the one that a call has.
_KINDS = [
    ["miles,mile,mi", "kilometers,kilometer,kilometres,kilometre,km,kms", "meters,meter,metres,metre,m", "feet,foot,ft", "inches,inch,in,inchs",
     "centimeters,centimeter,centimetres,centimetre,cm,cms", "millimeters,millimeter,millimetres,millimetre,mm", "decimeters,decimetres", "yards,yard,yd",
     "nautical miles,nautical mile", "furlongs,furlong", "fathoms,fathom", "light years,light year"],
    ["kilograms,kilogram,kg,kgs,kilos,kilo", "grams,gram,g,grammes", "milligrams,milligram,mg", "pounds,pound,lb,lbs", "ounces,ounce,oz", "stone,stones",
     "tons,ton", "metric tons,metric ton,tonnes,tonne", "carats,carat"],
    ["liters,liter,litres,litre,l", "milliliters,milliliter,millilitres,millilitre,ml", "gallons,gallon,gal", "pints,pint", "quarts,quart", "cups,cup",
     "tablespoons,tablespoon,tbsp", "teaspoons,teaspoon,tsp", "fluid ounces,fluid ounce,fl oz", "cubic feet,cubic foot", "cubic meters,cubic metres"],
    ["celsius,degrees celsius,centigrade,degrees c,c", "fahrenheit,degrees fahrenheit,degrees f,f", "kelvin,kelvins,k"],
    ["miles per hour,mph", "kilometers per hour,kilometres per hour,kilometres an hour,km/h,kph,kmh", "knots,knot", "meters per second,m/s"],
    ["acres,acre", "hectares,hectare,ha", "square feet,square foot,sq ft", "square meters,square metres,square meter,sq m,m2", "square yards,square yard",
     "square miles,square mile", "square kilometers,square kilometres,sq km", "square inches,sq in", "square centimeters,sq cm"],
    ["gigabytes,gigabyte,gb", "megabytes,megabyte,mb", "terabytes,terabyte,tb", "kilobytes,kilobyte,kb", "bytes,byte", "bits,bit"],
    ["seconds,second,secs", "minutes,minute,mins", "hours,hour,hrs", "days,day", "weeks,week", "fortnights,fortnight", "months,month", "years,year",
     "centuries,century"],
    ["horsepower,hp", "kilowatts,kw", "watts,watt"], ["joules,joule", "kilojoules,kj", "calories,calorie"],
]  # fmt: skip
UNITS = {alias: names.split(",")[0] for kind in _KINDS for names in kind for alias in names.split(",")}
_KIND = {names.split(",")[0]: number for number, kind in enumerate(_KINDS) for names in kind}
_UNIT = rf"(?:{'|'.join(sorted(map(re.escape, UNITS), key=len, reverse=True))})\b"
NUMBER = r"(?<![\w:./-])(?:(?:minus |negative |-)?\d[\d,]*(?:\.\d+)?)"


def digits(text: str) -> str:
    """The text with its numbers in digits: "a hundred and six" as 106."""

    def value(match: re.Match[str]) -> str:
        total, part = 0, 0
        for word in re.findall("[a-z]+", match[0].lower()):
            if word == "hundred" or (word == "dozen" and part):
                part = max(part, 1) * SCALES[word]
            elif word in SCALES:
                total, part = total + max(part, 1) * SCALES[word], 0
            else:
                part += NUMBERS.get(word, 0)
        return str(total + part)

    text = re.sub(r"(\d+) and a half", r"\1.5", SPELLED.sub(value, text))
    return re.sub(r"(\d+) and a quarter", r"\1.25", text)


def number(text: str) -> int | float:
    """The value of what NUMBER matches."""
    value = float(re.sub("minus |negative ", "-", text.lower().replace(",", "")))
    return int(value) if value.is_integer() else value


def unit_converter(text: str) -> list[ToolCall]:
    """An amount of one unit, and the units that stand beside it."""
    text = re.sub(r"(\d) (?:of an? |us )", r"\1 ", digits(text))
    text = re.sub(r"\ba quarter (?:of a )?", "0.25 ", re.sub(r"\b(?:a )?half (?:a |an )?", "0.5 ", text))
    amount = re.search(rf"(?P<number>{NUMBER})[ -]?°? ?(?P<unit>{_UNIT})", text, re.I)
    asked = re.search(
        rf"(?:how (?:many|much)|what is|number of) (?P<to>{_UNIT}).*?\b(?:in|is|are|does|do|make|to|would) (?:there in |in )?(?:a|an|one) (?P<unit>{_UNIT})",
        text,
        re.I,
    )
    if not amount and asked:
        return _conversions(1, asked["unit"], [asked["to"]])
    if not amount:
        return []
    if beside := re.fullmatch(rf"\W*(?:\w+ )?{re.escape(amount[0])} (?P<to>{_UNIT})\W*", text, re.I):
        return _conversions(number(amount["number"]), amount["unit"], [beside["to"]])
    rest = text[: amount.start()] + " ; " + text[amount.end() :]
    rest = re.sub(rf"{NUMBER}[ -]?°? ?{_UNIT}", " ; ", rest, flags=re.I)
    targets = re.findall(
        rf"(?:(?:how (?:many|much)|what(?:'s| is) (?:that|it) in|convert(?:ed)? to|in|into|to|as|and|=|;|->|\?|tell me|i want|^|put in(?:to)?) ?(?:the |us )?)({_UNIT})(?!\s+\d)",
        rest,
        re.I,
    )
    return _conversions(number(amount["number"]), amount["unit"], targets)


def _conversions(value: float, unit: str, targets: Sequence[str]) -> list[ToolCall]:
    source = UNITS[unit.lower()]
    wanted = dict.fromkeys(UNITS[target.lower()] for target in targets)
    return [
        ToolCall(name="unit_converter", arguments={"value": value, "from": source, "to": target})
        for target in wanted
        if target != source and _KIND[target] == _KIND[source]
    ]


# What is said, # being a number, and the expression that it is: {0} and {1} are the numbers, {p0} and {p1} the same as per cent.
_N = r"[$£€]?(\d+(?:\.\d+)?)"
_SUMS = [
    (re.compile(pattern.replace("#", _N).replace("%", r"(?: ?%| ?percent| ?per cent)"), re.I | re.S), form)
    for pattern, form in (
        (r"what (?:%|percentage)(?:age)? of # (?:is|are|was) #", "{1} / {0} * 100"),
        (r"what (?:%|percentage) is # (?:out )?of #", "{0} / {1} * 100"),
        (r"# (?:out )?of (?:the )?#.*(?:%|percentage)", "{0} / {1} * 100"),
        (r"# (?:as|is what) (?:a )?(?:%|percentage) of #", "{0} / {1} * 100"),
        (r"(?:%|percentage) (?:change|increase|decrease|drop|rise).*?# to #", "({1} - {0}) / {0} * 100"),
        (r"from # to #.*(?:%|percentage)", "({1} - {0}) / {0} * 100"),
        (r"#% (?:off|discount on|reduction on|less than)(?: of)?\D*#", "{1} * (1 - {p0})"),
        (r"#\D*?(?:with|at|less|minus|is|and)? #% (?:off|discount)", "{0} * (1 - {p1})"),
        (r"# (?:less|minus|reduced by|take away|decreased by) #%", "{0} * (1 - {p1})"),
        (r"(?:increase|raise) # by #%", "{0} * (1 + {p1})"),
        (r"(?:decrease|reduce|cut) # by #%", "{0} * (1 - {p1})"),
        (
            r"# (?:plus|with|and) (?:a |an )?#%|#.*total with a #%|total of a # \w+ with #%|#.*\b(?:with|getting a) #% (?:tip|raise)|#.*#% \w+ (?:on top|added)",
            "{0} * (1 + {p1})",
        ),
        (r"#% more (?:on|than) #", "{1} * (1 + {p0})"),
        (r"(?:add|raise of|raise) ?(?:a )?#%(?: \w+)? (?:to|on) (?:a )?#", "{1} * (1 + {p0})"),
        (r"#% (?:raise|pay rise|increase|markup) on (?:a )?#", "{1} * (1 + {p0})"),
        (r"#%(?: \w+){0,4}?(?: of| on| from| out of)(?: \w+){0,3}? #", "{p0} * {1}"),
        (r"#\D*#% (?:tip|service|vat|tax)", "{p1} * {0}"),
        (r"is (?:the number )?# (?:evenly )?divisible by #|remainder.*?# (?:is )?divided by #", "{0} % {1}"),
        (r"does # go into #", "{1} % {0}"),
        (r"# mod(?:ulo)? #", "{0} % {1}"),
        (r"square root of #|sqrt(?: of)? #|root of #", "sqrt({0})"),
        (r"cube root of #", "{0} ** (1 / 3)"),
        (r"(?<!\.)# factorial|factorial of #|#!", "factorial({0})"),
        (r"cube of #", "{0} ** 3"),
        (r"square of #", "{0} ** 2"),
        (r"round # to (?:the nearest )?(?:whole|integer)", "round({0})"),
        (r"round # to # decimal", "round({0}, {1})"),
        (r"half of #", "{0} / 2"),
        (r"(?:a )?third of #", "{0} / 3"),
        (r"(?:a )?quarter of #", "{0} / 4"),
        (r"seventh of #", "{0} / 7"),
        (r"fifth of #", "{0} / 5"),
        (r"double #|twice #", "2 * {0}"),
        (r"add # and # (?:and |,)?(?:then )?divide (?:it |that )?by #", "({0} + {1}) / {2}"),
        (r"take # away from #", "{1} - {0}"),
        (r"halfway (?:point )?between # and #", "({0} + {1}) / 2"),
        (r"multiply # (?:by|and|with) #|product of # and #", "{0} * {1}"),
        (r"divide # by #", "{0} / {1}"),
        (r"(?:subtract|take|knock) # (?:off|from) #", "{1} - {0}"),
        (
            r"(?:split|share|divide)\D*# (?:dollars |pounds |euros |quid )?(?:evenly |equally )?(?:between|among|amongst|by|with|into|btwn|in) #",
            "{0} / {1}",
        ),
        (r"# split (?:between|among|by|\w+ ways) #|# (?:between|among) #", "{0} / {1}"),
        (r"# (?:\w+ ){1,3}(?:at|for|cost|costing|priced|are|@) # (?:each|a|per|apiece)", "{0} * {1}"),
        (r"# \w+(?: \w+)? # each|# times #$|# groups of #", "{0} * {1}"),
    )
]
_WORDS = [
    (r"multiplied by|times|[x×·]", "*"), (r"divided by|over|÷", "/"), ("plus|added to|and then", "+"), ("minus|take away|less|subtract|−|–", "-"),
    (r"to the power (?:of )?|\^|raised to(?: the power of)?", "**"), ("mod", "%"),
]  # fmt: skip


def calculator(text: str) -> list[ToolCall]:
    """A sum in words that stands in the table, else numbers with signs or their names between them."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", digits(text))
    if re.search(r"(?:total|add|sum up|sum|in all|average|avg|mean)\b", text, re.I) and not re.search(
        r"%|percent|divide", text
    ):
        numbers = re.findall(r"(?<![\w.])\d+(?:\.\d+)?\b(?!:)", text)
        if len(numbers) > 1 and re.search("average|avg|mean of", text, re.I):
            return _sum(f"({' + '.join(numbers)}) / {len(numbers)}")
        if (
            len(numbers) > 1
            and re.search(r"\b(?:add|sum|total of|in all|total)\b", text, re.I)
            and not re.search(r"[*/x×]|each|at \d|pupils|days|per\b", text)
        ):
            return _sum(" + ".join(numbers))
    for pattern, form in _SUMS:
        if match := pattern.search(text):
            numbers = [number for number in match.groups() if number]
            shares = {f"p{n}": f"{float(number) / 100:.6g}" for n, number in enumerate(numbers)}
            return _sum(form.format(*numbers, **shares))
    text = re.sub(r"(\d) squared", r"\1 ** 2", re.sub(r"(\d) cubed", r"\1 ** 3", text))
    for words, sign in _WORDS:
        text = re.sub(rf"(?<=[\d)])\s*(?:{words})\s*(?=[\d(-])", f" {sign} ", text, flags=re.I)
    if function := re.search(r"\b(?:sqrt|log10|log2|log|factorial)\(\d[\d.]*\)", text):
        return _sum(function[0])
    found = max(re.findall(r"[(\d][\d.\s()+*/%-]*[\d)]", text), key=len, default="")
    if re.search(r"[\d)]\s*(?:[+*/%]|\*\*|-)\s*[\d(-]", found) and not re.search(r"\d{4}-\d\d-|\d/\d+/\d{4}", found):
        return _sum(re.sub(r"(?<=[\d)]) ?(\*\*|[+*/%-]) ?", r" \1 ", " ".join(found.split())))
    return _problem(text)


def _problem(text: str) -> list[ToolCall]:
    """A word problem of two numbers: shared out, multiplied, left over or added, as its words say."""
    numbers = re.findall(r"(?<![\w.:-])\d+(?:\.\d+)?(?![\d:-])", text)
    if len(numbers) != 2 or not re.search(
        r"\b(?:how (?:much|many|far)|what(?:'s|s)?|total|each|altogether|per|left|cost|pay|owes?|split|share)\b",
        text,
        re.I,
    ):
        return []
    small, large = sorted(numbers, key=float)
    if re.search(
        r"\b(?:split|share[ds]?|each of us|of us|evenly|equally|per (?:person|tree|litre|gallon|head)|will it last|lasts|each (?:person|pay|family)|per \w+ is that|friends)\b",
        text,
        re.I,
    ):
        return _sum(f"{large} / {small}")
    if re.search(r"\b(?:left|change|remains?|still|difference)\b", text, re.I):
        return _sum(f"{numbers[0]} - {numbers[1]}")
    if re.search(
        r"\b(?:each|per|every|a (?:day|week|month|litre|metre|kilo|pop|piece|head|pound)|at \d)\b", text, re.I
    ):
        return _sum(f"{numbers[0]} * {numbers[1]}")
    return _sum(f"{numbers[0]} + {numbers[1]}") if re.search(r"\b(?:altogether|in all|in total)\b", text, re.I) else []


def _sum(expression: str) -> list[ToolCall]:
    return [ToolCall(name="calculator", arguments={"expression": expression})]
