# SPDX-License-Identifier: Apache-2.0
"""The web application: POST /embed?channel=0 (an audio file), POST /verify (two embeddings), GET /about, and the page.

It stores nothing between requests: the page keeps the embeddings and sends two of them for a score.
"""

import asyncio
import json
import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from rawnext.data.media import read_bytes
from rawnext.errors import InputError, as_input_error
from rawnext.inference.doubts import of_recording
from rawnext.inference.extractor import Extractor
from rawnext.scoring.decision import Judge, Operating, Verdict, doubts_of
from rawnext.serve.guard import Guard, read_body

COLUMNS = 600  # width of a waveform's picture
PAIR_BYTES = 1 << 20  # limit for two embeddings as JSON


class Limits(NamedTuple):
    """megabytes, seconds: limits of a recording.   at_once: recordings in progress.   wait_s: time-out for one."""

    megabytes: float = 25.0
    seconds: float = 120.0
    at_once: int = 4
    wait_s: float = 120.0

    def check(self) -> None:
        """Raise InputError if no recording could pass."""
        if not (0.01 <= self.megabytes <= 1000 and 0.1 <= self.seconds <= 3600):
            raise InputError("--megabytes and --seconds", None, "expected 0.01 to 1000 MB and 0.1 to 3600 s")


class Service:
    """Answers requests with a model and a calibration, one computation at a time."""

    def __init__(self, extractor: Extractor, judge: Judge, at: Operating, limits: Limits):
        self.extractor, self.judge, self.at, self.limits = extractor, judge, at, limits
        self.worker, self.slots = ThreadPoolExecutor(1), asyncio.Semaphore(limits.at_once)

    async def about(self, request: Request) -> JSONResponse:
        return JSONResponse({"model": Path(self.extractor.folder).resolve().name, "calibrated": not self.judge.why,
                             "megabytes": self.limits.megabytes, "seconds": self.limits.seconds})

    async def embed(self, request: Request) -> JSONResponse:
        """Seconds, rate in Hz, envelope, warnings and embedding of a channel (default 0) of the audio in the body."""
        if not re.fullmatch("[0-9]{1,3}", channel := request.query_params.get("channel", "0"), re.ASCII):
            raise HTTPException(422, f"expected a channel of 0 or more, got {channel[:30]!r}")
        if self.slots.locked():
            raise HTTPException(503, "other recordings are being computed; try again in a moment")
        async with self.slots:
            body = await read_body(request, int(self.limits.megabytes * 1e6))
            work = asyncio.get_running_loop().run_in_executor(self.worker, self.analyse, body, int(channel))
            try:
                return JSONResponse(await asyncio.wait_for(work, self.limits.wait_s))
            except TimeoutError:
                raise HTTPException(503, f"not finished within {self.limits.wait_s:g} s") from None

    def analyse(self, data: bytearray, channel: int) -> dict[str, Any]:
        doubts: list[str] = []
        wave, rate = read_bytes(data, self.limits.seconds, channel, doubts)
        with as_input_error("audio"):  # of 0.1 s less half a sample, which the reader allows
            seconds = {"audio": len(wave) / rate}
            (_, embedding), = self.extractor.embed_each([("audio", wave, rate)], seconds)
        return {"seconds": seconds["audio"], "rate": rate, "envelope": envelope(wave).tolist(),
                "doubts": doubts + of_recording(wave, rate), "embedding": embedding.tolist()}

    async def verify(self, request: Request) -> JSONResponse:
        """Score, LLR, threshold, decision and warnings of `enroll` and `test` (each: `embedding`, `seconds`)."""
        try:
            pair = json.loads(await read_body(request, PAIR_BYTES))
            sides = [(np.array(pair[side]["embedding"], np.float32), float(pair[side]["seconds"]))
                     for side in ("enroll", "test")]
            if any(x.shape != (self.extractor.embedding_dim,) or not 0 < seconds < np.inf for x, seconds in sides):
                raise ValueError("shapes")
            verdict = self.judge.decide(sides[0][0], sides[1][0], sides[0][1], sides[1][1], self.at)
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            raise HTTPException(422, "expected embedding and seconds of enroll and test, as /embed returns") from None
        return JSONResponse(self.report(verdict))

    def report(self, verdict: Verdict) -> dict[str, Any]:
        values = verdict._asdict() | {"chance": self.at.chance(verdict.llr), "operating": str(self.at),
                                      "prior": self.at.prior, "doubts": doubts_of(verdict, self.judge, self.at)}
        return {key: None if value != value else value for key, value in values.items()}


def envelope(wave: np.ndarray) -> np.ndarray:
    """(C, 2) float64, rounded: minimum and maximum of (T,) samples in each of at most COLUMNS equal parts."""
    starts = np.linspace(0, len(wave), min(COLUMNS, len(wave)), endpoint=False).astype(int)
    parts = [extreme.reduceat(wave, starts) for extreme in (np.minimum, np.maximum)]
    return np.stack(parts, axis=1).astype(np.float64).round(4)


def build_app(service: Service, names: Collection[str], origin: str = "") -> Starlette:
    """The ASGI application.   names, origin: see Guard."""
    def fault(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, HTTPException):
            return JSONResponse({"error": error.detail}, error.status_code, error.headers)
        if isinstance(error, InputError):
            return JSONResponse({"error": error.why}, 422)
        return JSONResponse({"error": "internal error; the server's terminal shows details"}, 500)

    routes = [Route("/about", service.about), Route("/embed", service.embed, methods=["POST"]),
              Route("/verify", service.verify, methods=["POST"]),
              Mount("/", StaticFiles(directory=Path(__file__).parent / "page", html=True))]
    return Starlette(routes=routes, middleware=[Middleware(Guard, names, origin)],
                     exception_handlers={HTTPException: fault, InputError: fault, Exception: fault})
