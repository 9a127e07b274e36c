// Which samples of the index are listed, and in which order.
const vgFilters = (() => {
  const WORDS = { r: "right", w: "wrong", u: "undecided", n: "unfinished", f: "failed" };
  // The options of a list; what was chosen stays where it can.
  const fill = (select, pairs) => {
    const before = select.value;
    select.replaceChildren(...pairs.map(([value, text]) => {
      const option = document.createElement("option");
      option.value = value;
      option.textContent = text;
      return option;
    }));
    if (pairs.some(([value]) => value === before)) select.value = before;
  };
  // Texts one after the other, each on its own, so that one that turns the writing round turns itself alone.
  const joined = (target, parts) => target.replaceChildren(...parts.filter(Boolean).flatMap((text, n) => {
    const own = document.createElement("bdi");
    own.textContent = text;
    return n ? [" · ", own] : [own];
  }));
  // [method, its outcome, its baseline's] of a sample, of one method or of all that answered.
  const letters = (index, item, method) => {
    const family = index.families[item[0]];
    return family.methods.map((name, m) => [name, item[6][m], family.base[m] < 0 ? "-" : item[6][family.base[m]]])
      .filter(([name, now]) => now !== "-" && (!method || name === method));
  };
  const change = (now, was) => {
    if (was === "-" || was === "f" || now === "f") return "";
    if ((now === "r") === (was === "r")) return "same";
    return now === "r" ? "fixed" : "broken";
  };
  const texts = new Map();
  // What the search looks in, made once.
  const text = (item) => {
    if (!texts.has(item)) texts.set(item, `${item[5]}\n${item[1]}\n${item[11]}`.toLowerCase());
    return texts.get(item);
  };
  const passes = (index, item, want) => {
    const family = index.families[item[0]];
    if (want.model && family.model !== want.model) return false;
    if (want.run && family.name !== want.run) return false;
    if (want.benchmark && family.benchmark !== want.benchmark) return false;
    if (want.group >= 0 && item[3] !== want.group) return false;
    if (want.type >= 0 && item[4] !== want.type) return false;
    if (want.text && !text(item).includes(want.text)) return false;
    if (!want.method && !want.outcome) return true;
    const rows = letters(index, item, want.method);
    if (!want.outcome) return rows.length > 0;
    if (want.outcome === "failed" && !want.method && item[7]) return true;
    return rows.some(([, now, was]) => WORDS[now] === want.outcome || change(now, was) === want.outcome);
  };
  // Samples that lack what is sorted by come last.
  const sort = (index, shown, order, method) => {
    const [by, way] = order.split(" ");
    if (!by) return;
    const changes = (item) => letters(index, item, method).filter(([, now, was]) => ["fixed", "broken"].includes(change(now, was))).length;
    const key = { ratio: (item) => item[12], confidence: (item) => item[13], change: changes }[by];
    const values = new Map(shown.map((n) => [n, key(index.items[n])]));
    const last = (n) => values.get(n) === null;
    shown.sort((a, b) => last(a) - last(b) || (way === "down" ? -1 : 1) * (values.get(a) - values.get(b)) || a - b);
  };
  return { WORDS, fill, joined, letters, change, passes, sort };
})();
