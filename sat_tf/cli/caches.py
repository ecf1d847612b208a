"""List caches of features, pixels and captions, and remove some."""

import json

from sat_tf.cli import arguments


def add_arguments(parser):
    """Of `sat-tf caches`."""
    arguments.add_cache_dir(parser)
    parser.add_argument("--remove", nargs="+", metavar="NAME", help="as listed")
    arguments.add_json(parser)


def run(args):
    """Removes what was named, and lists the others."""
    from sat_tf.runtime.caches import default_cache, find, remove

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
    print("".join(f"{line(cache)}\n" for cache in found), end="")


def line(cache):
    """What people are told of a `Found`."""
    return (
        f"  {cache.bytes / 1e6:10,.1f} MB  {cache.images:7} images  "
        f"{cache.last_used:%Y-%m-%d %H:%M}  {cache.name}"
        f"{'' if cache.complete else '  (incomplete)'}"
    )
