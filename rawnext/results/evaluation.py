# SPDX-License-Identifier: Apache-2.0
"""The measures of an evaluation, by their names in results.tsv."""

from functools import partial
from typing import Any

import numpy as np

from rawnext.scoring.bootstrap import Measure, bootstrap, interval
from rawnext.scoring.det import Det, det_points
from rawnext.scoring.metrics import act_dcf_of, cllr_of, eer, eer_of, min_cllr_of, min_dcf_of

TITLES = {"eer": "EER %", "min_dcf_01": "minDCF(0.01)", "min_dcf_05": "minDCF(0.05)", "act_dcf_01": "actual DCF(0.01)",
          "act_dcf_05": "actual DCF(0.05)", "cllr": "Cllr", "min_cllr": "minimum Cllr"}


def eer_percent(det: Det, definition: str) -> np.ndarray:
    return 100 * eer_of(det, definition)


def measures(definition: str, llr: bool) -> dict[str, Measure]:
    """Name -> measure: EER in per cent and minDCF; for log-likelihood ratios also actual DCF and Cllr."""
    found: dict[str, Measure] = {"eer": partial(eer_percent, definition=definition),
                                 "min_dcf_01": partial(min_dcf_of, p_target=0.01),
                                 "min_dcf_05": partial(min_dcf_of, p_target=0.05)}
    if llr:
        found |= {"act_dcf_01": partial(act_dcf_of, p_target=0.01), "act_dcf_05": partial(act_dcf_of, p_target=0.05),
                  "cllr": cllr_of, "min_cllr": min_cllr_of}
    return found


def evaluation(scores: np.ndarray, is_target: np.ndarray, definition: str, llr: bool,
               speakers: np.ndarray | None = None) -> dict[str, Any]:
    """The row of (N,) scores: each measure and, with speakers (2, N), each `MEASURE_interval`."""
    target, nontarget = scores[is_target], scores[~is_target]
    det, wanted = det_points(target, nontarget), measures(definition, llr)
    row: dict[str, Any] = {name: float(measure(det)) for name, measure in wanted.items()}
    row["eer"] = 100 * eer(target, nontarget, definition)  # Kaldi's uses single precision
    row["eer_definition"] = definition
    if speakers is not None:
        estimate, replicates = bootstrap([scores], is_target, speakers, list(wanted.values()))
        ends = interval(estimate, replicates)[:, 0].T.tolist()
        row |= {f"{name}_interval": pair for name, pair in zip(wanted, ends)}
        row["num_speakers"] = int(speakers.max()) + 1
    return row
