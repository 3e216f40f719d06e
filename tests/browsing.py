"""A real browser, and what can be read in it."""

from contextlib import contextmanager

from selenium.webdriver import Chrome, ChromeOptions, ChromeService


@contextmanager
def chromium(profile):
    options = ChromeOptions()
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options, ChromeService("/usr/bin/chromedriver"))
    try:
        yield browser
    finally:
        browser.quit()


def look(browser, width, scheme):
    """As a window of that width shows it, light or dark."""
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": False}
    )


# The contrast of each text that is seen against the nearest ground behind it.
CONTRASTS = """
const parts = colour => colour.match(/[0-9.]+/g).map(Number);
const light = colour => parts(colour).slice(0, 3).map(x => x / 255)
  .map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4)
  .reduce((sum, x, n) => sum + x * [.2126, .7152, .0722][n], 0);
const ground = node => {
  const colour = getComputedStyle(node).backgroundColor;
  return parts(colour)[3] === 0 ? ground(node.parentElement) : colour;
};
const found = {};
for (const node of document.querySelectorAll("body *"))
  if (node.checkVisibility() && [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim())) {
    const [a, b] = [light(getComputedStyle(node)[node instanceof SVGElement ? "fill" : "color"]), light(ground(node))].sort((x, y) => y - x);
    found[node.tagName + " " + node.textContent.trim().slice(0, 40)] = (a + .05) / (b + .05);
  }
return found;
"""
