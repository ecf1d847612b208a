"""Images: every kind of file, the sizes in headers, resizing, broken bytes."""

import io
import resource
import struct
import time
import zlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf
from pictures import encode, picture

from sat_tf import images
from sat_tf.images import headers


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


def ramp(white, dtype):
    """From black to `white`, evenly."""
    return np.linspace(0, white, 48 * 64).reshape(48, 64).astype(dtype)


def deep_tiff(white):
    """A TIFF of three colours of 16 bits, which Pillow reads but does not write."""
    pixels = np.stack([ramp(white, "<u2")] * 3, -1).tobytes()
    fields = [(256, 3, 1, 64), (257, 3, 1, 48), (258, 3, 3, 8 + len(pixels))]
    fields += [(259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, 3)]
    fields += [(278, 3, 1, 48), (279, 4, 1, len(pixels))]
    parts = [struct.pack("<2sHI", b"II", 42, 8 + len(pixels) + 6), pixels]
    parts += [struct.pack("<4H", 16, 16, 16, len(fields))]
    parts += [struct.pack("<HHII", *field) for field in fields]
    return b"".join([*parts, struct.pack("<I", 0)])


@pytest.mark.parametrize(
    "contents",
    [
        encode(PIL.Image.fromarray(ramp(1, np.float32)), "TIFF"),
        encode(PIL.Image.fromarray(ramp(255, np.float32)), "TIFF"),
        encode(PIL.Image.fromarray(ramp(255, np.int32)), "TIFF"),
        encode(PIL.Image.fromarray(ramp(65535, np.int32)), "TIFF"),
        encode(PIL.Image.fromarray(ramp(65535, np.uint16)), "TIFF"),
        encode(PIL.Image.fromarray(ramp(65535, ">u2")), "TIFF"),
        deep_tiff(65535),
    ],
    ids=["0..1", "0..255", "i32 0..255", "i32 0..65535", "u16", "big u16", "rgb16"],
)
def test_numbers_of_more_bits_are_scaled(contents):
    shown = images.load(contents, (48, 64), "none")
    assert np.abs(shown - ramp(255, np.float32)[..., np.newaxis]).max() <= 1


def with_nan():
    values = ramp(1, np.float32)
    values[3, 5] = np.nan
    return values


@pytest.mark.parametrize(
    ("contents", "received"),
    [
        (encode(PIL.Image.fromarray(values), kind), received)
        for values, kind, received in [
            (ramp(9000, np.float32), "TIFF", "float32 values lie between 0 and 9000"),
            (ramp(2, np.float32), "TIFF", "between 0 and 2"),
            (ramp(1, np.float32) - 0.5, "TIFF", "between -0.5 and 0.5"),
            (ramp(0, np.float32), "TIFF", "between 0 and 0"),
            (with_nan(), "TIFF", "between nan and nan"),
            (ramp(1_000_000, np.int32), "TIFF", "int32 values .* and 1e"),
            (ramp(20, np.int32), "TIFF", "between 0 and 20"),
            (ramp(4095, np.uint16), "TIFF", "uint16 values lie between 0 and 4095"),
            (ramp(4095, np.uint16), "PNG", "16-bit values make a black image"),
        ]
    ]
    + [(deep_tiff(4095), "16-bit values make a black image")],
)
def test_numbers_that_may_mean_anything_are_refused(tmp_path, contents, received):
    """Black or white all over, they would be learned from without a word."""
    path = tmp_path / "heights.tif"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=f"heights.tif.*{received}.*PNG of 8 bits"):
        images.load(path)


def test_a_batch_refuses_16_bits_that_would_be_black():
    dark = encode(PIL.Image.fromarray(ramp(4095, np.uint16)), "PNG")
    _, errors = images.decode_batch(tf.constant([dark, FILES["png"]]), (16, 16))
    assert errors[0].numpy().startswith(b"a PNG of 16 bits that is broken, or so dark")
    assert errors[1] == b""


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF"])
def test_transparency_shows_white(kind):
    image = picture()
    image.putalpha(PIL.Image.new("L", image.size, 0))
    contents = images.to_decodable(encode(image, kind))
    assert images.decode(contents).numpy().min() == 255


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_transparent_palette_shows_white(kind):
    contents = encode(picture().quantize(4), kind, transparency=0)
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
    contents = encode(
        picture(), "JPEG", exif=on_its_side(orientation, order), comment=b"x" * 500
    )
    assert_upright(contents, tolerance=2)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_orientation_is_honoured_in_every_format(kind, orientation):
    options = {"lossless": True} if kind == "WEBP" else {}
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    contents = encode(picture(), kind, exif=exif, **options)
    assert_upright(images.to_decodable(contents))


@pytest.mark.parametrize("mark", [b"", b"Exif\0\0"])
def test_orientation_of_a_png_behind_other_chunks(mark):
    """Some writers leave the mark of JPEG's EXIF in."""
    plain = encode(picture(), "PNG")

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + checksum

    exif = mark + on_its_side(6).tobytes().removeprefix(b"Exif\0\0")
    chunks = chunk(b"tEXt", b"Comment\0" + b"x" * 500) + chunk(b"eXIf", exif)
    assert_upright(plain[:33] + chunks + plain[33:])


def on_its_side(orientation, order="little"):
    exif = PIL.Image.Exif()
    exif.endian = "<" if order == "little" else ">"
    exif[0x010F], exif[0x0112], exif[0x8769] = "maker", orientation, {0x9000: b"0230"}
    return exif


def assert_upright(contents, tolerance=0):
    upright = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(contents)))
    decoded = images.decode(contents).numpy()
    assert decoded.shape[:2] == (upright.height, upright.width)
    assert np.abs(decoded.astype(int) - np.asarray(upright)).max() <= tolerance


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


@pytest.mark.parametrize("size", [(300, 500), (61, 40), (1000, 30), (256, 229)])
def test_crop_is_what_cutting_the_resized_image_gives(size):
    image = np.asarray(picture(*size))
    scale = 256 / 224 * 32 / min(size)
    scaled = [round(scale * side) for side in size]
    whole = tf.image.resize(image, scaled, antialias=True).numpy()
    top, left = ((side - 32) // 2 for side in scaled)
    expected = whole[top : top + 32, left : left + 32]
    np.testing.assert_allclose(images.resize(image, (32, 32)), expected, atol=0.05)


def test_a_narrow_image_is_not_made_large():
    """To the paper's 256 pixels of the shortest side, this one has 40 GB."""
    narrow = np.full([1, 60_000, 3], 7, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    np.testing.assert_allclose(images.resize(narrow), 7, rtol=1e-6)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1e6  # kB


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


def test_none_names_both_sizes_in_a_graph():
    """In training caches and in SavedModels, where no size is known beforehand."""
    spec = tf.TensorSpec([None, None, 3], tf.uint8)
    graph = tf.function(
        lambda image: images.resize(image, (8, 9), "none"), input_signature=[spec]
    )
    assert graph(np.zeros([8, 9, 3], np.uint8)).shape == (8, 9, 3)
    message = "8 x 9 pixels.*Received: 48 x 64"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        graph(np.asarray(picture()))


def test_batch_names_both_sizes():
    on_side = encode(picture(48, 64), "JPEG", exif=on_its_side(6))
    batch = tf.constant([FILES["png"], on_side, FILES["gif"][:5]])
    pixels, errors = images.decode_batch(batch, (64, 48), "none")
    assert errors[0].numpy().decode() == (
        "wrong size: expected 64 x 48 pixels (height x width), received 48 x 64; "
        "resize the image to 64 x 48 and send it again"
    )
    assert errors[1] == b"" and errors[2].numpy().startswith(b"not an image")
    np.testing.assert_array_equal(pixels[1], images.load(on_side, (64, 48), "none"))


@pytest.fixture(scope="module")
def phone():
    """A JPEG of 108 megapixels, on its side: dark at the top once it is upright."""
    image = PIL.Image.new("L", (12000, 9000), 200)
    image.paste(50, (0, 0, 6000, 9000))
    return encode(image, "JPEG", exif=on_its_side(6))


def test_a_photograph_of_108_megapixels_is_decoded_at_half_its_size(phone):
    assert images.to_decodable(phone) is phone
    decoded = images.decode(phone)
    assert decoded.shape == (6000, 4500, 3)
    pixels, errors = images.decode_batch(tf.constant([phone]), (16, 16))
    assert errors[0] == b""
    np.testing.assert_array_equal(pixels[0], images.load(phone, (16, 16)))
    rows = pixels[0].numpy().mean((1, 2)).round()
    assert set(rows[:7]) == {50.0} and set(rows[9:]) == {200.0}


@pytest.mark.parametrize(("most", "side"), [(3072, 48), (1000, 24), (192, 12)])
def test_a_large_jpeg_is_decoded_at_a_fraction(most, side):
    """Of 3,072 pixels: whole, at a half, at a quarter, never above `max_pixels`."""
    options = {"size": (side, side * 4 // 3), "mode": "none", "max_pixels": most}
    batch = [encode(picture(side, side * 4 // 3), "JPEG"), FILES["jpeg"]]
    _, errors = images.decode_batch(tf.constant(batch), **options)
    assert errors[0] == b""
    options |= {"mode": "squash"}
    pixels, errors = images.decode_batch(tf.constant(batch), **options)
    assert errors[1] == b""
    whole = picture().resize((side * 4 // 3, side), PIL.Image.BOX)
    assert np.abs(pixels[1].numpy() - np.asarray(whole)).mean() < 3


@pytest.mark.parametrize(
    ("mode", "side", "shrink"),
    [
        *(("crop", 145, 4), ("crop", 144, 2), ("crop", 73, 2), ("crop", 72, 1)),
        *(("squash", 125, 4), ("squash", 124, 2), ("squash", 63, 2), ("squash", 62, 1)),
        ("none", 145, 1),
    ],
)
def test_no_more_of_a_jpeg_is_decoded_than_is_looked_at(mode, side, shrink):
    """Twice what is resized to 16 pixels, 18 where two of them are cut off."""
    enough = images.enough_for((16, 12), mode)
    for size in ((side, 2 * side), (2 * side, side)):
        whole = picture(*size)
        decoded = images.decode(encode(whole, "JPEG"), enough)
        assert decoded.shape[:2] == tuple(-(-n // shrink) for n in size)
        assert images.decode(encode(whole, "PNG"), enough).shape[:2] == size


@pytest.mark.parametrize("mode", ["crop", "squash"])
def test_what_is_looked_at_is_the_same_as_of_the_whole(mode):
    contents, size = encode(picture(1025, 1500), "JPEG"), (112, 96)
    seen = images.load(contents, size, mode)
    assert len(images.decode(contents, images.enough_for(size, mode))) == 257
    whole = images.resize(images.decode(contents), size, mode)
    assert np.abs(seen - whole).mean() < 0.5


def interleaved_not():
    """A JPEG with a scan for every colour, which libjpeg holds as a whole."""
    contents = FILES["jpeg"]
    scan = contents.index(b"\xff\xda")
    return contents[: scan + 4] + b"\1" + contents[scan + 5 :]


@pytest.mark.parametrize(
    "contents",
    [FILES["progressive"], interleaved_not(), *(FILES[k] for k in ("png", "gif"))],
    ids=["progressive", "scan by colour", "png", "gif"],
)
def test_what_takes_its_whole_size_to_decode_is_refused(contents):
    _, errors = images.decode_batch(tf.constant([contents]), (8, 8), max_pixels=3071)
    assert errors[0].numpy().startswith(b"image too large: send one of at most 3071")
    assert b"JPEG that is not progressive of at most 49136" in errors[0].numpy()


def test_load_says_what_is_too_large(tmp_path):
    webp = PIL.Image.new("L", (16000, 4001))
    tiff = PIL.Image.new("1", (14000, 14000))
    for name, contents in [
        ("a.png", bomb("png")),
        ("a.jpg", bomb("jpeg")),
        ("a.webp", encode(webp, "WEBP", quality=0, method=0)),
        ("a.tif", encode(tiff, "TIFF", compression="group4")),
    ]:
        path = tmp_path / name
        path.write_bytes(contents)
        with pytest.raises(ValueError, match=f"at most 64000000 pixels.*{name}.*Scale"):
            images.load(path)
    with pytest.raises(tf.errors.InvalidArgumentError, match="image too large"):
        images.decode(bomb("png"))


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
    header = headers.read(tf.constant([contents, FILES[kind]]))
    assert (header.size.numpy() >= 0).all()
    assert 1 <= int(header.orientation[0]) <= 8
    assert 0 <= int(header.clear[0]) < max(1, len(contents))
    assert header.size[1].numpy().tolist() == [48, 64]


def test_a_header_too_long_to_walk_through_is_not_unpacked_unmeasured():
    """Nobody knows how large it becomes; Pillow, which does, reads it for `load`."""
    jpeg = io.BytesIO()
    PIL.Image.new("RGB", (40, 30), "red").save(jpeg, "JPEG")
    start, rest = jpeg.getvalue()[:2], jpeg.getvalue()[2:]
    contents = start + b"\xff\xfe\x00\x02" * 1100 + rest
    assert tf.io.decode_jpeg(contents).shape == (30, 40, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected a JPEG"):
        images.decode(contents)
    assert images.load(contents, (30, 40), "none").shape == (30, 40, 3)
