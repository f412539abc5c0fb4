# SPDX-License-Identifier: Apache-2.0
"""README.md of an exported model: Hugging Face's front matter, then facts for users of the weights."""

import json
from collections.abc import Sequence
from typing import Any

from rawnext.results.rows import Row, markdown

TAGS = ["speaker-verification", "speaker-recognition", "speaker-embeddings", "audio"]
COLUMNS = ["list", "data set", "protocol", "trials", "EER %", "minDCF (0.01)"]
USAGE = """```python
from rawnext import Extractor, read_audio

extractor = Extractor.from_pretrained(".")
embedding = extractor.embed(*read_audio("a.wav"))
```"""


def card(name: str, facts: dict[str, Any], rows: Sequence[Row], licence: str, training_data: str) -> list[str]:
    """Lines of the model card.

    Args:
        name: name of the experiment.   facts, rows: from describe and evaluations in rawnext/export/release.py.
        licence: licence of the weights, or unknown.   training_data: description; empty: counts in train_info.json.
    """
    stated = "is not stated: ask the source of the weights" if licence == "unknown" else f"of the weights: {licence}"
    return [*front_matter(name, facts, rows, licence), "", f"# {name}: {facts['model']}", "",
            f"Speaker embeddings of {facts['embedding_dim']} dimensions from 16 kHz speech of 0.1 s or longer; compare "
            f"them by their cosine. {facts['parameters']:,} parameters.", "", USAGE, "",
            "## Training", "", f"Data: {training_data or known_data(facts['training'])}.", "",
            *(f"- {key}: {value}" for key, value in facts["training"].items()), "",
            "## Results", "", *results(rows), "",
            "Calibrations: " + (", ".join(facts["calibrations"]) or "none") + ".", "",
            "## Configuration", "", "```json", json.dumps(facts["options"], indent=1), "```", "",
            "## Licence", "", f"The licence {stated}.", "",
            "A voice is personal data: identify people by it only as the law allows and with their consent. Error "
            "rates differ between groups of speakers, channels and durations; measure them on your own data."]


def front_matter(name: str, facts: dict[str, Any], rows: Sequence[Row], licence: str) -> list[str]:
    import yaml

    metadata: dict[str, Any] = {"license": licence, "library_name": "rawnext",
                                "tags": [*TAGS, facts["model"].replace("_", "-")], "metrics": ["eer"]}
    if rows:
        metadata["model-index"] = [{"name": name, "results": [
            {"task": {"type": "audio-classification", "name": "speaker verification"},
             "dataset": {"type": row["data_set"], "name": " ".join(identity(row))},
             "metrics": [{"type": "eer", "value": round(row["eer"], 4), "name": "EER %"}]} for row in rows]}]
    return ["---", *yaml.safe_dump(metadata, sort_keys=False).rstrip().split("\n"), "---"]


def identity(row: Row) -> tuple[str, ...]:
    return row["list"], row["data_set"], row["protocol"]


def known_data(training: dict[str, Any]) -> str:
    if "num_speakers" not in training:
        return "not known"
    return f"{training['num_utts']:,} utterances of {training['num_speakers']:,} speakers"


def results(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["None: it was not evaluated."]
    lines = ([*identity(row), f"{row['num_trials']:,}", f"{row['eer']:.2f}", f"{row['min_dcf_01']:.3f}"]
             for row in rows)
    return ["Cosines of whole utterances:", "", *markdown([COLUMNS, *lines], 3)]
