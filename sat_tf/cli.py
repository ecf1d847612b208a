"""The command line: parses, calls, prints. Libraries are loaded when needed."""

import argparse
import json
import os
import sys

ATTENTION = ("argmax", "sample", "expected")


def main(argv=None):
    """Runs one command; returns its exit status.

    0: done; 1: `check-data` found what cannot be trained on; 2: refused or failed; 130:
    stopped.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    # Set before TensorFlow is imported, or it greets with a page of notices.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return args.run(args) or 0
    except KeyboardInterrupt:
        print(
            "\nsat-tf: stopped. What was saved is whole, and the same command goes on.",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        if os.environ.get("SAT_TF_TRACEBACK"):
            raise
        print(f"sat-tf {args.command}: {error}", file=sys.stderr)
        return 2


def _parser():
    parser = argparse.ArgumentParser(
        prog="sat-tf",
        description="Image captioning with attention you can trust.",
        epilog="Set SAT_TF_TRACEBACK=1 to see where an error came from.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = _command(commands, "demo", _demo, "train on drawings, caption, show")
    demo.add_argument("--out", default="sat-tf-demo", help="folder (%(default)s)")
    demo.add_argument("--seed", type=int, default=17)

    train = _command(commands, "train", _train, "train a captioner, or go on with one")
    _data(train)
    train.add_argument("--preset", required=True, help="a recipe: paper, arctic, ...")
    train.add_argument("--out", required=True, metavar="RUN", help="folder of the run")
    train.add_argument("--estimator", help="instead of the preset's")
    train.add_argument("--epochs", type=int, help="instead of the preset's")
    train.add_argument("--seed", type=int, default=17)
    _set(train)
    _encoder_weights(train)
    _cache_dir(train)

    caption = _command(commands, "caption", _caption, "caption image files")
    caption.add_argument("images", nargs="+", metavar="IMAGE")
    caption.add_argument(
        "--model",
        default="flickr8k_hard",
        metavar="RUN|PRESET",
        help="who captions (%(default)s)",
    )
    _attention(caption)
    caption.add_argument("--figure", metavar="OUT.png", help="where it looked")
    _decoding(caption)
    _encoder_weights(caption)

    evaluate = _command(commands, "evaluate", _evaluate, "score a captioner on a split")
    evaluate.add_argument("model", metavar="RUN|PRESET")
    _data(evaluate)
    evaluate.add_argument("--split", default="test", help="(%(default)s)")
    _attention(evaluate)
    evaluate.add_argument("--out", required=True, metavar="DIR")
    evaluate.add_argument(
        "--beam", type=int, metavar="K", help="beams; 1 is greedy (the model's own)"
    )
    evaluate.add_argument("--length-penalty", type=float, help="(the model's own)")
    _agreement(evaluate)
    evaluate.add_argument("--seed", type=int, default=17)
    _encoder_weights(evaluate)
    _cache_dir(evaluate)

    check = _command(commands, "check-data", _check_data, "find what is wrong in data")
    _data(check)

    export = _command(commands, "export", _export, "write a SavedModel for servers")
    export.add_argument("model", metavar="RUN|PRESET")
    export.add_argument(
        "--out", required=True, metavar="DIR", help="e.g. saved_models/NAME"
    )
    export.add_argument(
        "--version", type=int, metavar="N", help="(one more than the highest there)"
    )
    export.add_argument(
        "--float16", action="store_true", help="store weights in half the space"
    )
    export.add_argument(
        "--examples",
        nargs="+",
        metavar="JPEG",
        help="pictures that the page offers (drawings if it was trained on those)",
    )
    _attention(export)
    export.add_argument("--decoder", choices=("greedy", "sample", "beam"))
    export.add_argument("--beam", type=int, metavar="K")
    export.add_argument("--max-length", type=int)
    export.add_argument("--length-penalty", type=float)
    _agreement(export)
    _encoder_weights(export)

    serve = _command(commands, "serve", _serve, "serve exported captioners over HTTP")
    serve.add_argument("root", metavar="DIR", help="e.g. saved_models")
    serve.add_argument("--port", type=int, default=8501, help="(%(default)s)")
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (%(default)s)"
    )
    serve.add_argument(
        "--cors", action="store_true", help="let scripts of other web sites ask (no)"
    )

    bench = _command(
        commands, "bench-estimators", _bench, "compare gradients of attention"
    )
    _data(bench)
    bench.add_argument("--preset", required=True, help="a recipe: scenes, flickr, ...")
    bench.add_argument(
        "--out", required=True, metavar="DIR", help="for results; it goes on there"
    )
    bench.add_argument("--estimators", metavar="A,B,...", help="some of them (all)")
    bench.add_argument(
        "--model",
        metavar="RUN|PRESET",
        help="what to start from (one trained by soft attention now)",
    )
    bench.add_argument(
        "--keep-decoder",
        action="store_true",
        help="learn on from the model's attention and decoder, not from fresh ones",
    )
    bench.add_argument(
        "--draws", type=int, default=200, help="gradients per estimator (%(default)s)"
    )
    bench.add_argument(
        "--seeds", type=int, default=3, help="learning runs each (%(default)s)"
    )
    bench.add_argument(
        "--minutes", type=float, default=5.0, help="of a learning run (%(default)s)"
    )
    _set(bench)
    _encoder_weights(bench)
    _cache_dir(bench)

    caches = _command(commands, "caches", _caches, "list caches, and remove some")
    _cache_dir(caches)
    caches.add_argument("--remove", nargs="+", metavar="NAME", help="as listed")

    for command in (demo, train, caption, evaluate, check, export, bench, caches):
        command.add_argument("--json", action="store_true", help="print JSON only")
    return parser


def _command(commands, name, run, summary):
    command = commands.add_parser(name, help=summary, description=summary)
    command.set_defaults(run=run)
    return command


def _data(command):
    command.add_argument(
        "--data", required=True, metavar="NAME|PATH", help="data set, or your folder"
    )
    command.add_argument("--data-dir", metavar="DIR", help="where its files are")


def _attention(command):
    command.add_argument(
        "--attention", choices=ATTENTION, help="location rule (the model's own)"
    )


def _decoding(command):
    from_options = command.add_argument_group("decoding")
    from_options.add_argument("--decoder", choices=("greedy", "sample", "beam"))
    from_options.add_argument("--beam", type=int, metavar="K")
    from_options.add_argument("--temperature", type=float)
    from_options.add_argument("--top-p", type=float)
    from_options.add_argument("--max-length", type=int)
    from_options.add_argument("--length-penalty", type=float)
    _agreement(from_options)
    from_options.add_argument("--seed", type=int)


def _agreement(command):
    command.add_argument(
        "--consensus",
        type=number_or_off,
        default=argparse.SUPPRESS,  # as `None` says something: off
        metavar="P|off",
        help="rank beams by their agreement, each weighed by probability ** P "
        "(the model's own)",
    )
    command.add_argument(
        "--detection",
        type=float,
        metavar="W",
        help="and by W times how far they say the words it detects (the model's own)",
    )
    command.add_argument(
        "--grounding",
        type=float,
        metavar="W",
        help="and by W times how far the places they look at say their words (the "
        "model's own)",
    )


def number_or_off(text):
    """Its name is in what argparse says of anything else."""
    return None if text == "off" else float(text)


def _set(command):
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change any field of the preset; may be given many times",
    )


def _encoder_weights(command):
    command.add_argument(
        "--encoder-weights",
        metavar="PATH",
        help="weights of the encoder, instead of a download",
    )


def _cache_dir(command):
    command.add_argument(
        "--cache-dir",
        metavar="DIR",
        help="where pixels and features are kept ($SAT_TF_CACHE or ~/.cache/sat_tf)",
    )


def _demo(args):
    from sat_tf.demo import demo

    report = demo(args.out, seed=args.seed, quiet=args.json)
    if args.json:
        print(json.dumps(report, indent=1))


def _train(args):
    from sat_tf.training import train

    _, history = train(
        _recipe(args, "estimator", "epochs"),
        args.data,
        args.out,
        data_dir=args.data_dir,
        encoder_weights=args.encoder_weights,
        seed=args.seed,
        cache_dir=args.cache_dir,
        verbose=0 if args.json else "auto",
    )
    if args.json:
        print(json.dumps(history, indent=1))
    else:
        print(f"Best captioner: {args.out}/model. Caption a photograph with it:")
        print(f"  sat-tf caption photo.jpg --model {args.out} --figure look.png")


def _recipe(args, *named):
    """The preset with what was asked for: by `--set`, or by options of these names."""
    from sat_tf.presets import get_preset
    from sat_tf.training import refuse_unheard

    changes = dict(_key_value(pair) for pair in args.set)
    given = {name: getattr(args, name) for name in named}
    changes |= {name: value for name, value in given.items() if value is not None}
    preset = get_preset(args.preset).replace(**changes)
    refuse_unheard(preset, changes.keys())
    return preset


def _key_value(pair):
    key, equals, value = pair.partition("=")
    if not equals:
        raise ValueError(
            f"Expected key=value. Received: --set {pair}. "
            "Write, for instance, --set learning_rate=0.001."
        )
    return key, value


def _caption(args):
    from sat_tf.captioner import ShowAttendTell
    from sat_tf.images import load

    captioner = ShowAttendTell.from_preset(
        args.model, encoder_weights=args.encoder_weights
    )
    names = ("decoder", "beam", "temperature", "top_p", "max_length", "length_penalty")
    options = _options(args, (*names, "attention"))
    pixels = [
        load(path, captioner.encoder.image_size, captioner.resize_mode)
        for path in args.images
    ]
    captions = captioner.generate(pixels, seed=args.seed, **options)
    if args.json:
        rows = zip(args.images, captions, strict=True)
        print(json.dumps([_as_json(*row, captioner.grid) for row in rows], indent=1))
    else:
        for path, caption in zip(args.images, captions, strict=True):
            print(f"{path}: {caption.caption}")
    if args.figure:
        from sat_tf.visualisation import captions_figure, save_figure

        save_figure(captions_figure(pixels, captions), args.figure)


def _options(args, names):
    """Decoding options that were given; `--beam` alone asks for a beam search."""
    from sat_tf.decoding import OPINIONS

    options = {name: getattr(args, name) for name in (*names, *OPINIONS)}
    options = {name: value for name, value in options.items() if value is not None}
    if "consensus" in args:
        options["consensus"] = args.consensus
    if "beam" in options or _of_beams(options):
        options.setdefault("decoder", "beam")
    return options


def _of_beams(options):
    """The option that needs beams to rank, if one was given; 0 is off for one only."""
    from sat_tf.decoding import OPINIONS

    if options.get("consensus") is not None:
        return "consensus"
    return next((name for name in OPINIONS if options.get(name)), None)


def _as_json(path, caption, grid):
    return {
        "image": path,
        "caption": caption.caption,
        "score": caption.score,
        "log_p": caption.log_p,
        "words": list(caption.words),
        "log_p_word": caption.log_p_word.tolist(),
        "locations": caption.locations.tolist(),
        "grid": list(grid),
        "beams": [{"caption": b.caption, "score": b.score} for b in caption.beams],
    }


def _evaluate(args):
    from sat_tf.caches import default_cache
    from sat_tf.captioner import ShowAttendTell
    from sat_tf.datasets import load
    from sat_tf.evaluation import evaluate

    captioner = ShowAttendTell.from_preset(
        args.model, encoder_weights=args.encoder_weights
    )
    options = _options(args, ("length_penalty", "attention", "beam"))
    if args.beam == 1:
        if asked := _of_beams(options):
            raise ValueError(
                f"Expected beams, for --{asked} to rank. Received: --beam 1. "
                f"Give --beam 10, say, or leave --{asked} out."
            )
        options = {**options, "decoder": "greedy"}
    scores = evaluate(
        captioner,
        load(args.data, args.split, data_dir=args.data_dir),
        captioner.options(**options),
        args.out,
        cache_dir=args.cache_dir or default_cache(),
        seed=args.seed,
        progress=not args.json,
    )
    if args.json:
        print(json.dumps(scores, indent=1))
    else:
        for name, value in scores.items():
            text = f"{value:.3f}" if isinstance(value, float) else value
            print(f"{name:24}{text}")


def _check_data(args):
    from sat_tf.datasets.check import check

    report = check(args.data, args.data_dir)
    if args.json:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        print("\n".join(report.lines()))
    if not report.ok:
        print(f"sat-tf check-data: {args.data} cannot be trained on.", file=sys.stderr)
    return 0 if report.ok else 1


def _export(args):
    from sat_tf import storage
    from sat_tf.captioner import ShowAttendTell

    captioner = ShowAttendTell.from_preset(
        args.model, encoder_weights=args.encoder_weights
    )
    metadata = (storage.find(args.model) / "metadata.json").read_text()
    folder = captioner.export(
        args.out,
        args.version,
        dtype="float16" if args.float16 else None,
        examples=args.examples,
        metadata=json.loads(metadata),
        **_options(
            args, ("decoder", "beam", "attention", "max_length", "length_penalty")
        ),
    )
    if args.json:
        print(json.dumps({"path": str(folder)}))
    else:
        print(f"Exported to {folder}. Serve it:")
        print(f"  sat-tf serve {os.path.dirname(args.out.rstrip('/')) or '.'}")


def _bench(args):
    import pathlib

    from sat_tf.bench.run import bench
    from sat_tf.bench.start import Plan

    plan = Plan(
        out=pathlib.Path(args.out),
        data=args.data,
        data_dir=args.data_dir,
        preset=_recipe(args),
        model=args.model,
        encoder_weights=args.encoder_weights,
        cache_dir=args.cache_dir,
        draws=args.draws,
        minutes=args.minutes,
        keep_decoder=args.keep_decoder,
    )
    names = args.estimators.split(",") if args.estimators else None
    summary = bench(plan, names, args.seeds, quiet=args.json)
    if args.json:
        print(json.dumps(summary, indent=1))
        return
    shown = ("ms", "attention_vs_paper", "final_score", "share_of_paper")
    print(f"{'':26}" + "".join(f"{name:>20}" for name in shown))
    for row in summary:
        values = (row.get(name) for name in shown)
        texts = ("" if v is None else f"{v:.3g}" for v in values)
        print(f"{row['estimator']:26}" + "".join(f"{text:>20}" for text in texts))
    print(f"Tables and figures: {args.out}")


def _caches(args):
    from sat_tf.caches import default_cache, find, remove

    cache_dir = args.cache_dir or default_cache()
    for name in args.remove or ():
        remove(cache_dir, name)
        if not args.json:
            print(f"Removed {name}.")
    found = find(cache_dir)
    if args.json:
        print(json.dumps([cache.to_dict() for cache in found], indent=1))
        return
    size = sum(cache.bytes for cache in found)
    print(f"{cache_dir}: {len(found)} caches, {size / 1e6:,.1f} MB")
    for cache in found:
        print(
            f"  {cache.bytes / 1e6:10,.1f} MB  {cache.images:7} images  "
            f"{cache.last_used:%Y-%m-%d %H:%M}  {cache.name}"
            f"{'' if cache.complete else '  (incomplete)'}"
        )


def _serve(args):
    try:
        from sat_tf.serving import serve

        serve(args.root, args.host, args.port, cors=args.cors)
    except ModuleNotFoundError as error:
        raise ImportError(
            "Expected the libraries of the server to be installed. "
            f"Received: {error}. Install them: pip install 'sat_tf[serve]'"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
