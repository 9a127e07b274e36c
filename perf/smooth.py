"""The sample browser of a report with many samples in a headless Chromium: how long it takes to answer.

    python perf/smooth.py REPORT [--rounds 3]      # REPORT: a report's folder
Milliseconds until the page has done what was asked and says that it is at rest: opening it, each letter of a search,
each order, the next and previous sample, a jump to the end; and the longest task that held the page up in each. Needs
chromium and chromedriver.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from browser import Browser

TIMED = """
const rest = async () => {
  while (document.querySelector("[aria-busy]")) await new Promise((done) => setTimeout(done));
};
const timed = async (act) => {
  const tasks = [];
  const watch = new PerformanceObserver((list) => tasks.push(...list.getEntries().map((one) => one.duration)));
  watch.observe({ entryTypes: ["longtask"] });
  const began = performance.now();
  await act();
  await rest();
  const took = performance.now() - began;
  // A window that is not painted, as a busy machine's may be, has no frames.
  await new Promise((d) => { requestAnimationFrame(() => setTimeout(d)); setTimeout(d, 1000); });
  tasks.push(...watch.takeRecords().map((one) => one.duration));
  watch.disconnect();
  return [took, Math.max(0, ...tasks)];
};
"""
PUT = "const e = document.getElementById('{}'); e.value = {!r}; e.dispatchEvent(new Event('{}'));"
KEY = "document.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{}', bubbles: true }}));"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as profile, Browser(Path(profile)) as window:
        for _ in range(args.rounds):
            for name, pair in once(window, args.report / "index.html"):
                found.setdefault(name, []).append(pair)
        print(window.js("return document.getElementById('count').textContent"))
    for name, pairs in found.items():
        took, task = zip(*pairs, strict=True)
        print(f"{name:24}{statistics.median(took):6.0f} ms, longest {max(took):5.0f}; longest task {max(task):4.0f}")


def once(window: Browser, page: Path) -> list[tuple[str, tuple[float, float]]]:
    """Everything once, on a page opened anew."""
    window.open(page)
    window.until("document.getElementById('facts').textContent && !document.querySelector('[aria-busy]')")
    ready = "return [performance.now(), performance.getEntriesByType('navigation')[0].loadEventEnd]"
    rest, loaded = window.js(ready)
    found = [("open", (rest, 0.0)), ("of it, until loaded", (loaded, 0.0))]

    def timed(name: str, act: str) -> None:
        took, task = window.js(f"{TIMED} return timed(async () => {{ {act} }})")
        found.append((name, (took, task)))

    for end in range(1, 10):
        timed("search, a letter", PUT.format("f-text", "number 49"[:end], "input"))
    timed("search, cleared", PUT.format("f-text", "", "input"))
    for order in ("ratio up", "confidence down", "change down", ""):
        timed("sort", PUT.format("f-sort", order, "change"))
    timed("filter by outcome", PUT.format("f-outcome", "fixed", "change"))
    timed("filter let go", PUT.format("f-outcome", "", "change"))
    for key in "jjjjjjjjjjkkkkk":
        timed("next or previous", KEY.format(key))
    for key in "]]]":
        timed("next layer", KEY.format(key))
    down = "document.getElementById('list').dispatchEvent(new KeyboardEvent('keydown', {{ key: '{}' }}));"
    for key in ("End", "Home"):
        timed("to the end or start", down.format(key))
    return found


if __name__ == "__main__":
    main()
