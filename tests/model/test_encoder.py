"""Images to annotations: grids, preprocessing, weights from files, standardising."""

import functools

import keras
import numpy as np
import pytest

from sat_tf.model.encoder import TRUNKS, Encoder
from sat_tf.trunks import efficientnet_lite

SMALL = (32, 32)


@functools.cache
def small(trunk):
    """An encoder of small images, its weights drawn; not to be changed."""
    keras.utils.set_random_seed(17)
    return Encoder(trunk, image_size=SMALL)


def images(number=2, size=SMALL):
    rng = np.random.default_rng(17)
    return rng.uniform(0, 255, (number, *size, 3)).astype("float32")


# Rows of places, features per place, and the module that knows the preprocessing.
EXPECTED = {
    "vgg19": (14, 512, keras.applications.vgg19),  # the paper's 196 x 512
    "vgg16": (14, 512, keras.applications.vgg16),
    "resnet50": (14, 1024, keras.applications.resnet50),
    "mobilenet": (14, 512, keras.applications.mobilenet),
    "mobilenet_7x7": (7, 1024, keras.applications.mobilenet),
    "efficientnetb0": (14, 112, keras.applications.efficientnet),
    "efficientnet_lite0": (7, 320, efficientnet_lite),
    "efficientnet_lite1": (7, 320, efficientnet_lite),
    "efficientnet_lite0_hypercolumns": (7, 768, efficientnet_lite),
    "efficientnet_lite1_hypercolumns": (7, 768, efficientnet_lite),
    "efficientnet_lite0_14x14": (14, 672, efficientnet_lite),
    "efficientnet_lite1_14x14": (14, 672, efficientnet_lite),
}


@pytest.mark.parametrize("trunk", TRUNKS)
def test_trunks_give_places_of_pixels_prepared_their_way(trunk):
    rows, size, module = EXPECTED[trunk]
    encoder = Encoder(trunk)
    assert encoder.image_size == (224, 224)
    assert encoder.grid == (rows, rows) and encoder.locations == rows * rows
    assert encoder.size == size
    *_, before, inner = encoder.network.operations
    assert TRUNKS[trunk].cut[-1] in {layer.name for layer in inner.layers[-2:]}
    prepare = keras.Model(encoder.network.input, before.output)
    pixels = images(1, (224, 224))
    np.testing.assert_allclose(
        prepare(pixels), module.preprocess_input(pixels.copy()), rtol=1e-5, atol=1e-4
    )


def test_hypercolumns_are_two_layers_side_by_side():
    """Of the finer one, the four locations that lie in a coarse one, row by row."""
    encoder = Encoder("efficientnet_lite0_hypercolumns", image_size=(64, 96))
    pixels = images(2, (64, 96))
    *_, before, inner = encoder.network.operations
    prepared = keras.Model(encoder.network.input, before.output)(pixels)
    fine, coarse = (
        keras.Model(inner.input, inner.get_layer(name).output)(prepared).numpy()
        for name in TRUNKS["efficientnet_lite0_hypercolumns"].cut
    )
    assert encoder.grid == (2, 3) and fine.shape[1:3] == (4, 6)
    found = encoder.features(pixels).numpy().reshape(2, 2, 3, -1)
    for row in range(2):
        for column in range(3):
            inside = fine[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            wanted = [inside.reshape(2, -1), coarse[:, row, column]]
            np.testing.assert_allclose(
                found[:, row, column], np.concatenate(wanted, axis=-1), atol=1e-5
            )


def test_features_are_the_map_at_the_cut_row_by_row():
    encoder = small("mobilenet")
    prepared = keras.applications.mobilenet.preprocess_input(images().copy())
    expected = encoder.network.layers[-1](prepared)  # [2, 2, 2, 512]
    np.testing.assert_allclose(
        encoder.features(images()), np.reshape(expected, [2, 4, 512]), rtol=1e-4
    )


def test_convnet_knows_where_its_places_are():
    encoder = small("convnet")
    h, w = encoder.grid
    place = encoder.features(images()).numpy()[0, :, -2:].reshape(h, w, 2)
    np.testing.assert_allclose(place[:, 0, 0], np.linspace(-1, 1, h))
    np.testing.assert_allclose(place[0, :, 1], np.linspace(-1, 1, w))
    assert np.ptp(place[..., 0], axis=1).max() == 0  # a row has one height


# ----------------------------------------------------------------------- weights


@functools.cache
def other():
    """A whole MobileNet with weights of its own, batch statistics included."""
    network = keras.applications.MobileNet(
        weights=None, include_top=False, input_shape=(*SMALL, 3)
    )
    rng = np.random.default_rng(17)
    for variable in network.weights:
        variable.assign(rng.uniform(0.1, 0.3, variable.shape))
    return network


def expected_features():
    cut = keras.Model(other().input, other().get_layer("conv_pw_11_relu").output)
    prepared = keras.applications.mobilenet.preprocess_input(images().copy())
    return np.asarray(cut(prepared)).reshape(2, -1, 512)


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_weights_of_the_whole_network(suffix, tmp_path):
    """In both of Keras' formats: what it saves, and what it offers for download."""
    path = tmp_path / f"mobilenet{suffix}"
    save(other(), path)
    encoder = Encoder("mobilenet", weights=path, image_size=SMALL)
    np.testing.assert_allclose(
        encoder.features(images()), expected_features(), rtol=1e-4
    )


def test_weights_of_a_network_truncated_at_the_cut(tmp_path):
    path = tmp_path / "truncated.h5"
    save(keras.Model(other().input, other().get_layer("conv_pw_11_relu").output), path)
    encoder = Encoder("mobilenet", weights=path, image_size=SMALL)
    np.testing.assert_allclose(
        encoder.features(images()), expected_features(), rtol=1e-4
    )


def test_weights_that_cannot_be_downloaded(tmp_path, monkeypatch):
    """Keras finds nothing in its cache, and nobody listens where it asks."""
    fetch = keras.utils.get_file

    def nowhere(name, origin, **options):
        options |= {"cache_dir": tmp_path}
        return fetch(name, "http://127.0.0.1:9/" + name, **options)

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", nowhere)
    with pytest.raises(OSError, match="of mobilenet, which Keras downloads.*:9/"):
        Encoder("mobilenet", weights="imagenet")


def test_weights_that_end_before_the_cut(tmp_path):
    path = tmp_path / "short.h5"
    save(keras.Model(other().input, other().get_layer("conv_pw_10_relu").output), path)
    with pytest.raises(ValueError, match=r"short.h5', which lacks \d+.*conv_dw_11"):
        Encoder("mobilenet", weights=path, image_size=SMALL)


def test_weights_of_another_network(tmp_path):
    path = tmp_path / "vgg.h5"
    save(small("vgg16").network.layers[-1], path)
    with pytest.raises(ValueError, match="Use a file of this network"):
        Encoder("mobilenet", weights=path, image_size=SMALL)


@pytest.mark.parametrize("trunk", ["mobilenet", "convnet"])
def test_files_that_are_missing_or_no_weights(trunk, tmp_path):
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        Encoder(trunk, weights=tmp_path / "no.weights.h5", image_size=SMALL)
    path = tmp_path / "text.weights.h5"
    path.write_text("not HDF5")
    with pytest.raises(ValueError, match="Expected a Keras weights file.*text.weights"):
        Encoder(trunk, weights=path, image_size=SMALL)


def test_convnet_from_a_file(tmp_path):
    small("convnet").network.save_weights(tmp_path / "c.weights.h5")
    encoder = Encoder("convnet", weights=tmp_path / "c.weights.h5", image_size=SMALL)
    np.testing.assert_allclose(
        encoder.features(images()), small("convnet").features(images()), rtol=1e-5
    )


def save(network, path):
    """Weights in Keras' own format, or by layer name as keras.applications ships."""
    if path.name.endswith(".weights.h5"):
        network.save_weights(path)
    else:
        import h5py
        from keras.src.legacy.saving import legacy_h5_format

        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, network)


# ------------------------------------------------------------------ being trained


def test_frozen_unless_asked_for():
    assert not small("convnet").network.trainable_variables
    encoder = Encoder("convnet", image_size=SMALL, trainable=True)
    assert encoder.network.trainable_variables


def test_a_frozen_trunk_keeps_its_batch_statistics():
    """`training=True` concerns the dropout of the decoder, not a frozen network."""
    frozen = small("convnet")
    plain, training = (frozen.features(images(), training=t) for t in (False, True))
    np.testing.assert_array_equal(plain, training)
    trained = Encoder("convnet", image_size=SMALL, trainable=True)
    before = [v.numpy() for v in trained.network.non_trainable_variables]
    trained.features(images(), training=True)
    after = [v.numpy() for v in trained.network.non_trainable_variables]
    assert any((x != y).any() for x, y in zip(before, after, strict=True))


def test_adapt_standardises_each_channel():
    encoder = Encoder("none", features_shape=(2, 3, 4))
    rng = np.random.default_rng(17)
    features = rng.normal([0, 5, -3, 7], [1, 2, 0.5, 0], (50, 6, 4)).astype("float32")
    np.testing.assert_allclose(encoder(features), features, rtol=1e-5)  # not yet
    encoder.adapt(features)
    found = encoder(features).numpy().reshape(-1, 4)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)
    # The last never changes: it is left at 0, not blown up.
    np.testing.assert_allclose(found.std(0), [1, 1, 1, 0], atol=1e-3)


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"trunk": "alexnet"}, "trunk='alexnet'"),
        ({"trunk": "none"}, "features_shape=None"),
        ({"trunk": "vgg19", "features_shape": (14, 14, 512)}, "trunk='vgg19'"),
    ],
)
def test_arguments_that_make_no_encoder(options, received):
    with pytest.raises(ValueError, match="Expected.*Received.*") as error:
        Encoder(**options)
    assert received in str(error.value)


def test_annotations_of_ones_own_have_no_trunk():
    with pytest.raises(ValueError, match="Expected annotations"):
        Encoder("none", features_shape=(2, 3, 4)).features(images())
