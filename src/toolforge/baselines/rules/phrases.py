"""Words that are quoted or named: translations, meanings, pages to read."""

import re

import pycountry

from toolforge.records import ToolCall

# Languages that people name otherwise, or that have no two-letter code; and names of languages that are English words.
_MORE = "Mandarin Cantonese Tagalog Filipino Farsi Hawaiian Cebuano Greek Gaelic"
LANGUAGES = {name.lower(): name for name in _MORE.split()} | {
    name.lower(): name
    for name in (re.split("[;,(]", item.name)[0].strip() for item in pycountry.languages if hasattr(item, "alpha_2"))
}
_LANGUAGE = rf"(?P<language>{'|'.join(sorted(LANGUAGES, key=len, reverse=True))})s?\b"

URL = re.compile(r"(?:https?://|www\.)\S+|\b(?:[a-z][\w-]*\.)+(?:{})\b(?:/\S*)?".format(
    "|".join(["com", "org", "net", "edu", "gov", "info", "dev", "blog", "app", "shop", "site", "online", "club", "example", *(c.alpha_2.lower() for c in pycountry.countries), "uk"])
), re.I)  # fmt: skip


def web_reader(text: str) -> list[ToolCall]:
    """Every URL, unless something else is to be done with it."""
    if re.search(
        r"\b(?:don'?t|do not|send|post|share|bookmark|email|link in|qr|error|redirects?|we own|domain)\b", text, re.I
    ):
        return []
    found = [match[0].split('"')[0].rstrip(".,;:!?)'") for match in URL.finditer(text)]
    return [ToolCall(name="web_reader", arguments={"url": url}) for url in found]


_QUOTED = re.compile(r"\"([^\"]+)\"|(?<!\w)'(.+?)'(?!\w)")
_TRANSLATE = [
    re.compile(pattern, re.I)
    for pattern in (
        rf"translate(?: (?:to|into|in) {_LANGUAGE})?[:,]? (?P<text>.+?)(?:,? (?:in)?to {_LANGUAGE.replace('language', 'other')}| in {_LANGUAGE.replace('language', 'third')}|$)",
        rf"(?:how|what)(?:'s| \w+)*? {_LANGUAGE}(?: (?:word|phrase|translation))? (?:for|of) (?P<text>.+)",
        rf"(?:say|write|put) (?P<text>.+?) (?:in|into|to) {_LANGUAGE}",
        rf"\bin {_LANGUAGE}[,:]? (?:how (?:do|does|would) (?:i|you|one|we) say |say |what is )?(?P<text>.+)",
        rf"^(?:and |now |the )*{_LANGUAGE}(?: (?:word|phrase|translation))? (?:for|of)[: ]+(?P<text>.+)",
        rf"^(?:how (?:do|would|can) (?:i|you|we|one) (?:say|tell \w+) |what(?:'s| is) |i need (?:how to say )?)?(?P<text>.+?),? (?:how (?:do|would) i say (?:it|that) )?(?:in|into|to) {_LANGUAGE}\W*$",
        rf"what does (?P<text>.+) mean in {_LANGUAGE}",
    )
]


def translate(text: str) -> list[ToolCall]:
    """What is quoted, or stands where a phrase to translate does, into each language that is named."""
    bare = _QUOTED.sub("''", re.sub(" auf Englisch", " in English", text))
    languages = list(
        dict.fromkeys(LANGUAGES[m["language"].lower()] for m in re.finditer(rf"\b{_LANGUAGE}", bare, re.I))
    )
    quotes = [first or second for first, second in _QUOTED.findall(text)]
    if (
        quotes
        and languages
        and not re.search(r"\b(?:latin phrase|mean(?:s|ings?)?\b(?! in)|define|synonym|sentence about)", bare, re.I)
    ):
        return [_translation(quote, language) for quote in quotes for language in languages]
    for pattern in _TRANSLATE:
        if match := pattern.search(text):
            language = next(
                (found for name in ("language", "other", "third") if (found := match.groupdict().get(name))), None
            )
            said = match["text"].strip(" ,.?!:\"'").removesuffix(" put")
            if language and said and said.lower() not in ("this", "that", "it", "your language"):
                return [_translation(said, LANGUAGES[language.lower()])]
    return []


def _translation(text: str, language: str) -> ToolCall:
    return ToolCall(name="translate", arguments={"text": text, "to_lang": language})


_TERM = r"(?:the )?(?:(?:english |latin |french )?(?:word|term|phrase|expression|idiom|saying)s? )?[\"']?(?P<word>[\w’' -]+?)[\"']?"
_DICTIONARY = [
    re.compile(pattern, re.I)
    for pattern in (
        rf"\bdefine (?:both )?{_TERM}(?=[,.?!;]|$| for me| please)",
        rf"what (?:do|does|did|would) {_TERM}(?:\"|')? (?:actually |really |exactly )?mean",
        rf"(?:meaning|definition|synonyms?|antonyms?|opposite|part of speech) (?:of|for|to|in meaning to) {_TERM}(?=[,.?!;]|$| please| that| for the)",
        rf"(?:another|a different|a better|other) words? (?:for|than) {_TERM}(?=[,.?!;]|$| please)",
        rf"(?:what is|what's|whats) (?:meant by |a synonym for )?{_TERM}(?:'s)? (?:synonym|antonym|meaning|definition)",
        rf"(?:mean when (?:someone|somebody|people) says|the term|mean to be) {_TERM}\W*$",
        rf"what does {_TERM} stand for",
        rf"^(?:i keep hearing )?(?:the word )?{_TERM}\W+what'?s?(?: (?:does|do|is))? (?:it|that|that word|this)(?: even| actually)? mean",
        rf"(?:what|whats|what's) (?:is )?{_TERM} (?:supposed to )?means?\b",
        rf"what is meant by {_TERM}(?=[,.?!;]|$)",
        rf"\bis {_TERM} (?:a (?:real |proper )?(?:word|noun|verb|pronoun|adjective|adverb))",
        rf"^{_TERM}\W* (?:meaning|definition|def|synonyms?|antonyms?)\W*$",
        rf"^(?:synonyms?|antonyms?|meaning|definition)(?: of| for)?:? {_TERM}\W*$",
        rf"(?:the )?(?:word|term|phrase) {_TERM}[,.]? (?:mean|what)",
        rf"^{_TERM}[.,:-]+ what (?:does|do) (?:that|it|this) (?:even |actually )?mean",
    )
]


def dictionary(text: str) -> list[ToolCall]:
    """The word whose meaning, synonym, antonym or part of speech is asked for; what is quoted, where something is."""
    quotes = [first or second for first, second in _QUOTED.findall(text)]
    if quotes and re.search(
        r"\b(?:mean|means|meanings?|define|definition|synonyms?|antonyms?|opposite|part of speech|real word|pronoun|noun|verb|the word)\b|^what(?:'s| is) [\"']",
        text,
        re.I,
    ):
        return [ToolCall(name="dictionary", arguments={"word": quote.strip(" .,?")}) for quote in quotes]
    for pattern in _DICTIONARY:
        match = pattern.search(text)
        if match and match["word"].strip().lower() not in (
            "it",
            "that",
            "this",
            "you",
            "i",
            "they",
            "that word",
            "life",
            "supposed to",
            "give me",
            "there",
            "does it",
            "do they",
        ):
            words = re.split(r" and |, ", match["word"].strip()) if "both" in match[0] else [match["word"].strip()]
            return [ToolCall(name="dictionary", arguments={"word": word.strip("\"' ")}) for word in words]
    return []
