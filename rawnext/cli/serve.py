# SPDX-License-Identifier: Apache-2.0
"""`rawnext serve`: a local web page to try a model with two recordings."""

import argparse

from rawnext.cli.options import add_command, add_model, add_operating, add_vad, load_extractor, load_judge, operating
from rawnext.errors import InputError

DESCRIPTION = """Open a web page: record or drop two files, see waveforms, score and decision.

rawnext serve -m exp/rawnext

The page is served to this machine only and works offline. Audio is kept in memory until its embedding is computed and
is never stored. --host 0.0.0.0 admits other machines, without a password. Behind a proxy with TLS and a password of its
own, name the address that browsers open: --origin https://voice.example.org"""
LOOPBACK = "127.0.0.1"


def add_to(commands: argparse._SubParsersAction) -> None:
    parser = add_command(commands, "serve", run, "open a web page to try a model", DESCRIPTION)
    parser.add_argument("--host", default=LOOPBACK,
                        help="address to listen on (default %(default)s: this machine only)")
    parser.add_argument("--port", type=int, default=8765, help="port; 0: any free port (default %(default)s)")
    parser.add_argument("--origin", default="", metavar="ADDRESS",
                        help="address of the page behind a proxy, such as https://voice.example.org")
    parser.add_argument("--no-browser", action="store_true", help="print the address and do not open a browser")
    parser.add_argument("--seconds", type=float, default=120, help="maximum length (default %(default)s)")
    parser.add_argument("--megabytes", type=float, default=25, help="maximum file size (default %(default)s)")
    add_operating(parser)
    add_vad(parser)
    add_model(parser)


def run(args: argparse.Namespace) -> None:
    try:
        from rawnext.serve.app import Limits, Service, build_app
        from rawnext.serve.guard import check_origin
        from rawnext.serve.server import listen, names_of, serve
    except ModuleNotFoundError as error:
        if (name := (error.name or "").partition(".")[0]) not in ("starlette", "uvicorn"):
            raise
        raise InputError(name, None, "is not installed: pip install 'rawnext[serve]'") from None

    limits, at = Limits(args.megabytes, args.seconds), operating(args)
    limits.check()
    origin = args.origin and check_origin(args.origin)
    judge = load_judge(args)
    with listen(args.host, args.port) as sock:
        service = Service(load_extractor(args, judge), judge, at, limits)
        serve(build_app(service, names_of(args.host), origin), sock, args.host, not args.no_browser)
