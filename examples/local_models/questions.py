"""Questions with one right word, written as tables: the demo's own test of what a small model knows.

Every table gives one category. Some are easy for both local models, some for one, some for neither, which is what a
router and a cascade have to find out. `questions` returns them in an order that mixes the categories and is the
same on every machine.

>>> first = questions()[0]
>>> first.right(first.gold)
True
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """One question; ``golds`` are the answers that count as right, the first the usual one."""

    id: str
    category: str
    prompt: str
    golds: tuple[str, ...]

    @property
    def gold(self) -> str:
        return self.golds[0]

    def right(self, answer: str) -> bool:
        """Whether what the answer says (see `normalise`) is right."""
        return normalise(answer) in {normalise(gold) for gold in self.golds}


def normalise(answer: str) -> str:
    """What an answer says: of its first line, the first clause; of a sentence, what follows its verb.

    Letter case, articles, punctuation and surrounding space do not count. Nothing else is forgiven: the rest has to
    be the right answer exactly.

    >>> normalise("The currency of India is the Indian Rupee, which is divided into paise.")
    'indian rupee'
    >>> normalise("13 - 2 = 11")
    '11'
    """
    line = answer.strip().split("\n", 1)[0].lower()
    clause = re.split(r"[.,;(!]", line, maxsplit=1)[0]
    said = re.split(r"\b(?:is|are)\b|[:=]", clause)[-1]
    words = re.findall(r"[^\W_]+", said)
    return " ".join(word for word in words if word not in ("a", "an", "the"))


def _pairs(table: str) -> list[tuple[str, tuple[str, ...]]]:
    """Lines ``subject: answer / other answer``, several to a line with ``;``."""
    rows = [row.split(":") for row in table.replace("\n", ";").split(";") if row.strip()]
    return [
        (subject.strip(), tuple(answer.strip() for answer in answers.split("/"))) for subject, answers in rows
    ]


# category -> (prompt, table). A subject stands for {} in the prompt.
TABLES: dict[str, tuple[str, str]] = {
    "capital": (
        "What is the capital of {}?",
        """
        France: Paris; Germany: Berlin; Italy: Rome; Spain: Madrid; Portugal: Lisbon; Austria: Vienna
        Poland: Warsaw; Hungary: Budapest; Greece: Athens; Norway: Oslo; Sweden: Stockholm; Finland: Helsinki
        Denmark: Copenhagen; Ireland: Dublin; Russia: Moscow; Ukraine: Kyiv / Kiev; Turkey: Ankara; Egypt: Cairo
        Kenya: Nairobi; Morocco: Rabat; Ethiopia: Addis Ababa; Ghana: Accra; Senegal: Dakar; Nigeria: Abuja
        Japan: Tokyo; China: Beijing; India: New Delhi / Delhi; Thailand: Bangkok; Vietnam: Hanoi; Nepal: Kathmandu
        Iran: Tehran; Iraq: Baghdad; Canada: Ottawa; Mexico: Mexico City; Cuba: Havana; Peru: Lima; Chile: Santiago
        Argentina: Buenos Aires; Brazil: Brasilia / Brasília; Australia: Canberra; New Zealand: Wellington
        Iceland: Reykjavik / Reykjavík; Croatia: Zagreb; Latvia: Riga; Estonia: Tallinn; Mongolia: Ulaanbaatar
        """,
    ),
    "currency": (
        "What is the currency of {}?",
        """
        Japan: Yen / Japanese Yen; India: Rupee / Indian Rupee; China: Yuan / Renminbi / Chinese Yuan
        Russia: Ruble / Russian Ruble / Rouble; Mexico: Peso / Mexican Peso; Poland: Zloty / Złoty / Polish Zloty
        Hungary: Forint / Hungarian Forint; Sweden: Krona / Swedish Krona; Norway: Krone / Norwegian Krone
        Denmark: Krone / Danish Krone; Switzerland: Franc / Swiss Franc; Thailand: Baht / Thai Baht
        Vietnam: Dong / Vietnamese Dong; Turkey: Lira / Turkish Lira; Egypt: Pound / Egyptian Pound
        Brazil: Real / Brazilian Real; South Africa: Rand / South African Rand; Israel: Shekel / Israeli Shekel
        Nigeria: Naira / Nigerian Naira; Kenya: Shilling / Kenyan Shilling; Germany: Euro; Spain: Euro
        Australia: Dollar / Australian Dollar; Canada: Dollar / Canadian Dollar; South Korea: Won / South Korean Won
        Argentina: Peso / Argentine Peso; Pakistan: Rupee / Pakistani Rupee; Iran: Rial / Iranian Rial
        """,
    ),
    "language": (
        "Which language is spoken in {}?",
        """
        France: French; Germany: German; Italy: Italian; Spain: Spanish; Portugal: Portuguese; Brazil: Portuguese
        Mexico: Spanish; Argentina: Spanish; Austria: German; Egypt: Arabic; Iraq: Arabic; Morocco: Arabic
        Japan: Japanese; China: Chinese / Mandarin / Mandarin Chinese; Thailand: Thai; Vietnam: Vietnamese
        Poland: Polish; Hungary: Hungarian; Greece: Greek; Turkey: Turkish; Russia: Russian; Sweden: Swedish
        Norway: Norwegian; Denmark: Danish; Australia: English; Iran: Persian / Farsi; Iceland: Icelandic
        """,
    ),
    "continent": (
        "On which continent is {}?",
        """
        France: Europe; Poland: Europe; Norway: Europe; Greece: Europe; Kenya: Africa; Ghana: Africa; Egypt: Africa
        Mali: Africa; Zambia: Africa; Japan: Asia; India: Asia; Nepal: Asia; Vietnam: Asia; Iraq: Asia
        Peru: South America; Chile: South America; Bolivia: South America; Brazil: South America
        Canada: North America; Mexico: North America; Cuba: North America; Finland: Europe; Laos: Asia
        Angola: Africa; Uruguay: South America; Portugal: Europe; Mongolia: Asia; Senegal: Africa
        """,
    ),
    "opposite": (
        "What is the opposite of {}?",
        """
        hot: cold; big: small / little; fast: slow; high: low; old: young / new; happy: sad / unhappy; early: late
        rich: poor; strong: weak; light: dark / heavy / darkness; wet: dry; full: empty; open: closed / close / shut
        hard: soft / easy; clean: dirty; loud: quiet / soft; near: far; true: false; up: down; left: right; in: out
        day: night; good: bad / evil; black: white; tall: short; thick: thin; wide: narrow; win: lose; push: pull
        buy: sell; love: hate; start: stop / end / finish; always: never; more: less; first: last; north: south
        east: west; safe: dangerous / unsafe; cheap: expensive; brave: cowardly / afraid / coward
        sweet: sour / bitter; above: below / beneath; alive: dead; summer: winter; question: answer; remember: forget
        arrive: leave / depart
        """,
    ),
    "plural": (
        "What is the plural of {}?",
        """
        child: children; mouse: mice; foot: feet; tooth: teeth; goose: geese; man: men; woman: women
        ox: oxen; leaf: leaves; knife: knives; wolf: wolves; wife: wives; city: cities; baby: babies; box: boxes
        bus: buses; dish: dishes; tomato: tomatoes; potato: potatoes; sheep: sheep; fish: fish / fishes
        cactus: cacti / cactuses; crisis: crises; church: churches; fox: foxes; lady: ladies; half: halves
        dog: dogs; cup: cups; star: stars
        """,
    ),
    "past tense": (
        "What is the past tense of {}?",
        """
        go: went; eat: ate; see: saw; run: ran; take: took; give: gave; write: wrote; drive: drove; speak: spoke
        break: broke; sing: sang; swim: swam; begin: began; fly: flew; know: knew; grow: grew; throw: threw
        buy: bought; bring: brought; think: thought; teach: taught; catch: caught; feel: felt; keep: kept
        leave: left; lose: lost; send: sent; build: built; sleep: slept; tell: told; walk: walked; play: played
        jump: jumped; try: tried; stop: stopped; fall: fell; hold: held; win: won; forget: forgot; choose: chose
        """,
    ),
    "young animal": (
        "What is a young {} called?",
        """
        dog: puppy / pup; cat: kitten; cow: calf; horse: foal; sheep: lamb; pig: piglet; goat: kid
        bear: cub; lion: cub; duck: duckling; chicken: chick; deer: fawn; frog: tadpole; kangaroo: joey
        elephant: calf; goose: gosling; swan: cygnet; seal: pup; owl: owlet; human: baby / child / infant
        """,
    ),
    "colour": (
        "What colour is {}?",
        """
        a ripe banana: yellow; grass: green; snow: white; coal: black; blood: red; a lemon: yellow
        a carrot: orange; a ripe strawberry: red; an elephant: grey / gray; the clear sky: blue; milk: white
        chocolate: brown; a flamingo: pink; a frog: green; a pumpkin: orange; an emerald: green; a ruby: red
        a sapphire: blue; a crow: black; a polar bear: white; a fire engine: red; spinach: green
        """,
    ),
    "symbol": (
        "What is the chemical symbol of {}?",
        """
        hydrogen: H; oxygen: O; carbon: C; nitrogen: N; gold: Au; silver: Ag; iron: Fe; copper: Cu; sodium: Na
        potassium: K; calcium: Ca; helium: He; neon: Ne; lead: Pb; tin: Sn; mercury: Hg; zinc: Zn; chlorine: Cl
        aluminium: Al; silicon: Si; sulfur: S; uranium: U; magnesium: Mg; lithium: Li; nickel: Ni; platinum: Pt
        """,
    ),
    "in French": (
        "What is the French word for {}?",
        """
        dog: chien; cat: chat; house: maison; water: eau / l'eau; bread: pain; milk: lait; book: livre; red: rouge
        white: blanc; black: noir; green: vert; sun: soleil; moon: lune; day: jour; night: nuit; friend: ami
        school: école / ecole; mother: mère; father: père; brother: frère; yes: oui; no: non; thank you: merci
        hello: bonjour; one: un; two: deux; three: trois; apple: pomme; horse: cheval; hand: main
        """,
    ),
    "sentiment": (
        'Is this review positive or negative? "{}"',
        """
        I loved every minute of it.: positive; A waste of time and money.: negative; The food was delicious.: positive
        The room was dirty and loud.: negative; The staff were kind and helpful.: positive
        It broke after two days.: negative; Best purchase I have made this year.: positive
        I would never go back.: negative; A wonderful, moving film.: positive; The plot was dull and slow.: negative
        Fast delivery and great quality.: positive; The battery hardly lasts an hour.: negative
        My children adore this game.: positive; The soup was cold and tasteless.: negative
        An excellent guide, clear and funny.: positive; The seats were terribly uncomfortable.: negative
        Beautiful view and a perfect breakfast.: positive; They never answered my emails.: negative
        It works exactly as promised.: positive; I regret buying this.: negative
        Not bad at all, I was surprised.: positive; I expected much more from this author.: negative
        I could not stop smiling.: positive; I fell asleep halfway through.: negative
        Worth every penny.: positive; Cheaply made and overpriced.: negative
        I will come back next summer.: positive; The waiter was rude to us.: negative
        It saved me hours of work.: positive; The paint came off at once.: negative
        Nothing to complain about.: positive; Save your money.: negative
        """,
    ),
    "kind": (
        "Is {} an animal, a plant or a tool?",
        """
        a hammer: tool; a horse: animal; an oak: plant; a saw: tool; a rose: plant; a tiger: animal; a drill: tool
        a sparrow: animal; a fern: plant; a screwdriver: tool; a shark: animal; a tulip: plant; an axe: tool
        a spider: animal; a cactus: plant; a wrench: tool; a whale: animal; a daisy: plant; a shovel: tool
        a lizard: animal; moss: plant; a chisel: tool; an eagle: animal; bamboo: plant
        """,
    ),
    "next": (
        "What comes after {}?",
        """
        Monday: Tuesday; Tuesday: Wednesday; Wednesday: Thursday; Thursday: Friday; Friday: Saturday
        Saturday: Sunday; Sunday: Monday; January: February; February: March; March: April; April: May; May: June
        June: July; July: August; August: September; September: October; October: November; November: December
        the letter B: C; the letter F: G; the letter K: L; the letter P: Q; the letter S: T; the letter W: X
        the number 19: 20; the number 49: 50; the number 99: 100; the number 7: 8
        """,
    ),
}


def questions() -> list[Question]:
    """All questions; any slice from the start is a mixture of all categories."""
    rows = [
        (category, prompt.format(subject), golds)
        for category, (prompt, table) in TABLES.items()
        for subject, golds in _pairs(table)
    ]
    rows += [("sum", f"What is {a} + {b}?", (str(a + b),)) for a in range(2, 10) for b in range(a, 10, 2)]
    rows += [
        ("large sum", f"What is {a} + {b}?", (str(a + b),))
        for a, b in zip(range(12, 90, 7), range(85, 13, -6), strict=True)
    ]
    rows += [
        ("product", f"What is {a} times {b}?", (str(a * b),)) for a in range(2, 10) for b in range(a, 10, 3)
    ]
    rows += [("difference", f"What is {a} - {b}?", (str(a - b),)) for a in range(5, 20, 2) for b in (2, 4)]
    # By the hash of its text: an order without a random generator whose stream may change.
    rows.sort(key=lambda row: hashlib.sha256(row[1].encode()).digest())
    return [Question(_id(prompt), category, prompt, golds) for category, prompt, golds in rows]


def _id(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()[:12]
