"""Looks at the status page in a headless Chromium over its debugging pipe; one line "ok NAME" or "FAIL NAME" for each check.

usage: browser.py CHROMIUM URL DIRECTORY NAME

Screenshots and the printed page go to the directory.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib

chromium, url, shots, name = sys.argv[1:]


class Browser:
    """Messages are JSON objects that end with a zero octet, on the file descriptors 3 (to it) and 4 (from it)."""

    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="stillgood-chromium.")
        to_read, self.to = os.pipe()
        self.back, from_write = os.pipe()

        def descriptors():
            high = [os.dup(to_read), os.dup(from_write)]
            high = [os.dup2(fd, 20 + n) for n, fd in enumerate(high)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.process = subprocess.Popen(
            [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--hide-scrollbars", "--force-color-profile=srgb", "--disable-extensions", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--no-proxy-server", f"--user-data-dir={self.profile}",
             "--remote-debugging-pipe", "about:blank"],
            preexec_fn=descriptors, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(from_write)
        self.buffer, self.number, self.session = b"", 0, None
        self.events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Log.enable")

    def message(self):
        while b"\0" not in self.buffer:
            octets = os.read(self.back, 1 << 20)
            if not octets:
                raise RuntimeError("the browser has ended")
            self.buffer += octets
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, event):
        while not any(e.get("method") == event for e in self.events):
            self.events.append(self.message())

    def open(self, url):
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

    def run(self, script):
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:600])
        return answer["result"].get("value")

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)


def check(what, found):
    """Holds when nothing was found."""
    if not found:
        print(f"ok {name}, {what}")
    else:
        print(f"  {name}, {what}: {json.dumps(found, ensure_ascii=False)[:800]}")
        print(f"FAIL {name}, {what}")


# What sticks out of the page, without what is not shown.
OVERFLOW = """(() => {
  const wide = document.documentElement.clientWidth;
  const out = [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > wide + 1);
  const words = out.map(e => e.tagName + '.' + (e.getAttribute('class') || '') + ' ' + Math.round(e.getBoundingClientRect().right));
  if (document.documentElement.scrollWidth > wide) words.push('the page scrolls to ' + document.documentElement.scrollWidth);
  return words;
})()"""
BARS = """[...document.querySelectorAll('svg.life')].map(e => Math.round(e.getBoundingClientRect().width)).filter(w => w < 139)"""
# Words of the columns that are broken in the middle. Names of issuers and reasons may be long: they may be broken.
BROKEN = """(() => {
  const broken = [], range = document.createRange();
  for (const cell of document.querySelectorAll('tr:not(.why) td, thead th, dt, dd time, h2')) {
    const walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    for (let node; (node = walk.nextNode());) {
      if (node.parentElement.closest('title, desc') || !node.parentElement.getClientRects().length) continue;
      for (const word of node.data.matchAll(/[^\\s-]+/g)) {
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        if (new Set([...range.getClientRects()].map(r => Math.round(r.top))).size > 1) broken.push(word[0]);
      }
    }
  }
  for (const time of document.querySelectorAll('time')) {
    if (new Set([...time.getClientRects()].map(r => Math.round(r.top))).size > 1) broken.push(time.textContent);
  }
  return broken;
})()"""
# Names of issuers that have not the whole width: on a phone a long one would be a column of syllables.
NARROW = """[...document.querySelectorAll('.slots tbody th')].map(e => [e.textContent, Math.round(e.getBoundingClientRect().width)])
  .filter(([, width]) => width < document.documentElement.clientWidth - 40)"""
# Letters smaller than these, as they come out.
SMALL = """(least => [...document.querySelectorAll('body *')].filter(e => [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()))
  .filter(e => e.getClientRects().length && !e.closest('title, desc')).map(e => {
    const svg = e.ownerSVGElement;
    const scale = svg && svg.viewBox.baseVal.width ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    return [e.textContent.slice(0, 30), parseFloat(getComputedStyle(e).fontSize) * scale];
  }).filter(([, size]) => size < least))(%s)"""
# Text larger than the body's, headlines aside.
LARGE = """(() => { const body = parseFloat(getComputedStyle(document.body).fontSize);
  return [...document.querySelectorAll('td, th, li, p, dd, dt, code')].filter(e => parseFloat(getComputedStyle(e).fontSize) > body + .1)
    .map(e => e.textContent.slice(0, 40)); })()"""
# Contrast of each text to what is behind it, below WCAG's 4.5.
PALE = """(() => {
  const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const lum = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length == 3 || c[3] > 0) return c; }
    return matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18] : [255, 255, 255]; };
  return [...document.querySelectorAll('body *')].filter(e => !e.ownerSVGElement && [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()))
    .map(e => { const [a, b] = [lum(parse(getComputedStyle(e).color)), lum(behind(e))]; return [e.textContent.slice(0, 30), (Math.max(a, b) + .05) / (Math.min(a, b) + .05)]; })
    .filter(([, ratio]) => ratio < 4.5);
})()"""


def png_size(octets):
    return [int.from_bytes(octets[at:at + 4], "big") for at in (16, 20)]


def shot(browser, what):
    picture = base64.b64decode(browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"])
    with open(os.path.join(shots, f"{name}-{what}.png"), "wb") as file:
        file.write(picture)
    return png_size(picture)


def pages_and_text(pdf):
    """The number of pages, and whether there are letters on them."""
    streams = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.S)
    drawn = b""
    for stream in streams:
        try:
            drawn += zlib.decompress(stream)
        except zlib.error:
            pass
    return len(re.findall(rb"/Type\s*/Page\b", pdf)), drawn.count(b"Tj") + drawn.count(b"TJ")


def main():
    browser = Browser()
    try:
        for what, width, height, mobile, scheme in [
                ("light", 1280, 900, False, "light"), ("dark", 1280, 900, False, "dark"),
                ("tablet", 768, 1024, True, "light"), ("phone", 380, 760, True, "light"), ("phone-dark", 380, 760, True, "dark")]:
            browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
            browser.call("Emulation.setEmulatedMedia", media="screen", features=[{"name": "prefers-color-scheme", "value": scheme}])
            browser.open(url)
            check(f"{what}: nothing sticks out", browser.run(OVERFLOW))
            check(f"{what}: a bar is at least 140 px wide", browser.run(BARS))
            check(f"{what}: no word of a column is broken", browser.run(BROKEN))
            check(f"{what}: no letter is smaller than 11 px", browser.run(SMALL % 11))
            check(f"{what}: every text stands out from its background", browser.run(PALE))
            if mobile and width < 480:
                check(f"{what}: names have the width of the page", browser.run(NARROW))
            taken = shot(browser, what)
            check(f"{what}: the screenshot is as wide as the screen", [] if taken[0] == width and taken[1] > 500 else taken)
        refused = [e for e in browser.events if e.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")]
        refused = [e["params"] for e in refused if "favicon" not in json.dumps(e)]
        check("the browser has nothing to complain of", refused)

        # A4 less its margins, in CSS pixels.
        browser.call("Emulation.setDeviceMetricsOverride", width=718, height=1000, deviceScaleFactor=1, mobile=False)
        browser.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        browser.open(url)
        check("paper: nothing sticks out", browser.run(OVERFLOW))
        check("paper: a bar is at least 140 px wide", browser.run(BARS))
        check("paper: no word of a column is broken", browser.run(BROKEN))
        check("paper: no text is larger than the body's", browser.run(LARGE))
        check("paper: every text stands out from its background", browser.run(PALE))
        shot(browser, "paper")
        browser.call("Emulation.setEmulatedMedia", media="", features=[])
        pdf = base64.b64decode(browser.call("Page.printToPDF", printBackground=False, paperWidth=8.27, paperHeight=11.69)["data"])
        with open(os.path.join(shots, f"{name}.pdf"), "wb") as file:
            file.write(pdf)
        pages, texts = pages_and_text(pdf)
        check("paper: a PDF of one to four pages with text", [] if 1 <= pages <= 4 and texts > 10 else [pages, texts])
    finally:
        browser.close()


main()
