"""The page in a real browser: judging, correcting, several at once, names that are markup, and the page of files."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.wilss_masks.review.sessions import POT, SIZE, make_session, served
from tests.wilss_masks.stores import IMAGES, Drawn, make_manifest, make_store
from wilss_masks.review.journal import Journal
from wilss_masks.review.opening import Asked, open_session
from wilss_masks.review.static import write_static
from wilss_masks.review.verdict_file import import_verdicts

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("WILSS_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; name one by WILSS_CHROMIUM"),
]
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
MARKUP = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with playwright.sync_playwright() as run:
        context = run.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")), executable_path=CHROMIUM, args=ARGUMENTS, viewport=WIDE
        )
        yield context
        context.close()


@pytest.fixture
def errors() -> Iterator[list[str]]:
    found: list[str] = []
    yield found
    assert not found


def opened(browser: Any, address: str, errors: list[str]) -> Any:
    page = browser.new_page()
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto(address)
    page.wait_for_selector("html[data-ready=yes]")
    return page


def until(page: Any, expression: str) -> None:
    """Wait for it; the page's policy lets the driver wait in no other way."""
    for _ in range(400):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"in vain waited for {expression}")


def waits_for(page: Any, selector: str, text: str) -> None:
    until(page, f"document.querySelector({json.dumps(selector)}).textContent.includes({json.dumps(text)})")


def open_first(page: Any) -> None:
    """The first image of the store, large."""
    page.fill("#f-text", IMAGES[0].image_id)
    until(page, "document.querySelectorAll('.card').length === 1")
    page.focus("#space")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#classes li').length === 1")


def middle(page: Any) -> tuple[float, float]:
    box = page.locator("#stage").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def paint(page: Any, dx: float) -> None:
    x, y = middle(page)
    page.mouse.move(x + dx, y - 60)
    page.mouse.down()
    page.mouse.move(x + dx, y + 60, steps=4)
    page.mouse.up()


def test_keys_judge_and_take_back(browser: Any, tmp_path: Path, errors: list[str]) -> None:
    session = make_session(tmp_path)
    with served(session) as address:
        page = opened(browser, address, errors)
        for key, figures in (("a", "1 accepted, 0 corrected, 0 rejected"), ("r", "1 accepted, 0 corrected, 1 rejected"),
                             ("z", "1 accepted, 0 corrected, 0 rejected"), ("Shift+Z", "1 rejected")):  # fmt: skip
            page.keyboard.press(key)
            waits_for(page, "#progress-figures", figures)
        page.select_option("#f-verdict", "rejected")
        waits_for(page, "#count", "1 of")
        page.close()
    assert sorted(event.verdict for event in Journal.open(session.store.path).latest().values()) == [
        "accepted",
        "rejected",
    ]


def test_the_help_names_keys_as_they_are(browser: Any, tmp_path: Path, errors: list[str]) -> None:
    with served(make_session(tmp_path)) as address:
        page = opened(browser, address, errors)
        page.keyboard.press("?")
        told = page.eval_on_selector_all(
            "#help-keys dl div",
            """all => all.map(one => [...one.querySelectorAll("kbd")].map(key => key.textContent).join(" ") + ": " +
            one.querySelector("dd").textContent)""",
        )
        page.close()
    for line in (
        "Arrows PageUp PageDown Home End: move",
        "Shift+Arrows Shift+PageUp ...: select on the way",
        "Right Down J: next",
        "Space: select, or not",
        "Shift+Z Ctrl+Shift+Z Ctrl+Y: redo",
        "Shift+Arrows: move the cursor far",
    ):
        assert line in told


def test_a_server_that_is_gone_is_told_in_a_sentence(browser: Any, tmp_path: Path, errors: list[str]) -> None:
    with served(make_session(tmp_path)) as address:
        page = opened(browser, address, errors)
        page.route("**/api/**", lambda route: route.abort())
        page.fill("#f-text", IMAGES[0].image_id)
        until(page, "document.querySelectorAll('.card').length === 1")
        page.focus("#space")
        page.keyboard.press("Enter")
        until(page, "document.body.innerText.includes('The server does not answer; start')")
        assert "Failed to fetch" not in page.inner_text("body")
        page.close()


def test_a_stroke_is_kept_and_seen_in_another_window(browser: Any, tmp_path: Path, errors: list[str]) -> None:
    session = make_session(tmp_path)
    with served(session) as address:
        page, other = opened(browser, address, errors), opened(browser, address, errors)
        open_first(other)
        page.bring_to_front()
        open_first(page)
        page.keyboard.press("e")
        paint(page, 0)
        waits_for(page, "#progress-figures", "1 corrected")
        page.keyboard.press("b")
        paint(page, -200)
        until(page, "document.getElementById('live').textContent.startsWith('Painted')")
        other.bring_to_front()
        waits_for(other, "#facts", "corrected")
        label = "document.getElementById('stage').getAttribute('aria-label')"
        until(other, f"{label} === {json.dumps(page.evaluate(label))}")
        page.close()
        other.close()
    (one,) = Journal.open(session.store.path).corrections()
    stored = session.store.read(0, [0]).masks[0]
    assert one.mask is not None
    assert one.mask.shape == SIZE
    assert (stored & ~one.mask).any(), "something was erased"
    assert (one.mask & ~stored).any(), "something was painted"


def test_polygon_region_and_tag_by_pointer_and_keyboard(browser: Any, tmp_path: Path, errors: list[str]) -> None:
    session = make_session(tmp_path)
    with served(session) as address:
        page = opened(browser, address, errors)
        open_first(page)
        page.select_option("#add-class", str(17))
        waits_for(page, "#progress-figures", "1 corrected")
        page.keyboard.press("p")
        x, y = middle(page)
        for dx, dy in ((-100, -100), (100, -100), (100, 100), (-100, 100)):
            page.mouse.click(x + dx, y + dy)
        page.keyboard.press("Shift+Enter")
        until(page, "document.getElementById('live').textContent.startsWith('Polygon added')")
        page.keyboard.press("t")
        until(page, "!document.getElementById('hint').textContent.includes('looked for')")
        page.mouse.click(x - 150, y)
        page.keyboard.press("b")
        for key in ("Enter", "Enter", "ArrowRight", "Enter", "Escape"):
            page.keyboard.press(key)
        page.keyboard.press("1")
        page.keyboard.press("x")
        until(page, "document.getElementById('live').textContent.startsWith('Tag removed')")
        page.close()
    kept = {one.category: one for one in Journal.open(session.store.path).corrections()}
    scale = min((972 - 16) / SIZE[1], 560 / SIZE[0])  # the polygon's sides are 200 pixels of the screen
    assert kept[17].mask is not None
    assert kept[17].mask.sum() > 0.5 * (200 / scale) ** 2
    assert kept[POT].tag is False


def test_on_a_narrow_dark_screen_everything_can_be_reached(browser: Any, tmp_path: Path, errors: list[str]) -> None:
    session = make_session(tmp_path)
    with served(session) as address:
        page = opened(browser, address, errors)
        page.set_viewport_size(NARROW)
        page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        page.click(".card")
        until(page, "document.querySelectorAll('#classes li').length > 0")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= NARROW["width"]
        page.click("#panel-button")
        assert page.is_visible("#layers")
        page.click("#panel-button")
        for button in ("#accept", "#reject", "#next", "#previous", "#back"):
            box = page.locator(button).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= NARROW["width"]
            assert box["height"] >= 36
        nameless = page.evaluate("""[...document.querySelectorAll('button, input, select, canvas, [role]')].filter(
            (e) => e.checkVisibility() && !e.textContent.trim() && !e.getAttribute('aria-label')
                && !e.labels?.length && !['status', 'alert'].includes(e.role)).map((e) => e.outerHTML)""")
        assert nameless == []
        page.close()


def test_names_that_are_markup_stay_text(browser: Any, tmp_path: Path, errors: list[str]) -> None:
    drawn = Drawn(image_id=MARKUP.replace("/", ""), size=(32, 32), boxes={16: (8, 24, 8, 24)})
    images: Any = make_manifest(tmp_path / "images", (drawn,))
    make_store(tmp_path / "step-1.zarr", images=(drawn,), manifest=MARKUP)
    session = open_session(tmp_path / "step-1.zarr", images, Asked(author=MARKUP))
    with served(session) as address:
        page = opened(browser, address, errors)
        page.keyboard.press("a")
        waits_for(page, "#progress-figures", "1 accepted")
        page.keyboard.press("Enter")
        waits_for(page, "#facts", MARKUP)
        assert page.inner_text("#image-name") == drawn.image_id
        assert "owned" not in page.title()
        assert page.locator("img[src=x]").count() == 0
        page.close()


def test_a_page_of_files_works_by_a_double_click(browser: Any, tmp_path: Path, errors: list[str]) -> None:
    session = make_session(tmp_path)
    write_static(session, tmp_path / "out", limit=10)
    page = opened(browser, (tmp_path / "out" / "index.html").as_uri(), errors)
    page.fill("#author", "Grace")
    page.keyboard.press("Escape")
    open_first(page)
    page.keyboard.press("b")
    paint(page, -200)
    waits_for(page, "#progress-figures", "1 corrected")
    page.reload()
    page.wait_for_selector("html[data-ready=yes]")
    waits_for(page, "#progress-figures", "1 corrected")
    with page.expect_download() as download:
        page.click("#download")
    path = tmp_path / "verdicts.json"
    download.value.save_as(path)
    page.close()
    assert json.loads(path.read_text())["author"] == "Grace"
    journal = Journal.open(session.store.path)
    assert import_verdicts(path, journal) == (1, 0)
    (one,) = journal.corrections()
    assert one.mask is not None
    assert (one.mask & ~session.store.read(0, [0]).masks[0]).any()
    assert np.array_equal(one.mask, one.mask.astype(bool))
    session.close()
