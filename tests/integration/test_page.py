"""The page in a real browser, as a person uses it: from a picture and a voice to a playing video."""

from __future__ import annotations

import io
import json
import re
import shutil
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from PIL import Image
from support.driving import SECONDS, actor, write_known_video
from support.running_server import get_json, running_server

import vortex.server
from vortex.media.audio import load_audio
from vortex.media.reading import iter_timed_frames
from vortex.motion.presets import PRESETS

PAGE = Path(vortex.server.__file__).parent / "page"

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KEY = "a-key-of-more-than-sixteen-characters"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (scripts/setup dev)")
pytest.importorskip("playwright", reason="the extra 'dev' is not installed")


@pytest.fixture(scope="module")
def microphone(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sound that the browser plays as its microphone, in a loop."""
    path = tmp_path_factory.mktemp("microphone") / "voice.wav"
    write_sound(path, load_audio(speech, 48_000).samples)
    return path


def write_sound(path: Path, samples: np.ndarray) -> None:
    """Write samples of 48 kHz as WAV."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", "not compressed"))
        file.writeframes((samples * 32767).astype("<i2").tobytes())


@pytest.fixture(scope="module")
def browser(microphone: Path) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("server"), "ui", "--no-browser") as address:
        yield address


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """Open the page in a new tab; it may report no error, and send no request to another server."""
    context = browser.new_context(permissions=["microphone"], viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.set_default_timeout(90_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.on("request", lambda asked: None if is_own(asked.url) else complaints.append(asked.url))
    page.goto(address)
    yield page
    context.close()
    # The browser itself reports answers with 4xx.
    assert [text for text in complaints if "status of 4" not in text] == []


def is_own(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:"))


def until(page: Page, expression: str) -> None:
    """Wait until an expression is true; the page's security policy forbids Playwright's own way to wait."""
    deadline_s = time.monotonic() + 90
    while not page.evaluate(expression):
        assert time.monotonic() < deadline_s, expression
        page.wait_for_timeout(50)


def text_of(selector: str) -> str:
    return f"document.querySelector('{selector}').textContent"


def pixels_of(page: Page, selector: str, channels: int = 3) -> np.ndarray:
    """Return what a canvas shows, (H, W, channels): red, green, blue and opacity."""
    script = """selector => { const v = document.querySelector(selector);
        const data = v.getContext('2d').getImageData(0, 0, v.width, v.height).data;
        return [v.height, v.width, [...data]]; }"""
    height, width, data = page.evaluate(script, selector)
    return np.array(data).reshape(height, width, 4)[..., :channels]


def choose(page: Page, portrait: Path) -> None:
    page.set_input_files("#portrait-file", portrait)
    page.wait_for_selector("#portrait-status.good")


def make_small(page: Page) -> None:
    page.locator("#more summary").click()
    page.select_option("#size", "256")


def finished(page: Page) -> dict[str, Any]:
    """Wait until the video plays; return what the player reports."""
    page.wait_for_selector("#done", state="visible")
    until(page, "document.querySelector('#player').currentTime > 0.3")
    return page.evaluate(  # type: ignore[no-any-return]
        """() => { const v = document.querySelector('#player');
        return {width: v.videoWidth, duration: v.duration, error: v.error && v.error.message}; }"""
    )


def test_from_files_to_a_playing_video_with_its_sync(page: Page, portrait: Path, speech: Path) -> None:
    assert page.is_disabled("#make")
    choose(page, portrait)
    # The box around the face, in the upper half of the picture, has a colour of its own.
    drawn = np.abs(pixels_of(page, "#portrait-view") - [255, 184, 107]).max(axis=2) < 3
    size = drawn.shape
    rows, columns = np.nonzero(drawn)
    assert 0.2 < rows.min() / size[0] < rows.max() / size[0] < 0.7
    assert 0.2 < columns.min() / size[1] < columns.max() / size[1] < 0.8
    page.set_input_files("#speech-file", speech)
    make_small(page)
    page.get_by_text("Excited").click()
    page.fill("#seed", "7")
    page.uncheck("#mark")
    assert page.is_hidden("#quality"), "the mesh engine has one quality"
    page.click("#make")
    video = finished(page)
    assert video == {"width": 256, "duration": pytest.approx(75 / 24, abs=0.05), "error": None}
    assert "Seed 7" in page.inner_text("#facts")
    newest = get_json(f"{page.url}v1/videos?limit=1")["videos"][0]["options"]
    assert (newest["mark"], newest["quality"]) == (False, "full")
    page.wait_for_selector("#sync td.good")
    assert "in sync" in page.inner_text("#sync")
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "demo-speech.mp4"
    assert b"ftyp" in Path(download.value.path()).read_bytes()[:16]
    page.click("#again")
    page.wait_for_selector("#result", state="hidden")


def test_an_upright_video_with_a_colour_behind_the_person_as_webm(
    page: Page, portrait: Path, speech: Path
) -> None:
    choose(page, portrait)
    page.set_input_files("#speech-file", speech)
    make_small(page)
    page.uncheck("#check")
    page.click("#frame summary")
    page.fill("#option-aspect", "9:16")
    page.fill("#option-background", "#00ff00")
    page.select_option("#option-format", "webm")
    page.click("#make")
    assert finished(page)["width"] == 256
    corner = page.evaluate(
        """() => { const v = document.querySelector('#player');
        const c = new OffscreenCanvas(v.videoWidth, v.videoHeight);
        const pen = c.getContext('2d'); pen.drawImage(v, 0, 0);
        return [c.height, ...pen.getImageData(4, 4, 1, 1).data]; }"""
    )
    height, red, green, blue, _ = corner
    assert abs(height - 256 * 16 / 9) <= 2
    assert red < 40 and green > 215 and blue < 40
    with page.expect_download() as download:
        page.click("#download")
    # EBML, the container of WebM.
    assert Path(download.value.path()).read_bytes()[:4] == bytes.fromhex("1a45dfa3")


def test_a_moving_picture_without_sound_is_shown(page: Page, portrait: Path, speech: Path) -> None:
    choose(page, portrait)
    page.set_input_files("#speech-file", speech)
    make_small(page)
    page.click("#frame summary")
    page.select_option("#option-format", "webp")
    page.click("#make")
    page.wait_for_selector("#moving-picture", state="visible")
    until(page, "document.querySelector('#moving-picture').naturalWidth === 256")
    assert page.is_hidden("#player")


def test_a_clip_keeps_its_own_frame(page: Page, portrait: Path, tmp_path: Path) -> None:
    write_known_video(tmp_path / "clip.mp4")
    page.click("#frame summary")
    page.fill("#option-aspect", "9:16")
    page.set_input_files("#portrait-file", tmp_path / "clip.mp4")
    page.wait_for_selector("#portrait-status.good")
    framing = ("aspect", "zoom", "position", "background", "background_picture")
    assert all(page.is_disabled(f"#option-{name}") for name in framing)
    assert page.is_enabled("#option-format")
    choose(page, portrait)
    assert all(page.is_enabled(f"#option-{name}") for name in framing)


def test_with_the_keyboard_alone(page: Page, microphone: Path, tmp_path: Path) -> None:
    def press_until(selector: str, key: str = "Tab") -> None:
        for _ in range(40):
            page.keyboard.press(key)
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} cannot be reached")

    press_until("#portrait-example")
    page.keyboard.press("Enter")
    page.wait_for_selector("#portrait-status.good")
    press_until("#speech-example")
    page.keyboard.press("Enter")
    page.wait_for_selector("#speech-status.good")
    # Long enough to be cancelled.
    with wave.open(str(microphone)) as short, wave.open(str(tmp_path / "long.wav"), "wb") as long:
        long.setparams(short.getparams())
        long.writeframes(short.readframes(10**9) * 30)
    page.set_input_files("#speech-file", tmp_path / "long.wav")
    press_until("[name=preset]")
    page.keyboard.press("ArrowRight")
    assert page.is_checked("[value=excited]")
    press_until("#make")
    page.keyboard.press("Enter")
    press_until("#cancel")
    page.keyboard.press("Enter")
    until(page, text_of("#failure") + ".startsWith('Cancelled')")


def test_a_recording_and_a_live_face(page: Page, portrait: Path) -> None:
    choose(page, portrait)
    make_small(page)
    page.check("[value=record]", force=True)
    page.click("#record")
    until(page, text_of("#record-label") + ".startsWith('In 3')")
    until(page, "document.querySelector('#record-level').value > 0.05")
    until(page, text_of("#record-label") + ".startsWith('Stop')")
    page.wait_for_timeout(1500)
    page.click("#record")
    page.wait_for_selector("#speech-player", state="visible")
    page.uncheck("#check")
    page.click("#make")
    assert finished(page)["duration"] > 1
    page.click("#live")
    until(page, "/Live: \\d{2,} frames/.test(" + text_of("#live-status") + ")")
    first = pixels_of(page, "#live-view")
    assert first.shape == (256, 256, 3)
    page.wait_for_timeout(500)
    assert np.abs(first - pixels_of(page, "#live-view")).max() > 10, "the face does not move"
    page.click("#live-record")
    page.wait_for_timeout(1500)
    page.click("#live-record")
    with page.expect_download() as download:
        page.click("#live-download")
    recorded = Path(download.value.path())
    assert 0.5 < load_audio(recorded, 24_000).duration_s < 4
    assert np.abs(load_audio(recorded, 24_000).samples).max() > 0.05, "the voice is heard"
    frames = [frame for _, frame in iter_timed_frames(recorded)]
    assert len(frames) > 10 and frames[-1].shape == (256, 256, 3)
    page.click("#live-stop")
    until(page, text_of("#live-status") + ".startsWith('Stopped')")


def test_a_video_drives_the_picture(page: Page, portrait: Path, tmp_path: Path) -> None:
    write_known_video(tmp_path / "actor.mp4")
    choose(page, portrait)
    make_small(page)
    page.check("[value=driving]", force=True)
    assert page.inner_text("#make-status") == "Choose a video or a picture first."
    assert page.is_disabled("#fps") and page.is_disabled("[name=preset][value=calm]")
    page.set_input_files("#driving-file", tmp_path / "actor.mp4")
    page.click("#make")
    assert finished(page) == {"width": 256, "duration": pytest.approx(SECONDS, abs=0.05), "error": None}
    assert "seed" not in page.inner_text("#facts")
    until(page, text_of("#earlier") + ".includes('from a video')")
    page.check("[value=file]", force=True)
    assert page.is_enabled("#fps")


def test_a_picture_drives_only_the_lips(page: Page, portrait: Path, tmp_path: Path) -> None:
    Image.fromarray(actor()).save(tmp_path / "actor.png")
    choose(page, portrait)
    make_small(page)
    page.check("[value=driving]", force=True)
    page.set_input_files("#driving-file", tmp_path / "actor.png")
    assert page.inner_text("#speech-status") == "actor.png"
    assert page.is_hidden("#speech-player")
    page.select_option("#region", "lips")
    page.fill("#multiplier", "0.5")
    page.uncheck("#check")
    page.click("#make")
    assert finished(page)["duration"] == pytest.approx(3, abs=0.05)
    made = page.evaluate("fetch('/v1/videos?limit=1').then((answer) => answer.json())")["videos"][0]
    chosen = {name: made["options"][name] for name in ("region", "motion", "multiplier")}
    assert chosen == {"region": "lips", "motion": "relative", "multiplier": 0.5}


def test_a_typed_text_is_spoken(page: Page, portrait: Path) -> None:
    choose(page, portrait)
    make_small(page)
    page.check("[value=text]", force=True)
    assert page.is_disabled("#make")
    page.fill("#text", "Hello there.")
    page.select_option("#voice", "am_michael")
    page.click("#make")
    assert 0.8 < finished(page)["duration"] < 3
    page.wait_for_selector("#sync td.good")


def test_files_that_cannot_be_used_are_reported(page: Page, portrait: Path, tmp_path: Path) -> None:
    Image.new("RGB", (300, 300), "teal").save(tmp_path / "teal.png")
    page.set_input_files("#portrait-file", tmp_path / "teal.png")
    page.wait_for_selector("#portrait-status.bad")
    assert "No face" in page.inner_text("#portrait-status")
    choose(page, portrait)
    (tmp_path / "no.wav").write_bytes(b"no sound at all")
    page.set_input_files("#speech-file", tmp_path / "no.wav")
    page.wait_for_selector("#speech-status.bad")
    assert "not a WAV" in page.inner_text("#speech-status")
    write_sound(tmp_path / "silent.wav", np.zeros(48_000))
    page.set_input_files("#speech-file", tmp_path / "silent.wav")
    until(page, text_of("#speech-status") + ".includes('silent')")
    assert page.is_disabled("#make")


def options_of_newest(page: Page) -> dict[str, Any]:
    script = "fetch('/v1/videos?limit=1').then((answer) => answer.json())"
    return page.evaluate(script)["videos"][0]["options"]  # type: ignore[no-any-return]


def test_a_preview_is_short_and_small_and_leaves_nothing(
    page: Page, portrait: Path, microphone: Path
) -> None:
    choose(page, portrait)
    page.set_input_files("#speech-file", microphone)
    page.wait_for_selector("#speech-status.good")
    before = len(get_json(f"{page.url}v1/videos?limit=100")["videos"])
    page.click("#preview")
    assert finished(page) == {"width": 192, "duration": pytest.approx(3, abs=0.05), "error": None}
    assert "Preview" in page.inner_text("#result-title")
    until(page, "document.querySelector('#make').disabled === false")
    assert len(get_json(f"{page.url}v1/videos?limit=100")["videos"]) == before


def test_a_part_of_a_sound_is_used(page: Page, portrait: Path, speech: Path) -> None:
    choose(page, portrait)
    make_small(page)
    page.set_input_files("#speech-file", speech)
    page.wait_for_selector("#speech-status.good")
    # The waveform is drawn: some columns are tall, some flat.
    tall = (pixels_of(page, "#wave", 4)[..., 3] > 0).sum(axis=0)
    assert tall.max() > 60 and tall.min() < 5
    page.focus("#trim-start")
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    until(page, text_of("#speech-status") + ".includes('2.1 s')")
    assert page.get_attribute("#trim-start", "aria-valuetext") == "1.00 s"
    page.uncheck("#check")
    page.click("#make")
    assert finished(page)["duration"] == pytest.approx(2.1, abs=0.06)


def test_a_number_outside_its_range_is_named(page: Page) -> None:
    page.click("#portrait-example")
    page.wait_for_selector("#portrait-status.good")
    page.click("#speech-example")
    page.wait_for_selector("#speech-status.good")
    make_small(page)
    page.fill("#seed", "2147483648")
    page.locator("#more summary").click()
    page.click("#make")
    assert page.inner_text("#make-status") == "Seed: give a whole number from 0 to 2147483647."
    assert page.evaluate("document.activeElement.id") == "seed"
    assert page.is_hidden("#result")


def test_one_of_several_faces_is_chosen_by_a_click_and_by_the_list(
    page: Page, portrait: Path, tmp_path: Path
) -> None:
    with Image.open(portrait) as one:
        small = one.convert("RGB").resize((one.width // 2, one.height // 2))
        two = Image.new("RGB", (one.width + small.width, one.height), "gray")
        two.paste(one, (0, 0))
        two.paste(small, (one.width, one.height // 4))
    two.save(tmp_path / "two.png")
    choose(page, tmp_path / "two.png")
    page.wait_for_selector("#face", state="visible")
    assert page.input_value("#face") == "1", "the larger one"
    box = page.locator("#portrait-view").bounding_box()
    assert box
    place = {"x": box["width"] * (one.width + small.width / 2) / two.width, "y": box["height"] * 0.47}
    with page.expect_response("**/v1/portraits") as answered:
        page.click("#portrait-view", position=place)
    x0, _, x1, _ = answered.value.json()["face_box_px"]
    assert one.width < x0 < x1 < two.width
    assert page.input_value("#face") == "2"
    with page.expect_response("**/v1/portraits") as answered:
        page.select_option("#face", "1")
    assert answered.value.json()["face_box_px"][2] < one.width


def test_a_picture_is_pasted_and_a_photo_is_taken(page: Page) -> None:
    script = """async () => {
        const blob = await (await fetch('/page/example.jpg')).blob();
        const data = new DataTransfer();
        data.items.add(new File([blob], 'pasted.jpg', {type: 'image/jpeg'}));
        window.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, cancelable: true})); }"""
    page.evaluate(script)
    page.wait_for_selector("#portrait-status.good")
    page.click("#camera")
    until(page, "document.querySelector('#camera-view').videoWidth > 0")
    page.click("#camera-take")
    # Chromium's own camera shows a test picture.
    until(page, text_of("#portrait-status") + ".includes('No face')")
    assert page.is_hidden("#camera-box")
    page.check("#force-face")
    until(page, text_of("#portrait-status") + ".includes('No face')")


def test_settings_picture_and_video_survive_a_reload_and_the_video_another_device(
    page: Page, browser: Browser, address: str, portrait: Path, tmp_path: Path, microphone: Path
) -> None:
    choose(page, portrait)
    make_small(page)
    page.get_by_text("Calm").click()
    page.select_option("#language", "de")
    with wave.open(str(microphone)) as short, wave.open(str(tmp_path / "long.wav"), "wb") as long:
        long.setparams(short.getparams())
        long.writeframes(short.readframes(10**9) * 12)
    page.set_input_files("#speech-file", tmp_path / "long.wav")
    page.wait_for_selector("#speech-status.good")
    page.uncheck("#check")
    page.click("#make")
    until(page, text_of("#progress-text") + ".includes('Bild')")
    page.reload()
    page.wait_for_selector("#result", state="visible")
    other = browser.new_context(locale="fr-FR").new_page()
    other.goto(address)
    other.wait_for_selector("#result", state="visible")
    assert other.inner_text("#earlier-title") == "Précédentes"
    other.context.close()
    page.wait_for_selector("#portrait-status.good")
    assert page.is_checked("[value=calm]")
    assert page.input_value("#size") == "256" and page.input_value("#language") == "de"
    page.wait_for_selector("#done", state="visible")
    until(page, "document.querySelector('#player').duration > 30")


def test_an_earlier_video_is_repeated_and_deleted_and_that_undone(page: Page, portrait: Path) -> None:
    choose(page, portrait)
    make_small(page)
    page.check("[value=text]", force=True)
    page.fill("#text", "Good morning, dear friends. How are you?")
    page.fill("#seed", "11")
    page.fill("#name", "A greeting")
    page.get_by_text("Sad").click()
    page.uncheck("#check")
    page.click("#make")
    finished(page)
    page.wait_for_selector("text=A greeting")
    # The first frame, loaded with the page's own requests.
    until(page, "document.querySelector('#earlier img').naturalWidth === 160")
    page.fill("#text", "")
    page.get_by_text("Happy").click()
    page.get_by_role("button", name="Repeat: A greeting").click()
    until(page, "document.querySelector('#text').value.startsWith('Good morning')")
    assert page.is_checked("[value=sad]") and page.input_value("#seed") == "11"
    delete = page.get_by_role("button", name="Delete: A greeting")
    delete.click()
    until(page, "!" + text_of("#earlier") + ".includes('A greeting')")
    page.click("#undo")
    until(page, text_of("#earlier") + ".includes('A greeting')")
    assert options_of_newest(page)["name"] == "A greeting"
    delete.click()
    page.reload()
    page.wait_for_selector("#portrait-status.good")
    page.wait_for_timeout(300)
    assert options_of_newest(page)["name"] != "A greeting"


def test_a_failed_video_says_why_and_can_be_removed(page: Page, portrait: Path, tmp_path: Path) -> None:
    # Nobody is in this video, which is found out only when it is made.
    write_still(tmp_path / "nobody.mp4")
    choose(page, portrait)
    page.check("[value=driving]", force=True)
    page.set_input_files("#driving-file", tmp_path / "nobody.mp4")
    page.click("#make")
    until(page, text_of("#failure") + ".includes('face')")
    page.get_by_role("button", name="Delete: nobody").click()
    until(page, "!" + text_of("#earlier") + ".includes('nobody')")


def write_still(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 24)
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for _ in range(24):
            frame = av.VideoFrame.from_ndarray(np.full((128, 128, 3), 90, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_a_preset_shows_how_it_looks(page: Page) -> None:
    """Each one has a picture of its own, which moves when it is pointed at, and rests for who wants that."""
    script = """() => [...document.querySelectorAll('#presets i')].map((face) =>
        getComputedStyle(face).backgroundPositionY)"""
    page.wait_for_selector("#presets i")
    assert len(set(page.evaluate(script))) == 8
    sheet = np.asarray(Image.open(io.BytesIO(page.request.get(f"{page.url}page/presets.webp").body())), float)
    assert sheet.shape == (8 * 96, 24 * 96, 3)
    rows = sheet.reshape(8, 96, 24, 96, 3).transpose(0, 2, 1, 3, 4)
    for row in rows:
        assert np.abs(row[0, 48:] - row[12, 48:]).max() > 50, "the mouth moves"
    until(
        page,
        "getComputedStyle(document.querySelector('#presets :checked + span i')).animationName === 'speak'",
    )
    page.emulate_media(reduced_motion="reduce")
    animation = "getComputedStyle(document.querySelector('#presets :checked + span i')).animationName"
    assert page.evaluate(animation) == "none"


LANGUAGES = sorted((PAGE / "languages").glob("*.json"))


def test_every_language_has_the_same_texts_and_placeholders() -> None:
    texts = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in LANGUAGES}
    assert sorted(texts) == ["de", "en", "es", "fr", "zh"]
    for language, own in texts.items():
        assert own.keys() == texts["en"].keys(), language
        for key, text in own.items():
            holes = sorted(re.findall(r"\{\w+\}", texts["en"][key]))
            assert text.strip() and sorted(re.findall(r"\{\w+\}", text)) == holes, (language, key)


def test_every_text_that_the_page_names_exists() -> None:
    known = json.loads((PAGE / "languages/en.json").read_text())
    source = "".join(path.read_text() for path in (*PAGE.glob("*.js"), PAGE / "index.html"))
    named = re.findall(r'\bt\("(\w+)"|data-t(?:-\w+)?="(\w+)"', source)
    assert len(named) > 100
    assert {first or second for first, second in named} <= known.keys()
    for preset in PRESETS:
        assert {f"preset_{preset}", f"preset_{preset}_hint"} <= known.keys()


@pytest.mark.parametrize("language", ["en", "de", "es", "fr", "zh"])
def test_the_page_speaks_the_language_of_the_browser_on_a_narrow_screen(
    browser: Browser, address: str, language: str
) -> None:
    context = browser.new_context(viewport={"width": 320, "height": 700}, locale=language)
    page = context.new_page()
    page.goto(address)
    texts = json.loads((PAGE / f"languages/{language}.json").read_text(encoding="utf-8"))
    until(page, "document.querySelectorAll('#presets i').length === 8")
    assert page.evaluate("document.documentElement.lang") == language
    assert page.inner_text("#make") == texts["make"]
    assert page.title() == texts["title"]
    page.click("#more summary")
    page.click("#frame summary")
    # WCAG 2.2, 1.4.10: 320 pixels without scrolling sideways.
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, address: str, scheme: Any, portrait: Path, speech: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(address)
    choose(page, portrait)
    page.set_input_files("#speech-file", speech)
    page.wait_for_selector("#speech-status.good")
    make_small(page)
    page.uncheck("#check")
    page.click("#frame summary")

    def complaints() -> list[str]:
        found = Axe().run(page).response["violations"]
        return [f"{item['id']}: {item['nodes'][0]['html'][:200]}" for item in found]

    assert complaints() == []
    page.click("#make")
    finished(page)
    for source in ("record", "text", "driving"):
        page.check(f"[value={source}]", force=True)
        assert complaints() == [], source
    page.click("#phone")
    until(page, text_of("#phone-status") + ".length > 10")
    assert complaints() == []
    page.goto(f"{address}/docs")
    assert complaints() == []
    context.close()


def test_a_phone_opens_the_page_with_the_key_of_its_code(browser: Browser, tmp_path: Path) -> None:
    page = browser.new_page()
    with running_server(tmp_path / "server", "ui", "--no-browser", VORTEX_API_KEY=KEY) as address:
        page.goto(f"{address}/#key={KEY}")
        until(page, "document.querySelectorAll('#presets i').length === 8")
        assert page.is_hidden("#key-form") and page.is_visible("#studio")
        assert KEY not in page.url
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_cut_off_and_every_text_is_readable(
    browser: Browser, address: str, scheme: Any, portrait: Path
) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    choose(page, portrait)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    # WCAG 2.2, 1.4.3: contrast of text and background of at least 4.5 to 1.
    colours = page.evaluate(
        """() => ['p', 'h2', '#make', '#portrait-status', 'summary', '.choices span'].map((s) => {
        const e = document.querySelector(s); let g = e;
        while (getComputedStyle(g).backgroundColor === 'rgba(0, 0, 0, 0)') g = g.parentElement;
        return [getComputedStyle(e).color, getComputedStyle(g).backgroundColor]; })"""
    )
    for pair in colours:
        light, dark = sorted(map(luminance, pair), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, pair
    # WCAG 2.2, 2.5.8 asks for 24 pixels; the page gives more.
    for button in page.query_selector_all("button:visible, .tabs label:visible"):
        box = button.bounding_box()
        assert box and box["height"] >= 32, button.inner_text()
    context.close()


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.2 of a colour such as rgb(1, 2, 3)."""
    values = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_a_server_with_keys_asks_for_one(browser: Browser, tmp_path: Path) -> None:
    page = browser.new_page()
    with running_server(tmp_path / "server", "ui", "--no-browser", VORTEX_API_KEY=KEY) as address:
        page.goto(address)
        page.wait_for_selector("#key-form", state="visible")
        assert page.is_hidden("#studio")
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        until(page, text_of("#key-status") + ".includes('wrong')")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#studio", state="visible")
        page.click("#portrait-example")
        page.wait_for_selector("#portrait-status.good")
        kept = json.loads(page.evaluate("JSON.stringify(sessionStorage)"))
        page.close()
    assert kept == {"vortex-key": KEY}
