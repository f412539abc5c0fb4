# SPDX-License-Identifier: Apache-2.0
"""`rawnext serve`: a page in the browser to try a model with two recordings."""

import argparse

from rawnext.cli.options import add_model, add_operating, load_extractor, model_folder, operating
from rawnext.errors import InputError

DESCRIPTION = """A page in the browser: record or drop two files, see waveforms, score and decision.

rawnext serve -m exp/rawnext

The page is served to this machine alone, works without a network, and keeps nothing: audio stays in memory until its
embedding is there. --host 0.0.0.0 lets others in, who need no password."""
LOOPBACK = "127.0.0.1"


def add_to(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("serve", help="a page in the browser to try a model", description=DESCRIPTION,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default=LOOPBACK, help="where to listen (default %(default)s: for this machine)")
    parser.add_argument("--port", type=int, default=8765, help="0: a free one (default %(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    parser.add_argument("--seconds", type=float, default=120, help="longest recording (default %(default)s)")
    parser.add_argument("--megabytes", type=float, default=25, help="largest file (default %(default)s)")
    add_operating(parser)
    add_model(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    try:
        from rawnext.serve.app import Limits, Service, build_app
        from rawnext.serve.server import listen, names_of, serve
    except ModuleNotFoundError as error:
        if (name := (error.name or "").partition(".")[0]) not in ("starlette", "uvicorn"):
            raise
        raise InputError(name, None, "is not installed: pip install 'rawnext[serve]'") from None
    from rawnext.scoring.decision import read_judge

    limits, at = Limits(args.megabytes, args.seconds), operating(args)
    limits.check()
    judge = read_judge(model_folder(args))
    with listen(args.host, args.port) as sock:
        service = Service(load_extractor(args), judge, at, limits)
        serve(build_app(service, names_of(args.host)), sock, args.host, not args.no_browser)
