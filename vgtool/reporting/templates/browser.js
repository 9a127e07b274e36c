"use strict";
(() => {
  const byId = (name) => document.getElementById(name);
  const ROW = 44;
  const KEPT = 12;
  const WORDS = { r: "right", w: "wrong", u: "undecided", n: "unfinished", f: "failed" };
  const state = { index: null, shown: [], at: -1, detail: null, picture: null, bytes: new Map(), turn: 0 };

  // ---- chunks: base64 of deflated bytes, in the page or in a script beside it ----
  const waiting = new Map();
  window.vgtoolChunk = (number, text) => {
    const take = waiting.get(number);
    waiting.delete(number);
    if (take) take(text);
  };
  const inflate = async (text) => {
    const raw = Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const fromFile = (number) => new Promise((resolve, reject) => {
    const name = `data/chunk-${String(number).padStart(5, "0")}.js`;
    const script = document.createElement("script");
    waiting.set(number, resolve);
    script.onload = () => script.remove();
    script.onerror = () => { script.remove(); waiting.delete(number); reject(new Error(`${name} is missing: keep the folder data beside this page.`)); };
    script.src = name;
    document.head.append(script);
  });
  const chunk = (number) => {
    let found = state.bytes.get(number);
    if (!found) {
      const inside = byId(`chunk-${number}`);
      found = (inside ? Promise.resolve(inside.textContent) : fromFile(number)).then(inflate);
      found.catch(() => state.bytes.delete(number));
    }
    state.bytes.delete(number);
    state.bytes.set(number, found);
    while (state.bytes.size > KEPT) state.bytes.delete(state.bytes.keys().next().value);
    return found;
  };
  const slice = async ([number, offset], length) => (await chunk(number)).subarray(offset, offset + length);

  // ---- filters ----
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
  const unique = (values) => [...new Set(values)];
  const any = (text, values) => [["", text], ...values.map((v) => [v, v || "(none)"])];
  const letters = (item, method) => {
    const family = state.index.families[item[0]];
    return family.methods.map((name, m) => [name, item[6][m], family.base[m] < 0 ? "-" : item[6][family.base[m]]])
      .filter(([name, now]) => now !== "-" && (!method || name === method));
  };
  const change = (now, was) => {
    if (was === "-" || was === "f" || now === "f") return "";
    if ((now === "r") === (was === "r")) return "same";
    return now === "r" ? "fixed" : "broken";
  };
  const passes = (item, want) => {
    const family = state.index.families[item[0]];
    if (want.model && family.model !== want.model) return false;
    if (want.benchmark && family.benchmark !== want.benchmark) return false;
    if (want.group >= 0 && item[3] !== want.group) return false;
    if (want.type >= 0 && item[4] !== want.type) return false;
    if (want.text && !`${item[5]}\n${item[1]}`.toLowerCase().includes(want.text)) return false;
    if (!want.method && !want.outcome) return true;
    const rows = letters(item, want.method);
    if (!want.outcome) return rows.length > 0;
    if (want.outcome === "failed" && !want.method && item[7]) return true;
    return rows.some(([, now, was]) => WORDS[now] === want.outcome || change(now, was) === want.outcome);
  };
  const filter = () => {
    const want = {
      model: byId("f-model").value, benchmark: byId("f-benchmark").value,
      group: byId("f-group").value === "" ? -1 : Number(byId("f-group").value),
      type: byId("f-type").value === "" ? -1 : Number(byId("f-type").value),
      method: byId("f-method").value, outcome: byId("f-outcome").value, text: byId("f-text").value.trim().toLowerCase(),
    };
    const before = state.shown[state.at];
    state.shown = [];
    state.index.items.forEach((item, n) => { if (passes(item, want)) state.shown.push(n); });
    byId("count").textContent = `${state.shown.length} of ${state.index.items.length} samples`;
    byId("rows").style.height = `${state.shown.length * ROW}px`;
    const again = state.shown.indexOf(before);
    select(again >= 0 ? again : state.shown.length ? 0 : -1);
  };

  // ---- the list: only what is in sight is in the page ----
  const list = byId("list");
  const paint = () => {
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
    const last = Math.min(state.shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
    const rows = [];
    for (let at = first; at < last; at += 1) {
      const item = state.index.items[state.shown[at]];
      const row = document.createElement("div");
      row.id = `row-${at}`;
      row.setAttribute("role", "option");
      row.setAttribute("aria-selected", String(at === state.at));
      row.setAttribute("aria-setsize", String(state.shown.length));
      row.setAttribute("aria-posinset", String(at + 1));
      row.style.top = `${at * ROW}px`;
      const outcomes = letters(item, byId("f-method").value).slice(0, 3).map(([name, now]) => `${name} ${WORDS[now]}`);
      for (const text of [item[5] || item[1], [state.index.groups[item[3]], ...outcomes, ...(item[7] ? ["failed"] : [])].filter(Boolean).join(" · ")]) {
        const line = document.createElement("span");
        line.textContent = text;
        row.append(line);
      }
      row.addEventListener("click", () => select(at));
      rows.push(row);
    }
    byId("rows").replaceChildren(...rows);
    if (state.at >= 0) list.setAttribute("aria-activedescendant", `row-${state.at}`);
    else list.removeAttribute("aria-activedescendant");
  };
  const select = (at) => {
    state.at = at;
    byId("sample").hidden = at < 0;
    if (at >= 0) {
      const top = at * ROW;
      if (top < list.scrollTop) list.scrollTop = top;
      if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
      open(state.index.items[state.shown[at]]).catch(fail);
    }
    paint();
  };
  const step = (by) => { if (state.shown.length) select(Math.min(state.shown.length - 1, Math.max(0, state.at + by))); };
  const fail = (error) => {
    byId("trouble").textContent = error.message;
    byId("trouble").hidden = false;
  };

  // ---- one sample ----
  const open = async (item) => {
    const turn = (state.turn += 1);
    const detail = JSON.parse(new TextDecoder().decode(await slice([item[8], item[9]], item[10])));
    const picture = detail.picture && detail.picture.at
      ? await createImageBitmap(new Blob([await slice(detail.picture.at, detail.picture.bytes)], { type: detail.picture.type })) : null;
    if (turn !== state.turn) return;
    byId("trouble").hidden = true;
    state.detail = detail;
    state.picture = picture;
    state.family = state.index.families[item[0]];
    const facts = [item[1], item[2] && `image ${item[2]}`, state.family.model, `${state.family.benchmark} (${state.family.split})`,
      state.index.groups[item[3]], state.index.types[item[4]], detail.width && `${detail.width} x ${detail.height} px`];
    byId("question").textContent = detail.question || "(no question)";
    byId("facts").textContent = facts.filter(Boolean).join(" · ");
    byId("problem").hidden = !detail.error;
    byId("problem").textContent = detail.error ? `Failed: ${detail.error}` : "";
    byId("choices").textContent = [detail.choices && detail.choices.length ? `Choices: ${detail.choices.join(" | ")}` : "",
      detail.reference === null ? "" : `Reference: ${detail.reference}`].filter(Boolean).join("\n");
    answers();
    offer();
    await overlay();
  };
  const cell = (text, kind) => {
    const made = document.createElement(kind === "th" ? "th" : "td");
    if (kind === "th") made.setAttribute("scope", "row");
    else if (kind) made.className = kind;
    made.textContent = text;
    return made;
  };
  const answers = () => {
    const was = new Map(state.detail.answers.map((one) => [one.method, one]));
    const item = state.index.items[state.shown[state.at]];
    byId("answers").closest(".scroll").hidden = !state.detail.answers.length;
    byId("answers").replaceChildren(...state.detail.answers.map((one) => {
      const row = document.createElement("tr");
      const base = state.family.base[one.method];
      const word = WORDS[item[6][one.method]];
      const changed = base < 0 || !was.has(base) ? "" : change(item[6][one.method], item[6][base]);
      const tokens = one.mask && one.mask.kept ? `${one.mask.count} of ${one.mask.rows * one.mask.cols}` : "";
      row.append(cell(state.family.methods[one.method], "th"), cell(one.error === null ? one.answer ?? "" : one.error),
        cell(word, word), cell(changed, changed), cell(one.confidence === null ? "" : one.confidence.toFixed(3)), cell(tokens));
      return row;
    }));
  };
  const offer = () => {
    const heats = [];
    state.detail.probes.forEach((one, p) => {
      if (!one.map) return;
      heats.push([`${p}/0`, `${state.family.probes[p]}: relative to the general prompt`], [`${p}/1`, `${state.family.probes[p]}: the question's own`]);
    });
    const masks = state.detail.answers.filter((one) => one.mask);
    for (const one of masks) if (one.mask.triage) heats.push([`t/${one.method}`, `triage map of ${state.family.methods[one.method]}`]);
    fill(byId("heat"), [...heats, ["off", "none"]]);
    fill(byId("mask"), [["", "none"], ...masks.filter((one) => one.mask.kept).map((one) => [String(one.method), state.family.methods[one.method]])]);
    byId("controls").disabled = !state.detail.width;
  };
  const source = () => {
    const [where, which] = byId("heat").value.split("/");
    if (where === "off") return null;
    if (where === "t") {
      const { mask } = state.detail.answers.find((one) => one.method === Number(which));
      return { at: mask.triage, size: mask.rows * mask.cols, rows: mask.rows, cols: mask.cols, box: mask.box, top: mask.top, layers: 0 };
    }
    const { map } = state.detail.probes[Number(where)];
    const layer = Math.min(Number(byId("layer").value), map.layers - 1);
    const size = map.rows * map.cols;
    const skip = (Number(which) * map.layers + layer) * size;
    return { at: [map.at[0], map.at[1] + skip], size, rows: map.rows, cols: map.cols, box: map.box, top: map.tops[Number(which)][layer], layers: map.layers, layer };
  };
  const tile = (rows, cols, colour) => {
    const made = document.createElement("canvas");
    made.width = cols;
    made.height = rows;
    const pen = made.getContext("2d");
    const data = pen.createImageData(cols, rows);
    for (let t = 0; t < rows * cols; t += 1) data.data.set(colour(t), 4 * t);
    pen.putImageData(data, 0, 0);
    return made;
  };
  const overlay = async () => {
    const { detail } = state;
    const turn = state.turn;
    const first = detail.probes.find((one) => one.map);
    const range = byId("layer");
    if (first) {
      if (Number(range.max) !== first.map.layers - 1) {
        range.max = String(first.map.layers - 1);
        range.value = String(state.family.layers[detail.probes.indexOf(first)]);
      }
    }
    const heat = source();
    range.disabled = !heat || !heat.layers;
    byId("layer-value").textContent = heat && heat.layers ? `${heat.layer} of 0 to ${heat.layers - 1}` : "";
    byId("opacity-value").textContent = `${byId("opacity").value} %`;
    const values = heat && heat.at ? await slice(heat.at, heat.size) : null;
    const masked = byId("mask").value === "" ? null : detail.answers.find((one) => one.method === Number(byId("mask").value)).mask;
    const kept = masked ? await slice(masked.kept, masked.rows * masked.cols) : null;
    if (turn !== state.turn) return;
    draw(heat, values, masked, kept);
  };
  const draw = (heat, values, masked, kept) => {
    const { detail, picture } = state;
    const canvas = byId("canvas");
    canvas.hidden = !detail.width;
    const said = [];
    if (detail.width) {
      const scale = 720 / Math.max(detail.width, detail.height);
      canvas.width = Math.max(1, Math.round(detail.width * scale));
      canvas.height = Math.max(1, Math.round(detail.height * scale));
      const pen = canvas.getContext("2d", { willReadFrequently: true });
      const x = canvas.width / detail.width;
      const y = canvas.height / detail.height;
      const over = (made, box) => pen.drawImage(made, box[0] * x, box[1] * y, (box[2] - box[0]) * x, (box[3] - box[1]) * y);
      pen.fillStyle = "#6b6b6b";
      pen.fillRect(0, 0, canvas.width, canvas.height);
      if (picture) pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
      said.push(picture ? "Picture" : "No picture");
      if (values && heat.box) {
        pen.globalAlpha = Number(byId("opacity").value) / 100;
        pen.imageSmoothingEnabled = byId("smooth").checked;
        over(tile(heat.rows, heat.cols, (t) => [...state.colours[Math.round(values[t] * 63 / 255)], 255]), heat.box);
        pen.globalAlpha = 1;
        const best = values.indexOf(Math.max(...values));
        said.push(`heat${heat.layers ? ` of layer ${heat.layer}` : ""} strongest in row ${Math.floor(best / heat.cols) + 1} of ${heat.rows}, column ${(best % heat.cols) + 1} of ${heat.cols}`);
      }
      if (kept && masked.box) {
        pen.imageSmoothingEnabled = false;
        over(tile(masked.rows, masked.cols, (t) => (kept[t] ? [0, 0, 0, 0] : [20, 20, 40, 200])), masked.box);
        said.push(`${masked.count} of ${masked.rows * masked.cols} tokens kept`);
      }
      if (byId("boxes").checked) {
        for (const [width, colour] of [[5, "#000"], [2.5, "#fff"]]) {
          pen.lineWidth = width;
          pen.strokeStyle = colour;
          for (const box of detail.boxes) pen.strokeRect(box[0] * x, box[1] * y, (box[2] - box[0]) * x, (box[3] - box[1]) * y);
        }
      }
      said.push(`${detail.boxes.length} boxes`);
    }
    canvas.setAttribute("aria-label", `${said.join("; ")}.`);
    const missing = detail.picture && detail.picture.missing;
    const notes = [missing || "", !detail.width ? "No picture geometry is known for this sample." : "",
      detail.width && !values && !byId("heat").options[1] ? "No heatmap was kept for this sample (--maps none, or no probe run)." : "",
      detail.width && !detail.boxes.length ? "No boxes." : ""];
    byId("note").textContent = notes.filter(Boolean).join(" ");
    byId("scale-text").textContent = heat && heat.top !== null ? `0 to ${heat.top}${byId("heat").value.endsWith("/0") ? " times the general prompt's attention" : ""}` : heat ? "no value above 0" : "";
    const probe = heat && heat.layers ? state.detail.probes[Number(byId("heat").value.split("/")[0])] : null;
    const at = (name) => (probe.metrics[name] && probe.metrics[name][heat.layer] !== null ? probe.metrics[name][heat.layer].toFixed(2) : "none");
    byId("metrics").textContent = probe && probe.metrics ? `Layer ${heat.layer}: attention ratio ${at("ratio")}, KL ${at("kl")}, JS ${at("js")}` : "";
  };

  // ---- controls and keys ----
  const cycle = (select) => {
    select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
    redraw();
  };
  const redraw = () => { if (state.detail && state.at >= 0) overlay().catch(fail); };
  const nudge = (range, by) => { range.value = String(Number(range.value) + by); redraw(); };
  const KEYS = {
    j: () => step(1), k: () => step(-1), "[": () => nudge(byId("layer"), -1), "]": () => nudge(byId("layer"), 1),
    "-": () => nudge(byId("opacity"), -10), "=": () => nudge(byId("opacity"), 10), h: () => cycle(byId("heat")),
    m: () => cycle(byId("mask")), b: () => byId("boxes").click(), "/": () => byId("f-text").focus(),
  };
  const listen = () => {
    for (const name of ["model", "benchmark", "group", "type", "method", "outcome"]) byId(`f-${name}`).addEventListener("change", filter);
    byId("f-text").addEventListener("input", filter);
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    byId("clear").addEventListener("click", () => { byId("filters").reset(); filter(); });
    for (const name of ["heat", "mask", "boxes", "smooth"]) byId(name).addEventListener("change", redraw);
    for (const name of ["layer", "opacity"]) byId(name).addEventListener("input", redraw);
    list.addEventListener("scroll", paint);
    list.addEventListener("keydown", (event) => {
      const page = Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
      const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      step(by);
    });
    document.addEventListener("keydown", (event) => {
      const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
      if (typing || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
      event.preventDefault();
      KEYS[event.key]();
    });
  };
  byId("theme").addEventListener("click", () => {
    const next = { auto: "light", light: "dark", dark: "auto" }[document.documentElement.dataset.theme || "auto"];
    document.documentElement.dataset.theme = next;
    byId("theme").textContent = `Theme: ${next}`;
  });
  const start = async () => {
    state.index = JSON.parse(new TextDecoder().decode(await inflate(byId("index").textContent)));
    const { families, groups, types, items, colours, images } = state.index;
    if (!items.length) return;
    state.colours = colours.map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
    const scale = byId("scale").getContext("2d");
    colours.forEach((hex, at) => { scale.fillStyle = `#${hex}`; scale.fillRect(at, 0, 1, 1); });
    if (!images) byId("opacity").value = byId("opacity").max;
    fill(byId("f-model"), any("any", unique(families.map((f) => f.model))));
    fill(byId("f-benchmark"), any("any", unique(families.map((f) => f.benchmark))));
    fill(byId("f-group"), [["", "any"], ...groups.map((g, at) => [String(at), g || "(none)"])]);
    fill(byId("f-type"), [["", "any"], ...types.map((t, at) => [String(at), t || "(none)"])]);
    fill(byId("f-method"), any("any", unique(families.flatMap((f) => f.methods))));
    fill(byId("f-outcome"), [["", "any"], ...["right", "wrong", "undecided", "unfinished", "failed", "fixed", "broken"].map((o) => [o, o])]);
    byId("browser").hidden = false;
    listen();
    filter();
  };
  start().catch(fail);
})();
