"""Images: every kind of file, the sizes in headers, resizing, broken bytes."""

import io
import time

import hypothesis
import hypothesis.strategies as st
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf
from pictures import encode, picture

from sat_tf import images


def cmyk():
    return picture().convert("CMYK")


def sixteen_bits():
    values = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    return PIL.Image.fromarray(values)


FILES = {
    "jpeg": encode(picture(), "JPEG", quality=95),
    "progressive": encode(picture(), "JPEG", progressive=True),
    "grey jpeg": encode(picture().convert("L"), "JPEG"),
    "cmyk jpeg": encode(cmyk(), "JPEG"),
    "png": encode(picture(), "PNG"),
    "grey png": encode(picture().convert("L"), "PNG"),
    "one-bit png": encode(picture().convert("1"), "PNG"),
    "four-bit palette png": encode(picture().quantize(16), "PNG", bits=4),
    "alpha png": encode(picture().convert("RGBA"), "PNG"),
    "grey alpha png": encode(picture().convert("LA"), "PNG"),
    "palette png": encode(picture().quantize(32), "PNG"),
    "bmp": encode(picture(), "BMP"),
    "gif": encode(picture(), "GIF"),
}


@pytest.mark.parametrize("kind", FILES)
def test_decodes_as_pillow_does(kind):
    decoded = images.decode(FILES[kind]).numpy()
    expected = np.asarray(PIL.Image.open(io.BytesIO(FILES[kind])).convert("RGB"))
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - expected).max() <= 2
    assert images.image_size(FILES[kind]).numpy().tolist() == [48, 64]
    assert images.to_decodable(FILES[kind]) is FILES[kind]


def test_sixteen_bits_keep_their_range():
    decoded = images.decode(encode(sixteen_bits(), "PNG")).numpy()
    expected = np.asarray(sixteen_bits()) // 256
    np.testing.assert_array_equal(decoded[..., 0], expected)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_shows_white(kind):
    image = picture()
    image.putalpha(PIL.Image.new("L", image.size, 0))
    contents = images.to_decodable(encode(image, kind))
    assert images.decode(contents).numpy().min() == 255


def test_transparent_palette_shows_white():
    contents = encode(picture().quantize(4), "PNG", transparency=0)
    expected = PIL.Image.open(io.BytesIO(contents)).convert("RGBA")
    expected = np.asarray(expected)
    hidden = expected[..., 3:] == 0
    assert hidden.any()
    np.testing.assert_array_equal(
        images.decode(contents), np.where(hidden, 255, expected[..., :3])
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["little", "big"])
def test_orientation_of_a_phone_is_honoured(orientation, order):
    exif = PIL.Image.Exif()
    exif.endian = "<" if order == "little" else ">"
    exif[0x010F], exif[0x0112], exif[0x8769] = "maker", orientation, {0x9000: b"0230"}
    contents = encode(picture(), "JPEG", exif=exif, comment=b"x" * 500)
    upright = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(contents)))
    decoded = images.decode(contents).numpy()
    assert np.abs(decoded.astype(int) - np.asarray(upright)).max() <= 2


def test_animation_gives_its_first_frame_only():
    frames = [picture(seed=seed) for seed in range(5)]
    contents = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    expected = np.asarray(PIL.Image.open(io.BytesIO(contents)).convert("RGB"))
    np.testing.assert_array_equal(images.decode(contents).numpy(), expected)


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "BMP of a palette", "16-bit TIFF"])
def test_other_formats_become_png(kind):
    image = {
        "BMP of a palette": picture().quantize(16),
        "16-bit TIFF": sixteen_bits(),
    }.get(kind, picture())
    options = {"lossless": True} if kind == "WEBP" else {}
    contents = encode(
        image, kind.split()[-1] if "-" in kind else kind.split()[0], **options
    )
    assert images.image_size(contents).numpy().tolist() == [0, 0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="24-bit BMP"):
        images.decode(contents)
    decoded = images.decode(images.to_decodable(contents)).numpy().astype(int)
    expected = np.asarray(image.convert("RGB"))
    if image.mode.startswith("I"):
        expected = np.asarray(image)[..., np.newaxis] // 256
    assert np.abs(decoded - expected).max() <= 1


def test_crop_is_the_papers_geometry():
    image = picture(300, 500)
    # Shortest side 300 -> 256, hence 427 wide; columns (427 - 224) // 2 onward.
    scaled = np.asarray(image.resize((427, 256), PIL.Image.BILINEAR), np.float32)
    expected = scaled[16 : 16 + 224, 101 : 101 + 224]
    resized = images.resize(np.asarray(image)).numpy()
    assert resized.shape == (224, 224, 3) and resized.dtype == np.float32
    assert np.abs(resized - expected).max() < 2


def test_squash_keeps_the_whole_image():
    image = picture(30, 90)
    expected = np.asarray(image.resize((20, 10), PIL.Image.BILINEAR), np.float32)
    resized = images.resize(np.asarray(image), (10, 20), "squash").numpy()
    assert np.abs(resized - expected).max() < 2


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (224, 224), (255, 257)])
def test_crop_has_the_size_asked_for(size):
    resized = images.resize(np.full([*size, 3], 7, np.uint8), (32, 48))
    np.testing.assert_allclose(resized, 7, rtol=1e-6)


def test_none_expects_the_size():
    exact = np.asarray(picture(8, 8))
    np.testing.assert_array_equal(images.resize(exact, (8, 8), "none"), exact)
    with pytest.raises(tf.errors.InvalidArgumentError, match="'crop' or 'squash'"):
        images.resize(exact, (8, 9), "none")
    with pytest.raises(ValueError, match="mode='stretch'"):
        images.resize(exact, (8, 8), "stretch")


def test_load_takes_a_path_or_bytes(tmp_path):
    path = tmp_path / "a.webp"
    path.write_bytes(encode(picture(), "WEBP"))
    np.testing.assert_array_equal(
        images.load(path, (16, 16)), images.load(path.read_bytes(), (16, 16))
    )


@pytest.mark.parametrize("contents", [None, b"", b"no image", FILES["jpeg"][:200]])
def test_load_names_the_bad_file(tmp_path, contents):
    path = tmp_path / "holiday.jpg"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(ValueError, match="holiday.jpg"):
        images.load(path)


def test_load_names_the_file_of_a_wrong_size(tmp_path):
    path = tmp_path / "holiday.jpg"
    path.write_bytes(FILES["jpeg"])
    with pytest.raises(ValueError, match=r"(?s)holiday.jpg.*\(48, 64\)"):
        images.load(path, (8, 8), "none")


def bomb(kind):
    """A small file whose header promises 40,000 x 40,000 pixels."""
    side = (40_000).to_bytes(4, "big")
    if kind == "png":
        return FILES["png"][:16] + side + side + FILES["png"][24:]
    at = FILES["jpeg"].index(b"\xff\xc0") + 5
    return FILES["jpeg"][:at] + side[2:] * 2 + FILES["jpeg"][at + 4 :]


def test_batch_keeps_the_good_and_says_what_is_wrong():
    batch = [
        FILES["png"],
        b"",
        FILES["jpeg"][:300],
        bomb("png"),
        bomb("jpeg"),
        FILES["gif"],
        FILES["png"][:-40],
        b"\xff\xd8\xff" + b"\xff" * 99,
    ]
    pixels, errors = images.decode_batch(tf.constant(batch), (16, 16))
    words = [error.decode().split(":")[0] for error in errors.numpy()]
    assert words == [
        "",
        "not an image that can be read",
        "broken image",
        "image too large",
        "image too large",
        "",
        "broken image",
        "not an image that can be read",
    ]
    for i, contents in enumerate(batch):
        good = images.load(contents, (16, 16)) if not words[i] else 0
        np.testing.assert_array_equal(pixels[i], np.broadcast_to(good, [16, 16, 3]))


def test_gif_bomb_hides_in_no_later_frame():
    frames = [picture(40, 40)] * 2
    contents = encode(frames[0], "GIF", save_all=True, append_images=[picture(seed=1)])
    assert images.image_size(contents).numpy().tolist() == [40, 40]
    assert images.decode(contents).shape == (40, 40, 3)


def test_walking_through_a_file_has_an_end():
    """Megabytes of the shortest possible segments spoil nobody's day."""
    gif = FILES["gif"]
    frame = gif.index(b"\x2c\0\0\0\0")
    table = 3 * 2 ** (gif[frame + 9] % 8 + 1) if gif[frame + 9] & 128 else 0
    pixels = frame + 11 + table
    batch = [
        gif[:frame] + b"\x21\xfe" + b"\1a" * 2_000_000 + b"\0" + gif[frame:],
        gif[:pixels] + b"\1a" * 2_000_000 + b"\0;",
        b"\xff\xd8" + b"\xff" * 4_000_000,
        gif,
    ]
    start = time.process_time()
    _, errors = images.decode_batch(tf.constant(batch), (16, 16))
    assert time.process_time() - start < 5
    assert [error != b"" for error in errors.numpy()] == [True, True, True, False]


def test_same_inside_a_saved_model(tmp_path):
    module = tf.Module()
    module.read = tf.function(
        lambda contents: images.decode_batch(contents, (16, 16)),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path))
    restored = tf.saved_model.load(str(tmp_path))
    batch = [FILES["jpeg"], FILES["cmyk jpeg"], b"?"]
    pixels, errors = restored.read(tf.constant(batch))
    np.testing.assert_array_equal(pixels[0], images.load(FILES["jpeg"], (16, 16)))
    np.testing.assert_array_equal(pixels[1], images.load(FILES["cmyk jpeg"], (16, 16)))
    assert errors.numpy()[2].startswith(b"not an image")


@hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
@hypothesis.given(
    kind=st.sampled_from(sorted(FILES)),
    cut=st.integers(0, 900),
    noise=st.binary(max_size=60),
    at=st.integers(0, 200),
)
def test_headers_are_safe_on_garbage(kind, cut, noise, at):
    contents = FILES[kind][:cut]
    contents = contents[:at] + noise + contents[at + len(noise) :]
    header = images.image_headers.read(tf.constant([contents, FILES[kind]]))
    assert (header.size.numpy() >= 0).all()
    assert 1 <= int(header.orientation[0]) <= 8
    assert header.size[1].numpy().tolist() == [48, 64]
