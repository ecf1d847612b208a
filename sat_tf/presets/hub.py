"""Captioners on the Hugging Face Hub: `hf://user/name`, and the card that goes along.

The package `huggingface_hub` (the extra `hub`) fetches them once, keeps them in its own
cache and finds them there without network.
"""

import pathlib

PREFIX = "hf://"
NEEDED = ("config.json", "weights.npz")
MARK = "<!-- sat_tf writes this card anew at every save until you remove this line. -->"

_CARD = """\
---
library_name: sat_tf
license: {license}
pipeline_tag: image-to-text
tags:
- image-to-text
- image-captioning
- show-attend-and-tell
- keras
---
{mark}

# An image captioner that shows where it looked

Show, Attend and Tell (Xu et al. 2015), trained and saved with `sat_tf`. It looks at one
location of the image for every word it says.

```python
import sat_tf

captioner = sat_tf.ShowAttendTell.from_preset("hf://USER/NAME")
{use}
```

| | |
|---|---|
{facts}

`metadata.json` holds what is known of its training. It knows the words of its training
data and what that data showed; of anything else it speaks just as fluently and is
wrong. Do not use it to describe people, or where a mistake can harm somebody.
"""


def download(address):
    """Folder of a captioner, fetched unless it is there already.

    Args:
        address: `hf://user/name`, or `hf://user/name@revision` for a branch, a tag or
            a commit.

    Returns:
        a `pathlib.Path` that `storage.load` reads.

    Raises:
        ValueError: an address of another form.
        ImportError: `huggingface_hub` is not installed.
        OSError: no such repository or revision, none without a login, or no network;
            or what is there is no captioner.
    """
    hub = _library(address)
    repository, _, revision = address.removeprefix(PREFIX).partition("@")
    try:
        folder = hub.snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=[*NEEDED, "metadata.json"],
            library_name="sat_tf",
        )
    except hub.utils.HFValidationError as error:
        raise ValueError(
            "Expected hf://user/name or hf://user/name@revision. "
            f"Received: {address!r}. Copy the name from the top of the model's page."
        ) from error
    except Exception as error:  # of whichever HTTP library it uses in this version
        if isinstance(error, OSError) and error.errno:  # a full disk, say
            raise
        raise OSError(
            "Expected a captioner on the Hugging Face Hub, or in the cache from an "
            f"earlier visit. Received: {address!r}, {_first_line(error)}. "
            f"{_advice(hub, error)}"
        ) from error
    folder = pathlib.Path(folder)
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            "Expected a captioner that save_to_preset wrote. "
            f"Received: {address!r}, which lacks {' and '.join(missing)}. "
            "Check the name, or upload all files of the folder."
        )
    return folder


def _library(address):
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            "Expected the package huggingface_hub, which fetches captioners from the "
            f"Hugging Face Hub. Received: {address!r}, and it is not installed. "
            "Install it: pip install 'sat_tf[hub]'."
        ) from error
    return huggingface_hub


def _first_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}".rstrip(".")


def _advice(hub, error):
    if isinstance(error, hub.utils.RevisionNotFoundError):
        return "Take a branch, tag or commit from the model's page, or leave it out."
    if isinstance(error, hub.utils.RepositoryNotFoundError):
        return "Check the name; if it is private or gated, log in: hf auth login."
    return "Connect this machine, or copy the folder here and give its path."


def card(captioner, *, encoder, metadata):
    """Markdown with the front matter that the Hub reads.

    Args:
        captioner: a `ShowAttendTell`.
        encoder: whether its trunk's weights lie beside the card.
        metadata: as `storage.save` takes it; its `license`, an identifier of the Hub
            such as `cc-by-4.0`, goes into the front matter.
    """
    trunk = captioner.encoder
    rows, columns = trunk.grid
    facts = {
        "trunk": f"{trunk.trunk}, {rows} x {columns} locations of {trunk.size} "
        "features",
        "vocabulary": f"{len(captioner.vocabulary):,} words",
        "location rule": captioner.options().attention,
    }
    use = 'captioner.generate(dataset)  # of batches {"annotations": [B, L, D]}'
    if trunk.network is not None:
        use = 'print(captioner.generate("photo.jpg")[0].caption)'
        height, width = trunk.image_size
        facts["images"] = (
            f"{height} x {width} pixels; resizing: {captioner.encoder.resize_mode}"
        )
        kept = "in `weights.npz`" if encoder else "ImageNet's, from `sat_tf` or Keras"
        facts["trunk's weights"] = kept
    facts |= {k: f"{v:.4g}" for k, v in metadata.items() if isinstance(v, int | float)}
    return _CARD.format(
        license=metadata.get("license", "unknown"),
        mark=MARK,
        use=use,
        facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
    )
