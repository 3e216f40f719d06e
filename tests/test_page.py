"""The page in a real browser, against a server process."""

import shutil

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from browsing import CONTRASTS, chromium, look
from echoing import TOO_LONG, echo_server

pytestmark = pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium is installed; .ci/run installs it")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def url():
    with echo_server(threshold=0.5) as (_, url):
        yield url


@pytest.fixture
def page(browser, url):
    return opened(browser, url)


def opened(browser, url):
    browser.get(url)
    WebDriverWait(browser, 20).until(lambda _: text(browser, "#model") == "echo")
    return browser


def text(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector).text


def texts(browser, selector):
    return [found.text for found in browser.find_elements(By.CSS_SELECTOR, selector)]


def shown(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector).is_displayed()


def until(browser, holds):
    WebDriverWait(browser, 20).until(lambda _: holds())


def type_in(browser, query):
    """By keyboard alone: the query has the focus from the start."""
    box = browser.switch_to.active_element
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(query, Keys.ENTER)


def test_a_query_is_typed_and_its_calls_are_seen(page):
    type_in(page, "Oslo and <b>Rome</b>")
    until(page, lambda: shown(page, "#answer"))
    assert texts(page, "ol .name") == ["weather", "weather"]
    assert texts(page, "dt") == ["location", "location"] and texts(page, "dd") == ["Oslo", "<b>Rome</b>"]
    assert texts(page, ".step") == ["1 of 2", "2 of 2"]
    assert text(page, "#confidence b") == "0.75"
    assert text(page, "#routed").endswith(" ms") and text(page, "#trip").endswith(" ms")
    assert not shown(page, "#escalate")


def test_an_example_is_clicked(page):
    example = page.find_element(By.CSS_SELECTOR, ".examples button")
    example.click()
    until(page, lambda: shown(page, "#answer"))
    assert page.find_element(By.ID, "query").get_property("value") == example.text
    assert texts(page, "dd") == ["weather in Oslo", "20 C in F"]


def test_no_tool_and_faults_are_said_and_the_next_query_is_answered(page):
    type_in(page, "hi")
    until(page, lambda: texts(page, "ol li") == ["No tool is called."])
    type_in(page, "too long")
    until(page, lambda: text(page, ".error") == TOO_LONG)
    assert not shown(page, "#answer")
    type_in(page, "Oslo")
    until(page, lambda: texts(page, "dd") == ["Oslo"])
    assert not shown(page, ".error")


def test_a_doubtful_answer_says_that_a_bigger_model_should_be_asked(browser):
    with echo_server(threshold=0.9) as (_, url):
        type_in(opened(browser, url), "Oslo")
        until(browser, lambda: shown(browser, "#escalate"))


def test_a_key_is_asked_for_and_a_server_that_is_gone_is_said(browser):
    with echo_server(api_key="k") as (_, url):
        type_in(opened(browser, url), "Oslo")
        until(browser, lambda: shown(browser, "#key"))
        browser.switch_to.active_element.send_keys("k", Keys.ENTER)
        until(browser, lambda: texts(browser, "dd") == ["Oslo"])
    type_in(browser, "k")
    until(browser, lambda: text(browser, ".error") == "The server does not answer.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_fits_the_window_and_can_be_read_in_light_and_dark(page, width, scheme):
    look(page, width, scheme)
    type_in(page, "a-very-long-place-" * 20)
    until(page, lambda: shown(page, "#answer"))
    assert page.execute_script("return innerWidth") == width
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (int(ground.removeprefix("rgb(").split(",")[0]) < 128) == (scheme == "dark")
    contrasts = page.execute_script(CONTRASTS)
    assert len(contrasts) > 15
    # WCAG 2, level AA.
    assert min(contrasts.values()) >= 4.5, contrasts


def test_it_loads_nothing_from_elsewhere_and_logs_no_fault(page, url):
    type_in(page, "Oslo")
    until(page, lambda: shown(page, "#answer"))
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert sorted(loaded) == [f"{url}/health", f"{url}/v1/chat/completions"]
    page.get_log("browser")
    page.refresh()
    assert page.get_log("browser") == []
