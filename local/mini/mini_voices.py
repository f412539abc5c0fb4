# SPDX-License-Identifier: Apache-2.0
"""Who speaks in the mini corpus, and what: speakers out of eSpeak's voice variants, sentences out of word lists."""

from typing import NamedTuple

import numpy as np

# Variants that sound like people. Left out: robots, whisper, echoes, and near-copies. Those of the test set are in no
# way among the training ones: relatives (m4 and m5, linda and belinda) stand on one side.
VARIANTS = {
    ("train", "f"): ["Alicia", "f2", "steph", "Annie", "f4", "grandma", "anika", "f5", "aunty", "steph2"],
    ("train", "m"): ["adam", "m2", "max", "Denis", "Mario", "Diogo", "Gene", "iven", "rob", "paul", "edward", "m3",
                     "pedro", "norbert", "pablo", "quincy", "sandro", "klatt4", "Reed", "grandpa", "victor", "Hugo",
                     "iven4", "Mike", "benjamin", "michel", "edward2", "klatt5", "Tweaky"],
    ("test", "f"): ["f1", "f3", "Andrea", "linda", "shelby", "belinda"],
    ("test", "m"): ["m1", "m4", "ed", "Michael", "m7", "mike2", "antonio", "john", "Storm", "m8", "marcelo", "m5"],
}
BABBLE = ["Alex", "m6", "fast", "boris", "kaukovalta", "Andy", "Lee", "zac", "travis", "croak"]  # background only
ACCENTS = ["en", "en-US", "en-GB-scotland", "en-029", "en-GB-x-rp", "en-US-nyc", "en-GB-x-gbclan", "en-GB-x-gbcwmd"]


class Speaker(NamedTuple):
    """One row of speakers.tsv.

    warp: all frequencies are multiplied by it, as by a shorter vocal tract.   pitch, pitch_range: eSpeak's, 0..99.
    rate: words a minute.
    """

    spk: str
    set: str
    gender: str
    variant: str
    accent: str
    warp: float
    pitch: int
    pitch_range: int
    rate: int

    @property
    def voice(self) -> str:
        return f"gmw/{self.accent}+{self.variant}"


def make_rng(seed: int, name: str) -> np.random.Generator:
    """Random numbers that depend on the corpus' seed and a name alone."""
    return np.random.default_rng([seed, *name.encode()])


def make_speakers(which: str, num: int, first: int, seed: int) -> list[Speaker]:
    """The speakers of a set (train or test), numbered from `first`; two of five are women."""
    speakers, used = [], {"f": 0, "m": 0}
    for i in range(num):
        gender = "mfmfm"[i % 5]
        variants = VARIANTS[which, gender]
        turn, place = divmod(used[gender], len(variants))
        used[gender] += 1
        # speakers who share a variant: golden-ratio steps keep their other traits far apart
        start = make_rng(seed, variants[place]).uniform(size=5)
        accent, warp, pitch, pitch_range, rate = (start + turn * np.array([0.618, 0.618, 0.382, 0.618, 0.382])) % 1
        speakers.append(Speaker(
            f"s{first + i:03d}", which, gender, variants[place], ACCENTS[int(len(ACCENTS) * accent)],
            round(0.93 + 0.14 * warp, 3), round(25 + 45 * pitch), round(30 + 50 * pitch_range), round(150 + 45 * rate)))
    return speakers


WORDS = {
    "who": "the old farmer|my sister|our neighbour|a young doctor|the tall waiter|her uncle|the captain|nobody|Martha|"
           "the piano teacher|his daughter|a quiet stranger|the baker|one of the students|Oliver|the whole team|"
           "their guide|a night nurse|the mayor|every visitor",
    "did": "carried|painted|forgot|described|repaired|found|sold|borrowed|counted|photographed|hid|praised|cleaned|"
           "watched|wanted|bought|lifted|followed|missed|dropped",
    "what": "seven baskets of apples|the yellow bicycle|a letter from Egypt|the broken window|two cups of coffee|"
            "a map of the valley|the wooden bridge|an enormous cheese|that strange picture|the evening train|"
            "a box of matches|fresh bread|the key to the garden|some useful advice|the loudest drum|a pair of boots|"
            "the science museum|thirteen blue candles|his favourite song|an orange umbrella",
    "where": "in the market|near the river|behind the theatre|at the airport|on the third floor|under the bridge|"
             "across the street|in a small village|outside the library|along the coast|by the fire|at school",
    "when": "yesterday|last summer|before breakfast|on Thursday evening|every morning|in the middle of the night|"
            "after the storm|at half past four|once a year|in early autumn|without any hurry|as usual",
    "link": "and then|but|because|while|so|although|just after|until|and perhaps",
    "ask": "do you know whether|can you explain why|is it true that|would you believe that|who told you that",
    "short": "Thank you very much.|That was a good idea.|Please wait a moment.|I have no idea.|Where are we going?|"
             "See you again tomorrow.|It is much too late.|Give me the other one.|We could try again.|What a surprise!|"
             "Nothing has changed here.|Turn left at the corner.|How many did you count?|Leave the door open.",
}
CHOICES = {kind: words.split("|") for kind, words in WORDS.items()}
CLAUSES = ["{who} {did} {what}", "{who} {did} {what} {where}", "{who} {did} {what} {when}",
           "{when}, {who} {did} {what}", "{where}, {who} {did} {what} {when}"]
SENTENCES = ["{short}", "{short} {short}", "{clause}.", "{clause}.", "{clause}.", "{clause}!", "{ask} {clause}?",
             "{clause}, {link} {clause}.", "{clause}, {link} {clause}.", "{short} {clause}."]


def make_sentence(rng: np.random.Generator) -> str:
    """Some words to say, for one to eight seconds."""

    def fill(template: str) -> str:
        while "{" in template:
            before, _, rest = template.partition("{")
            kind, _, after = rest.partition("}")
            template = before + str(rng.choice(CLAUSES if kind == "clause" else CHOICES[kind])) + after
        return template

    return fill(str(rng.choice(SENTENCES)))
