# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: two files or recordings give a result, errors appear next to their file.

Skipped if chromium_browser.py finds no Chromium.
"""

import pytest
from chromium_browser import chromium, set_scheme, set_width, until, webdriver

from rawnext.scoring.decision import Operating, read_judge
from rawnext.serve.app import Limits, Service

pytestmark = pytest.mark.slow

SECONDS = 0.9  # the longest recording; short, so that it soon stops by itself
UPLOADS = "return performance.getEntriesByType('resource').filter(x => x.name.includes('/embed')).length"
LEAVES = """return [...document.querySelectorAll('h1, h2, h3, p, .button, svg, audio, dt, dd, li, b, #bar, #ends span')]
  .filter(x => x.offsetParent !== null || x.tagName === 'svg').filter(x => x.getClientRects().length)
  .map(x => [x.outerHTML.slice(0, 60), x.getBoundingClientRect()])
  .map(([name, r]) => [name, r.left, r.top, r.right, r.bottom])
  .filter(([, left, top, right, bottom]) => right > left && bottom > top)"""


@pytest.fixture(scope="module")
def files(tmp_path_factory, audio):
    folder = tmp_path_factory.mktemp("files")
    for name, data in {"a.wav": audio(0, 0.6), "b.wav": audio(2, 0.8), "text.wav": b"no audio",
                       "long.wav": audio(0, 1.0), "large.wav": audio(0, 1.4, 192000)}.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def page(exp, extractor, serving):
    """The address of the page."""
    limits = Limits(megabytes=0.5, seconds=SECONDS)
    with serving(Service(extractor, read_judge(exp), Operating(), limits)) as client:
        yield client


@pytest.fixture(scope="module")
def browser(files):
    with chromium("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
                  f"--use-file-for-fake-audio-capture={files / 'long.wav'}",
                  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1") as driver:
        yield driver


@pytest.fixture
def at(browser, page):
    """A function that loads the page at a width and returns its two panes."""
    def opened(width=1280):
        set_width(browser, width)
        browser.get(page.url)
        until(browser, lambda: len(browser.find_elements("css selector", ".pane")) == 2)
        return browser.find_elements("css selector", ".pane")
    return opened


def give(pane, path):
    pane.find_element("css selector", "input").send_keys(str(path))


def shown(browser, name):
    return browser.find_element("css selector", name).is_displayed()


def text(within, name):
    return within.find_element("css selector", name).text


@pytest.mark.parametrize("width", [1280, 390])
def test_two_files_give_a_result(at, browser, page, files, width):
    panes = at(width)
    give(panes[0], files / "a.wav")
    until(browser, lambda: "0.60 s, 16 kHz" in panes[0].text)
    assert shown(browser, "#waiting") and not shown(browser, "#answer")
    give(panes[1], files / "b.wav")
    until(browser, lambda: shown(browser, "#answer"))
    one, two = (page.post("/embed", (files / name).read_bytes())[1] for name in ("a.wav", "b.wav"))
    _, answer = page.post("/verify", {"enroll": one, "test": two})
    numbers = text(browser, "#numbers")
    assert f"{answer['score']:.4f}" in numbers and "0.60 s and 0.80 s" in numbers and f"{answer['llr']:.2f}" in numbers
    assert text(browser, "#decision") == ("Same speaker" if answer["same"] else "Different speakers")
    doubts = text(browser, "#doubts")
    assert all(doubt in doubts for doubt in answer["doubts"]) and "Enroll: Short" in doubts and "Test: Short" in doubts
    check_scale(browser, answer["llr"], answer["threshold"])
    check_layout(browser, width)
    for pane, name, seconds in zip(panes, "ab", (0.6, 0.8)):
        audio = pane.find_element("css selector", "audio")
        assert text(pane, ".state").startswith(f"{name}.wav: ")
        until(browser, lambda audio=audio, seconds=seconds: audio.get_property("duration") == pytest.approx(seconds))


def check_scale(browser, llr, threshold):
    """Both marks are at the positions and in the order of their values."""
    marks = [float(browser.execute_script("return arguments[0].style.getPropertyValue('--at')", mark)[:-1])
             for mark in browser.find_elements("css selector", ".mark")]
    assert (marks[0] > marks[1]) == (llr > threshold) and all(15 < mark < 85 for mark in marks)
    assert marks[1] == pytest.approx(50) and marks[0] - 50 == pytest.approx(50 * llr / (max(6, abs(llr)) / 0.6))
    left, whole = (browser.find_element("id", name).rect["width"] for name in ("different", "bar"))
    assert left / whole == pytest.approx(marks[1] / 100, abs=0.01)


def check_layout(browser, width):
    """Nothing is wider than the window, and no elements overlap."""
    seen, whole = browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
    assert seen == width >= whole
    boxes = browser.execute_script(LEAVES)
    assert len(boxes) > 30 and all(left >= 0 and right <= width for _, left, _, right, _ in boxes)
    over = [(one[0], other[0]) for i, one in enumerate(boxes) for other in boxes[:i]
            if min(one[3], other[3]) - max(one[1], other[1]) > 1 and min(one[4], other[4]) - max(one[2], other[2]) > 1]
    assert over == []


def test_error_is_shown_next_to_its_file(at, browser, files):
    panes = at()
    give(panes[0], files / "a.wav")
    for name, why in (("text.wav", "can read it"), ("long.wav", f"is longer than {SECONDS} s"),
                      ("large.wav", "larger than 0.5 MB")):
        give(panes[1], files / "b.wav")
        until(browser, lambda: shown(browser, "#answer"))
        assert text(panes[1], ".error") == ""
        before = browser.execute_script(UPLOADS)
        give(panes[1], files / name)
        until(browser, lambda: text(panes[1], ".error"))
        assert browser.execute_script(UPLOADS) == before + (name != "large.wav")  # its size is known in the browser
        assert why in text(panes[1], ".error") and text(panes[1], ".state") == name and text(panes[0], ".error") == ""
        assert shown(browser, "#waiting") and not shown(browser, "#answer")
        assert not panes[1].find_element("css selector", ".heard").is_displayed()


def test_another_channel_is_taken_at_once(at, browser, files):
    panes = at()
    give(panes[0], files / "a.wav")
    until(browser, lambda: text(panes[0], ".state") == "a.wav: 0.60 s, 16 kHz")
    channel = panes[0].find_element("css selector", ".channel")
    for number, error in (("1", "has no channel 1"), ("0", "")):
        channel.clear()
        channel.send_keys(number, webdriver.common.keys.Keys.ENTER)
        until(browser, lambda error=error: (error in text(panes[0], ".error")
                                            and shown(browser, ".heard") == (not error)))


def test_dropped_file_is_loaded(at, browser, files):
    panes = at()
    browser.execute_script("""const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(arguments[1])], 'dropped.wav'));
        const event = new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true });
        arguments[0].dispatchEvent(event); if (!event.defaultPrevented) throw 'would replace the page';
        """, panes[1], list((files / "a.wav").read_bytes()))
    until(browser, lambda: text(panes[1], ".state") == "dropped.wav: 0.60 s, 16 kHz")


def test_recordings_stop_at_the_limit_or_by_hand(at, browser, page):
    panes = at()
    first, second = (pane.find_element("css selector", ".record") for pane in panes)
    first.click()
    until(browser, lambda: text(panes[0], ".state").startswith(f"Recording: 1 s of at most {SECONDS} s"))
    assert first.text == "Stop" and first.get_attribute("aria-pressed") == "true"
    until(browser, lambda: text(panes[0], ".state").startswith(f"Recorded: {SECONDS:.2f} s"))
    second.send_keys(webdriver.common.keys.Keys.ENTER)
    until(browser, lambda: text(panes[1], ".state").startswith("Recording: 1 s"))
    second.send_keys(webdriver.common.keys.Keys.ENTER)
    until(browser, lambda: text(panes[1], ".state").startswith("Recorded: "))
    assert first.text == second.text == "Record" and text(panes[1], ".error") == ""
    drawn = panes[0].find_element("css selector", ".wave path").get_attribute("d")
    assert max(abs(float(point.split()[-1])) for point in drawn.strip("MZ").split("L")) == pytest.approx(1, abs=0.001)


def test_every_control_has_a_name_and_keys_reach_it(at, browser, files):
    panes = at()
    for pane in panes:
        give(pane, files / "a.wav")
    until(browser, lambda: shown(browser, "#answer"))
    controls = browser.find_elements("css selector", "input, button, audio, svg, #scale")
    assert len(controls) == 11 and all(control.get_attribute("aria-label") for control in controls)
    assert len({control.get_attribute("aria-label") for control in controls}) == 11
    reached = []
    for _ in range(4):
        webdriver.ActionChains(browser).send_keys(webdriver.common.keys.Keys.TAB).perform()
        reached.append(browser.execute_script("return document.activeElement.getAttribute('aria-label')"))
    assert reached[:2] == ["Choose a file: Enroll recording", "Record: Enroll recording"]
    assert browser.execute_script("return document.querySelector('[role=alert], [aria-live=polite]') !== null")


def test_console_is_empty_and_nothing_is_fetched_elsewhere(at, browser, page, files):
    browser.get_log("browser")
    panes = at()
    for pane in panes:
        give(pane, files / "a.wav")
    until(browser, lambda: shown(browser, "#answer"))
    assert browser.get_log("browser") == []
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(x => x.name)")
    assert fetched and all(name.startswith((page.url, "blob:", "data:")) for name in fetched)


def test_dark_and_light_schemes_have_contrast(at, browser):
    at()
    shades = []
    for scheme in ("light", "dark"):
        set_scheme(browser, scheme)
        style = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
        shades.append([sum(map(int, colour[4:-1].split(", "))) for colour in browser.execute_script(style)])
    (paper, ink), (dark_paper, dark_ink) = shades
    assert paper > 600 > 200 > ink and dark_paper < 200 < 600 < dark_ink
