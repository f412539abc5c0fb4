# SPDX-License-Identifier: Apache-2.0
"""Headless Chromium for tests of pages.

Needs Chromium and its driver (Debian and Ubuntu: `apt-get install chromium chromium-driver`), or the tests are skipped.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: pip install -e '.[dev]'")
WAIT = 60  # timeout in seconds; a page takes one


@contextmanager
def chromium(*arguments: str) -> Iterator:
    """selenium's driver of a new browser; `arguments` are added to Chromium's command line."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        pytest.skip("no chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio",
                     *arguments):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    try:
        driver.set_script_timeout(WAIT)
        yield driver
    finally:
        driver.quit()


def until(driver, condition: Callable[[], object]) -> None:
    """Wait for a condition; fails after WAIT seconds."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, WAIT, 0.02).until(lambda _: condition())


def set_width(driver, width: int) -> None:
    """Set the width of the window in pixels; below 500 it emulates a phone."""
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 800,
                                                                  "deviceScaleFactor": 1, "mobile": width < 500})


def set_scheme(driver, scheme: str) -> None:
    """Set the preferred colour scheme, light or dark."""
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme",
                                                                        "value": scheme}]})
