"""The page, used by mouse, keyboard and finger in a real headless Chromium.

Set PAGE_SCREENSHOTS to a folder to keep pictures of it.
"""

import base64
import io
import json
import os
import pathlib
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from serving_server import running, toy_models
from toy_savedmodel import Explaining, Toy, export, picture

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is missing")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium on PATH")

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BLUE = picture(size=(480, 320), colour=(20, 40, 200))
PHONE = {"width": 390, "height": 844}
expect = sync_api.expect


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(toy_models(), root, dirs_exist_ok=True)
    for n_beams in 5, 6, 40:
        export(Toy(n_beams=n_beams), root / f"{n_beams}-beams" / "1")
    export(Explaining(), root / "explaining" / "1")
    with running(root) as (url, _):
        yield url


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=ARGUMENTS
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser, url):
    """The page, freshly opened; every request and complaint is on record."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    page.complaints, page.requested = [], []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.requested.append(request.url))
    page.goto(url)
    page.get_by_role("combobox").select_option("toy")
    yield page
    assert page.complaints == []
    local = (url, "blob:", "data:")
    assert [one for one in page.requested if not one.startswith(local)] == []
    context.close()


def choose(page, contents=BLUE, name="photo.jpg", mime="image/jpeg"):
    file = {"name": name, "mimeType": mime, "buffer": contents}
    page.get_by_label("Choose a photograph").set_input_files(file)


def hand_over(page, event, contents, mime="image/jpeg"):
    """Paste or drop a file; the page gets the event a person's action would cause."""
    page.evaluate(
        """([kind, mime, b64]) => {
            const bytes = Uint8Array.from(atob(b64), (c) => c.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "photo", { type: mime }));
            const init = { bubbles: true, cancelable: true };
            const event = kind === "paste"
                ? new ClipboardEvent(kind, { ...init, clipboardData: data })
                : new DragEvent(kind, { ...init, dataTransfer: data });
            document.body.dispatchEvent(event);
        }""",
        [event, mime, base64.b64encode(contents).decode()],
    )


def sent_pixels(page, contents, name, mime):
    """Choose a file; returns the picture the page sends of it, as an array."""
    with page.expect_request("**/*:predict") as asked:
        choose(page, contents, name, mime)
    (row,) = json.loads(asked.value.post_data)["instances"]
    with Image.open(io.BytesIO(base64.b64decode(row["b64"]))) as image:
        return np.asarray(image.convert("RGB"))


def transparent(format, size=(64, 48)):
    """Nothing but a red square in the middle; all else is transparent black."""
    pixels = np.zeros((size[1], size[0], 4), np.uint8)
    (left, top), red = (size[0] // 3, size[1] // 3), (200, 30, 30, 255)
    pixels[top:-top, left:-left] = red
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, lossless=True, compress_level=0)
    return file.getvalue()


def svg(content='<circle cx="150" cy="150" r="9"/>', size='width="300" height="200"'):
    """A blue drawing."""
    start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 300 200">'
    blue = '<rect width="100%" height="100%" fill="rgb(20 40 200)"/>'
    return f"{start}{blue}{content}</svg>".encode()


def screenshot(page, name):
    folder = os.environ.get("PAGE_SCREENSHOTS")
    if folder:
        page.wait_for_timeout(300)
        page.screenshot(path=pathlib.Path(folder) / f"{name}.png", full_page=True)


def light(page, *points):
    """How much of the photograph shows through at relative positions, 0 to 255."""
    return page.evaluate(
        """(points) => {
            const { width, height } = document.getElementById("look");
            const context = document.getElementById("look").getContext("2d");
            const { data } = context.getImageData(0, 0, width, height);
            return points.map(([x, y]) => {
                const [column, row] = [Math.floor(x * width), Math.floor(y * height)];
                return 255 - data[4 * (row * width + column) + 3];
            });
        }""",
        points,
    )


def test_a_chosen_photograph_is_captioned(page):
    screenshot(page, "empty")
    choose(page)
    expect(page.get_by_role("status")).to_have_text("Caption: a shape on a blue")
    expect(page.get_by_role("img", name="Caption: a shape on a blue")).to_be_visible()
    words = page.locator("#words button")
    expect(words).to_have_text(["a", "shape", "on", "a", "blue"])
    beams = page.locator("#beams li")
    expect(beams).to_have_count(3)
    expect(beams.nth(1)).to_contain_text("a shape on a blue 1")
    boxes = [beams.nth(i).bounding_box() for i in range(2)]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]


def test_the_best_of_forty_captions_are_shown_and_the_others_on_demand(page):
    page.get_by_role("combobox").select_option("40-beams")
    choose(page)
    cards = page.locator("#beams li:visible")
    expect(cards).to_have_count(5)
    expect(cards.nth(4)).to_contain_text("a shape on a blue 4")
    more = page.get_by_role("button", name="Show all 40")
    expect(more).to_have_attribute("aria-expanded", "false")
    screenshot(page, "beams")
    page.locator("#words button").last.focus()
    page.keyboard.press("Tab")
    expect(more).to_be_focused()
    page.keyboard.press("Enter")
    expect(cards).to_have_count(40)
    expect(cards.last).to_contain_text("a shape on a blue 39")
    less = page.get_by_role("button", name="Show the best 5")
    expect(less).to_be_focused()
    expect(less).to_have_attribute("aria-expanded", "true")
    controlled = less.get_attribute("aria-controls")
    expect(page.locator(f"#{controlled} > li")).to_have_count(40)
    screenshot(page, "all_beams")
    page.keyboard.press("Space")
    expect(cards).to_have_count(5)
    more.click()
    expect(cards).to_have_count(40)
    choose(page)  # the next answer begins with the best again
    expect(page.get_by_role("status")).to_have_text("Caption: a shape on a blue")
    expect(cards).to_have_count(5)
    expect(more).to_have_attribute("aria-expanded", "false")


@pytest.mark.parametrize(
    ("model", "shown", "label"),
    [("toy", 3, None), ("5-beams", 5, None), ("6-beams", 5, "Show all 6")],
)
def test_few_captions_need_no_button(page, model, shown, label):
    page.get_by_role("combobox").select_option(model)
    choose(page)
    expect(page.locator("#beams li:visible")).to_have_count(shown)
    buttons = page.locator("#beams").get_by_role("button")
    expect(buttons).to_have_text([label] if label else [])


def test_a_model_without_examples_offers_none(page):
    expect(page.get_by_role("group", name="Example photographs")).to_be_visible()
    page.get_by_role("combobox").select_option("40-beams")
    expect(page.get_by_role("group", name="Example photographs")).to_be_hidden()


def test_moving_over_a_word_shows_where_the_model_looked(page):
    choose(page)
    look = page.locator("#look")
    words = page.locator("#words button")
    expect(words).to_have_count(5)
    expect(look).to_have_css("opacity", "0")
    words.nth(4).hover()
    expect(look).to_have_css("opacity", "1")
    # The bright square lies in row 1 of 4, in the second column of the toy's grid.
    expect(page.locator("#where")).to_contain_text(
        "looked at row 1 of 4, column 2 of 4"
    )
    screenshot(page, "desktop")
    left, width = (480 - 280) / 2 / 480, 280 / 480
    top, height = (320 - 280) / 2 / 320, 280 / 320
    chosen, unseen, outside = light(
        page,
        [left + width * 1.5 / 4, top + height * 0.5 / 4],
        [left + width * 3.5 / 4, top + height * 3.5 / 4],
        [left / 2, 0.5],
    )
    assert chosen > unseen + 100 and unseen > outside
    page.mouse.move(0, 0)
    expect(look).to_have_css("opacity", "0")


def test_the_keyboard_is_enough(page):
    choose(page)
    words = page.locator("#words button")
    expect(words).to_have_count(5)
    page.get_by_label("Choose a photograph").focus()
    for _ in range(9):
        page.keyboard.press("Tab")
        if words.first.evaluate("(e) => e === document.activeElement"):
            break
    expect(words.nth(0)).to_be_focused()
    expect(words.nth(0)).to_have_accessible_name(
        re.compile(r"^a: looked at row \d of 4, column \d of 4, with probability \d+%$")
    )
    expect(page.locator("#look")).to_have_css("opacity", "1")
    page.keyboard.press("ArrowRight")
    expect(words.nth(1)).to_be_focused()
    expect(page.locator("#where")).to_contain_text("“shape”")
    page.keyboard.press("Tab")
    expect(words.nth(2)).to_be_focused()


@pytest.mark.parametrize("event", ["paste", "drop"])
def test_a_photograph_can_be_handed_over(page, event):
    hand_over(page, event, BLUE)
    expect(page.get_by_role("status")).to_have_text("Caption: a shape on a blue")


def test_an_example_can_be_picked(page):
    page.get_by_role("button", name="Example green").click()
    expect(page.get_by_role("status")).to_have_text("Caption: a shape on a green")


def test_other_formats_are_converted_in_the_browser(page):
    choose(page, picture("WEBP", colour=(20, 40, 200)), "photo.webp", "image/webp")
    expect(page.get_by_role("status")).to_have_text("Caption: a shape on a blue")


def test_what_is_no_image_is_explained_and_the_next_one_works(page):
    choose(page, b"hello", "notes.txt", "text/plain")
    expect(page.get_by_role("alert")).to_contain_text("Try a JPEG")
    choose(page)
    expect(page.get_by_role("status")).to_have_text("Caption: a shape on a blue")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_refused_file_ends_the_question_about_the_last_one(page):
    page.route("**/*:predict", lambda route: None)  # an answer that takes its time
    choose(page)
    expect(page.locator("#status.busy")).to_have_text("Looking…")
    with page.expect_event("requestfailed"):  # and that nobody waits for any more
        choose(page, b"hello", "notes.txt", "text/plain")
    expect(page.get_by_role("alert")).to_contain_text("Try a JPEG")
    expect(page.get_by_role("status")).to_have_text("")
    expect(page.locator("#status.busy")).to_have_count(0)
    expect(page.locator("#words")).to_be_hidden()
    expect(page.locator("#picture")).to_be_hidden()


def test_the_photograph_that_was_handed_over_last_counts(page):
    late = []
    page.route("**/page/examples/*/green.jpg", lambda route: late.append(route))
    page.get_by_role("button", name="Example green").click()
    expect(page.locator("#status.busy")).to_have_text("Looking…")
    choose(page)
    expect(page.get_by_role("status")).to_have_text("Caption: a shape on a blue")
    with page.expect_event("requestfinished"):
        late[0].continue_()
    page.wait_for_timeout(500)
    expect(page.get_by_role("status")).to_have_text("Caption: a shape on a blue")
    hand_over(page, "drop", b"hello")
    hand_over(page, "drop", picture(colour=(30, 160, 60)))
    expect(page.get_by_role("status")).to_have_text("Caption: a shape on a green")
    expect(page.locator("#photo")).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize(
    ("format", "size"), [("WEBP", (64, 48)), ("AVIF", (64, 48)), ("PNG", (1500, 1400))]
)
def test_what_is_transparent_is_sent_on_white(page, format, size):
    contents = transparent(format, size)
    pixels = sent_pixels(page, contents, f"photo.{format.lower()}", f"image/{format}")
    assert pixels.shape == (size[1], size[0], 3)
    assert pixels[2, 2].min() > 250
    assert np.abs(pixels[size[1] // 2, size[0] // 2] - [200.0, 30, 30]).max() < 12


@pytest.mark.parametrize("size", ['width="300" height="200"', ""])
def test_a_drawing_is_captioned(page, size):
    choose(page, svg(size=size), "drawing.svg", "image/svg+xml")
    expect(page.get_by_role("status")).to_have_text("Caption: a shape on a blue")


def test_a_drawing_that_cannot_be_sent_is_explained(page):
    html = '<p xmlns="http://www.w3.org/1999/xhtml"/>'
    contents = f'<foreignObject width="9" height="9">{html}</foreignObject>'
    choose(page, svg(contents), "drawing.svg", "image/svg+xml")
    expect(page.get_by_role("alert")).to_have_text(
        "This browser cannot turn the image into a JPEG. Save it as a JPEG or a PNG, "
        "then choose that file."
    )


def test_a_file_that_has_changed_is_explained_and_the_next_one_works(page, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(BLUE)
    page.get_by_label("Choose a photograph").set_input_files(path)
    expect(page.get_by_role("status")).to_have_text("Caption: a shape on a blue")
    path.unlink()
    page.get_by_role("combobox").select_option("5-beams")
    expect(page.get_by_role("alert")).to_have_text(
        "The file can no longer be read. Choose it again."
    )
    expect(page.get_by_role("status")).to_have_text("")
    choose(page)
    expect(page.get_by_role("status")).to_have_text("Caption: a shape on a blue")


def test_what_is_dropped_without_a_file_is_explained(page):
    choose(page)
    expect(page.locator("#words")).to_be_visible()
    page.evaluate(
        """() => {
            const dataTransfer = new DataTransfer();
            dataTransfer.setData("text/uri-list", "https://example.org/photo.jpg");
            const init = { bubbles: true, cancelable: true, dataTransfer };
            document.body.dispatchEvent(new DragEvent("drop", init));
        }"""
    )
    expect(page.get_by_role("alert")).to_have_text(
        "What was dropped is not a file. Save the image, then choose or drop that."
    )
    expect(page.locator("#words")).to_be_visible()  # of the photograph still on show
    hand_over(page, "drop", BLUE)
    expect(page.get_by_role("alert")).to_be_hidden()


def without_complaints(page, wanted):
    """Drop Chromium's own notes on requests that failed as they should."""
    assert all(wanted in one for one in page.complaints)
    page.complaints.clear()


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (502, "Wait a moment, then reload this page and try once more."),
        (413, "Choose a smaller photograph."),
    ],
)
def test_the_page_of_a_proxy_is_explained(page, status, advice):
    page.route(
        "**/*:predict",
        lambda route: route.fulfill(
            status=status, content_type="text/html", body="<html>nginx</html>"
        ),
    )
    choose(page)
    expect(page.get_by_role("alert")).to_have_text(
        f"Expected the server's answer; another came, with status {status}. {advice}"
    )
    without_complaints(page, f"status of {status}")


def test_a_server_that_is_gone_is_explained(explaining):
    page = explaining
    gone = "The server does not answer. Start it again, then try once more."
    page.route("**/*", lambda route: route.abort())
    say(page, "a shape")
    expect(page.locator("#own-error")).to_have_text(gone)
    choose(page)
    expect(page.locator("#error")).to_have_text(gone)
    page.get_by_role("combobox").select_option("toy")
    page.get_by_role("button", name="Example green").click()
    expect(page.get_by_role("alert")).to_have_text(
        "The server sent no example. See that it runs, then reload this page."
    )
    without_complaints(page, "net::ERR_FAILED")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            {"json": {}},
            "The server has no model yet. Give it one, then reload this page.",
        ),
        (
            {"status": 502, "json": {"message": "Bad Gateway"}},
            "The server does not answer. Start it again and reload this page.",
        ),
    ],
)
def test_a_page_without_models_says_so_before_and_after_a_photograph(
    page, answer, told
):
    page.route("**/page/models.json", lambda route: route.fulfill(**answer))
    page.reload()
    expect(page.get_by_role("alert")).to_have_text(told)
    choose(page)
    expect(page.locator("#photo")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_text(told)
    without_complaints(page, "status of 502")


def test_a_browser_without_javascript_is_told_so(browser, url):
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(url)
        expect(page.locator("noscript p")).to_be_visible()
        expect(page.get_by_text("Choose a photograph")).to_be_hidden()
        expect(page.get_by_role("status")).to_be_hidden()


def test_a_phone_shows_everything_without_scrolling_sideways(page):
    page.set_viewport_size(PHONE)
    screenshot(page, "phone_empty")
    choose(page)
    words = page.locator("#words button")
    expect(words).to_have_count(5)
    words.nth(4).click()
    expect(page.locator("#look")).to_have_css("opacity", "1")
    screenshot(page, "phone")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"]
    for box in (words.nth(i).bounding_box() for i in range(5)):
        assert box["height"] >= 24 and box["width"] >= 24  # WCAG 2.2, target size
    page.get_by_role("combobox").select_option("40-beams")
    more = page.get_by_role("button", name="Show all 40")
    assert more.bounding_box()["height"] >= 24
    more.click()
    expect(page.locator("#beams li:visible")).to_have_count(40)
    screenshot(page, "phone_beams")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


# ------------------------------------------------------------ a sentence of one's own


@pytest.fixture
def explaining(page):
    """The page with a photograph, and a model that explains."""
    page.get_by_role("combobox").select_option("explaining")
    choose(page)
    expect(page.get_by_role("status")).to_have_text("Caption: a shape on a blue")
    return page


def say(page, sentence):
    page.get_by_label("Say it yourself").fill(sentence)
    page.get_by_role("button", name="Find it").click()


def own_words(page):
    return page.get_by_role("group", name="Your sentence, word by word").locator(
        "button"
    )


def test_a_sentence_of_ones_own_shows_where_its_words_are(explaining):
    say(explaining, "A red shape on zebra blue")
    words = own_words(explaining)
    expect(words).to_have_text(["a", "red", "shape", "on", "zebra", "blue"])
    expect(explaining.locator("#found")).to_have_text(
        "Not in the picture: “red”. Unknown to the model: “zebra”. "
        "Move over a word, or tab to it, to see where the model finds it."
    )
    words.nth(2).hover()
    expect(explaining.locator("#look")).to_have_css("opacity", "1")
    expect(explaining.locator("#found")).to_contain_text(
        "“shape”: found at row 1 of 4, column 2 of 4, with probability"
    )
    screenshot(explaining, "own")
    left, width = (480 - 280) / 2 / 480, 280 / 480
    top, height = (320 - 280) / 2 / 320, 280 / 320
    there, elsewhere = light(
        explaining,
        [left + width * 1.5 / 4, top + height * 0.5 / 4],
        [left + width * 3.5 / 4, top + height * 3.5 / 4],
    )
    assert there > elsewhere + 100
    words.nth(1).hover()
    expect(explaining.locator("#found")).to_contain_text("“red”: not in the picture")
    expect(words.nth(1)).to_have_css("text-decoration-line", "line-through")
    words.nth(4).hover()  # of which it knows nothing, and so shows nothing
    expect(explaining.locator("#found")).to_contain_text(
        "“zebra”: a word that the model does not know"
    )
    expect(explaining.locator("#look")).to_have_css("opacity", "0")
    caption = explaining.locator("#words button")  # and the model's own is still there
    caption.nth(4).hover()
    expect(explaining.locator("#where")).to_contain_text("“blue”: looked at row 1")


def test_a_sentence_is_asked_by_keyboard_and_read_out(explaining):
    sentence = explaining.get_by_label("Say it yourself")
    explaining.locator("#words button").last.focus()
    explaining.keyboard.press("Tab")
    expect(sentence).to_be_focused()
    explaining.keyboard.type("red shape")
    explaining.keyboard.press("Enter")
    expect(explaining.get_by_role("status")).to_contain_text(
        "Not in the picture: “red”"
    )
    words = own_words(explaining)
    expect(sentence).to_be_focused()
    explaining.keyboard.press("Tab")
    expect(explaining.get_by_role("button", name="Find it")).to_be_focused()
    explaining.keyboard.press("Tab")
    expect(words.nth(0)).to_be_focused()
    expect(words.nth(0)).to_have_accessible_name(
        "red: not in the picture; most like it is row 1 of 4, column 2 of 4"
    )
    explaining.keyboard.press("ArrowRight")
    expect(words.nth(1)).to_be_focused()
    expect(words.nth(1)).to_have_accessible_name(
        re.compile(
            r"^shape: found at row 1 of 4, column 2 of 4, with probability \d+%$"
        )
    )
    expect(explaining.locator("#look")).to_have_css("opacity", "1")


def test_only_models_that_explain_are_given_a_sentence(page):
    own = page.get_by_label("Say it yourself")
    expect(own).to_be_hidden()  # no photograph yet
    choose(page)
    expect(page.locator("#words button")).to_have_count(5)
    expect(own).to_be_hidden()
    page.get_by_role("combobox").select_option("explaining")
    expect(own).to_be_visible()
    say(page, "a shape")
    expect(own_words(page)).to_have_count(2)
    choose(page)  # another photograph: what was said of the last one is gone
    expect(page.locator("#words button")).to_have_count(5)
    expect(own).to_have_value("a shape")
    expect(own_words(page)).to_have_count(0)
    page.get_by_role("combobox").select_option("toy")
    expect(own).to_be_hidden()


def test_a_sentence_without_words_is_explained_and_the_next_one_works(explaining):
    explaining.get_by_role("button", name="Find it").click()
    expect(explaining.locator("#sentence:invalid")).to_be_focused()
    complaints = len(explaining.complaints)
    say(explaining, "  ")
    expect(explaining.get_by_role("alert")).to_have_text("Say more.")
    del explaining.complaints[complaints:]  # Chromium's own note on a status of 400
    say(explaining, "a shape")
    expect(own_words(explaining)).to_have_count(2)
    expect(explaining.get_by_role("alert")).to_be_hidden()


def test_a_sentence_fits_a_phone(explaining):
    explaining.set_viewport_size(PHONE)
    say(explaining, "a shape on red and a zebra beside the blue and blue")
    words = own_words(explaining)
    expect(words).to_have_count(12)
    words.nth(1).click()
    expect(explaining.locator("#look")).to_have_css("opacity", "1")
    screenshot(explaining, "phone_own")
    assert explaining.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for i in range(12):
        box = words.nth(i).bounding_box()
        assert box["height"] >= 24 and box["width"] >= 24
    box = explaining.get_by_role("button", name="Find it").bounding_box()
    assert box["height"] >= 24
