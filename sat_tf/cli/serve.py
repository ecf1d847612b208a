"""Serve exported captioners over HTTP."""


def add_arguments(parser):
    """Of `sat-tf serve`."""
    parser.add_argument("root", metavar="DIR", help="e.g. saved_models")
    parser.add_argument("--port", type=int, default=8501, help="default: %(default)s")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: %(default)s)",
    )
    parser.add_argument(
        "--cors",
        action="store_true",
        help="let scripts of other web sites ask (default: no)",
    )


def run(args):
    """Serves until it is stopped."""
    try:
        from sat_tf.serving import serve

        serve(args.root, args.host, args.port, cors=args.cors)
    except ModuleNotFoundError as error:
        raise ImportError(
            "Expected the libraries of the server to be installed. "
            f"Received: {error}. Install them: pip install 'sat_tf[serve]'"
        ) from error
