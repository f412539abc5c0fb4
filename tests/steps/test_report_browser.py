# SPDX-License-Identifier: Apache-2.0
"""The page of an experiment in a real browser: it shows, sorts and plays, from a file and offline.

Skipped if chromium_browser.py finds no Chromium.
"""

import io

import numpy as np
import pytest
import report_experiment as small
from chromium_browser import chromium, set_scheme, set_width, webdriver
from PIL import Image

from rawnext.results.analysis.html_report import report_page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(root, tmp_path_factory):
    """report.html of two systems with all parts."""
    folder = tmp_path_factory.mktemp("browser")
    data = folder / "data" / "test"
    trials = small.write_data(data)
    one, two = folder / "rawnext", folder / "resnext"
    small.write_experiment(one, data, trials, 0, durations=("full", "2", "1"), backends=("cosine", "cosine+cal"),
                           cllr=0.31, min_cllr=0.22, eer_interval=[14.1, 17.2], num_speakers=4)
    small.write_experiment(two, data, trials, 1)
    small.write_training(one)
    (folder / "report.html").write_text(report_page([one, two], root / "conf" / "paper.tsv", 2)[0], encoding="utf-8")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    with chromium("--autoplay-policy=no-user-gesture-required", "--host-resolver-rules=MAP * ~NOTFOUND") as driver:
        driver.execute_cdp_cmd("Network.enable", {})
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": True, "latency": 0,
                                                                    "downloadThroughput": 0, "uploadThroughput": 0})
        yield driver


@pytest.fixture(scope="module")
def at(browser, page):
    """Opens the page at a width, unless it is open at it; returns a function that runs JavaScript in it."""
    now = []

    def opened(width, again=False):
        if now == [width] and not again:
            return browser.execute_script
        now[:] = [width]
        set_width(browser, width)
        browser.get(page.as_uri())
        return browser.execute_script
    return opened


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(at, width):
    """Including hidden choices, once opened; tables scroll within their boxes."""
    script = at(width)
    assert script("return innerWidth") == width
    script("for (const x of document.querySelectorAll('details')) x.open = true;"
           "for (const x of document.querySelectorAll('[hidden]')) x.hidden = false;")
    assert script("return document.documentElement.scrollWidth") <= width
    wide = script("return [...document.querySelectorAll('body *')].filter(x => !x.closest('.scroll') "
                  "&& x.getBoundingClientRect().right > innerWidth + 1).map(x => x.outerHTML.slice(0, 80))")
    assert wide == []
    assert script("return [...document.querySelectorAll('.scroll')].some(x => x.scrollWidth > x.clientWidth)")
    check_figures(script)


def check_figures(script):
    """Every figure is there, and its text can be read: SVGs are unpacked into the page at their size to measure it."""
    assert script("return [...document.querySelectorAll('.chart img, .spectrogram')]"
                  ".every(x => x.complete && x.naturalWidth > 0)")
    script("""for (const img of document.querySelectorAll('.chart img')) {
        const svg = new DOMParser().parseFromString(decodeURIComponent(img.src.split(',').slice(1).join(',')),
                                                    'image/svg+xml').documentElement;
        const width = img.getBoundingClientRect().width;
        svg.setAttribute('height', img.getBoundingClientRect().height); svg.setAttribute('width', width);
        img.replaceWith(svg); }""")
    sizes = script("return [...document.querySelectorAll('.chart > svg, .wave, .spectrogram')].map(x => { "
                   "const r = x.getBoundingClientRect(); return [r.width, r.height]; })")
    assert len(sizes) > 30 and min(w for w, _ in sizes) > 250 and min(h for _, h in sizes) > 60
    heights = script("return [...document.querySelectorAll('.chart text')].filter(x => x.textContent.trim())"
                     ".map(x => x.getBoundingClientRect().height)")
    assert len(heights) > 100 and min(heights) >= 10
    outside = script("return [...document.querySelectorAll('.chart > svg')].flatMap(svg => { "
                     "const r = svg.getBoundingClientRect(); return [...svg.querySelectorAll('text')].filter(x => { "
                     "const t = x.getBoundingClientRect(); return t.left < r.left - 1 || t.right > r.right + 1; }) "
                     ".map(x => x.textContent) })")
    assert outside == []


def column(script, place):
    return script("return [...document.querySelector('details table').tBodies[0].rows]"
                  ".map(r => r.cells[arguments[0]].textContent)", place)


def test_a_click_sorts_numbers_as_numbers(at):
    script = at(1280)
    names = script("return [...document.querySelector('details table').tHead.rows[0].cells].map(x => x.textContent)")
    eer, duration, cllr = (names.index(name) for name in ("EER %", "duration", "Cllr"))
    click = "document.querySelector('details table').tHead.rows[0].cells[arguments[0]].querySelector('button').click()"
    for row, value in ((1, -9), (2, -20), (3, 9)):  # in the order of words -9 comes first, and 9 last
        script("const cell = document.querySelector('details table').tBodies[0].rows[arguments[0]].cells[arguments[1]];"
               "cell.dataset.sort = arguments[2]; cell.textContent = arguments[2] + '.00 [1, 2]';", row, eer, value)
    script(click, eer)
    rising = [float(text.split()[0]) for text in column(script, eer)]
    assert rising == sorted(rising) and rising[:3] == [-20, -9, 9] and rising[3] > 9
    script(click, eer)
    assert [float(text.split()[0]) for text in column(script, eer)] == rising[::-1]
    assert script("return document.querySelector('[aria-sort]').textContent") == "EER %"
    script(click, duration)
    found = list(dict.fromkeys(column(script, duration)))
    assert found == ["1 s", "2 s", "full"]
    for _ in range(2):
        script(click, cllr)
        assert column(script, cllr)[-2:] == ["", ""]  # of the system without LLRs


def test_keys_reach_the_table(at, browser):
    at(1280)
    keys = webdriver.common.keys.Keys
    button = browser.find_element("css selector", "th button")
    button.send_keys(keys.ENTER)
    assert button.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    assert browser.execute_script("return [...document.querySelectorAll('.scroll')].every(x => x.tabIndex === 0)")


def test_a_choice_shows_its_part(at):
    script = at(1280, again=True)
    shown = ("return [...document.querySelectorAll('#scores > [data-key]')].filter(x => x.offsetHeight)"
             ".map(x => x.dataset.key)")
    pick = ("const s = document.querySelector('[data-for=scores]'); s.selectedIndex = arguments[0];"
            "s.dispatchEvent(new Event('change'))")
    first = script(shown)
    script(pick, 1)
    second = script(shown)
    assert len(first) == len(second) == 1 and first != second
    script(pick, 2)
    assert script(shown) == first + second


PLAY = """
const [place, done] = arguments, all = [...document.querySelectorAll('audio')], player = all[place];
player.addEventListener('timeupdate', () => { if (player.currentTime > 0.05) done(
  [player.readyState, player.duration, all.map((x, i) => x.paused ? -1 : i).filter(i => i >= 0)]); });
player.addEventListener('error', () => done(player.error.message));
player.play().catch(error => done(String(error)));
"""


def test_players_play_one_at_a_time(at, browser):
    at(1280)
    for place in (0, 1, 15):
        state, seconds, playing = browser.execute_async_script(PLAY, place)
        assert state >= 2 and 0.4 <= seconds < 10.1 and playing == [place]


def test_no_warnings_and_nothing_fetched(at, browser):
    browser.get_log("browser")
    script = at(1280, again=True)
    assert browser.get_log("browser") == []
    fetched = script("return performance.getEntriesByType('resource').map(x => x.name)"
                     ".filter(x => !x.startsWith('data:'))")
    assert fetched == []


def test_dark_and_light(at, browser):
    script = at(1280, again=True)
    brightness = []
    for scheme in ("light", "dark"):
        set_scheme(browser, scheme)
        colours = script("const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]")
        shot = browser.find_element("css selector", ".chart img").screenshot_as_png
        grey = np.array(Image.open(io.BytesIO(shot)).convert("L"))
        brightness.append([*(sum(map(int, colour[4:-1].split(", "))) for colour in colours), np.median(grey),
                           grey.min(), grey.max()])
    (paper, ink, ground, darkest, _), (dark_paper, dark_ink, dark_ground, _, brightest) = brightness
    assert paper > 600 > ink and ground > 200 > 100 > darkest
    assert dark_paper < 200 and dark_ink > 500 and dark_ground < 100 < 150 < brightest
