(() => {
  const byId = (name) => document.getElementById(name);
  const ROW = 44;
  const LONG = 240;  // letters of a question that would push its picture away
  const { slice } = vgChunks;
  const { WORDS, fill, joined, letters } = vgFilters;
  const { maps } = vgSample;
  const state = { index: null, shown: [], at: -1, detail: null, picture: null, scan: null, twins: [], scene: null, turn: 0 };

  const unique = (values) => [...new Set(values)];
  const any = (text, values) => [["", text], ...values.map((v) => [v, v || "(none)"])];
  // ---- an address for each sample: #run/id ----
  const address = (item) => `#${encodeURIComponent(state.index.families[item[0]].name)}/${encodeURIComponent(item[1])}`;
  const visit = () => {
    const [name, id] = location.hash.slice(1).split("/").map(decodeURIComponent);
    if (id === undefined) return false;
    const found = state.index.items.findIndex((item) => item[1] === id && state.index.families[item[0]].name === name);
    if (found < 0) return fail(new Error(`No sample '${id}' of '${name}' in this report.`));
    if (!state.shown.includes(found)) { byId("filters").reset(); filter(); }
    const at = state.shown.indexOf(found);
    if (at !== state.at) select(at);
    return true;
  };
  const filter = () => {
    const want = {
      model: byId("f-model").value, run: byId("f-run").value, benchmark: byId("f-benchmark").value,
      group: byId("f-group").value === "" ? -1 : Number(byId("f-group").value),
      type: byId("f-type").value === "" ? -1 : Number(byId("f-type").value),
      method: byId("f-method").value, outcome: byId("f-outcome").value, text: byId("f-text").value.trim().toLowerCase(),
    };
    const before = state.shown[state.at];
    state.shown = [];
    state.index.items.forEach((item, n) => { if (vgFilters.passes(state.index, item, want)) state.shown.push(n); });
    vgFilters.sort(state.index, state.shown, byId("f-sort").value, want.method);
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
      const outcomes = letters(state.index, item, byId("f-method").value).slice(0, 3).map(([name, now]) => `${name} ${WORDS[now]}`);
      const whose = state.index.families.length > 1 ? state.index.families[item[0]].short : "";
      for (const texts of [[item[5] || item[1]], [state.index.groups[item[3]], whose, ...outcomes, ...(item[7] ? ["failed"] : [])]]) {
        const line = document.createElement("span");
        joined(line, texts);
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
      const item = state.index.items[state.shown[at]];
      if (location.hash !== address(item)) history.replaceState(null, "", address(item));
      if (item !== state.item) busy(open(item));
    }
    paint();
  };
  const step = (by) => { if (state.shown.length) select(Math.min(state.shown.length - 1, Math.max(0, state.at + by))); };
  // The section says that it is busy until all that was begun has ended.
  let begun = 0;
  const busy = (work) => {
    begun += 1;
    byId("samples").setAttribute("aria-busy", "true");
    return work.catch(fail).finally(() => { if (!(begun -= 1)) byId("samples").removeAttribute("aria-busy"); });
  };
  const fail = (error) => {
    byId("trouble").textContent = error.message;
    byId("trouble").hidden = false;
    return false;
  };

  // ---- one sample ----
  const read = (item) => vgChunks.json([item[8], item[9]], item[10]);
  const open = async (item) => {
    const turn = (state.turn += 1);
    state.item = null;
    const detail = await read(item);
    const scan = detail.picture && detail.picture.at
      ? new Blob([await slice(detail.picture.at, detail.picture.bytes)], { type: detail.picture.type }) : null;
    const picture = scan && await createImageBitmap(scan);
    if (turn !== state.turn) return;
    byId("trouble").hidden = true;
    state.item = item;
    state.detail = detail;
    state.picture = picture;
    state.scan = scan;
    state.twins = state.index.items.filter((one) => one !== item && one[1] === item[1] && state.index.families[one[0]].benchmark === state.index.families[item[0]].benchmark);
    state.family = state.index.families[item[0]];
    const facts = [item[1], item[2] && `image ${item[2]}`, state.family.name, `${state.family.split}, ${state.family.protocol}`,
      state.index.groups[item[3]], state.index.types[item[4]], detail.width && `${detail.width} x ${detail.height} px`];
    byId("question").textContent = detail.question || "(no question)";
    byId("question").className = (detail.question || "").length > LONG ? "long" : "";
    joined(byId("facts"), facts);
    byId("problem").hidden = !detail.error;
    byId("problem").textContent = detail.error ? `Failed: ${detail.error}` : "";
    vgSample.options(detail);
    byId("sent").hidden = !detail.prompt;
    byId("prompt").textContent = detail.prompt || "";
    vgSample.answers(detail, state.family, item);
    offer();
    await overlay();
  };
  const offer = () => {
    const own = maps(state.detail, state.family);
    fill(byId("heat"), [...own, ["off", "none"]]);
    const others = state.twins.map((item) => [`${state.index.items.indexOf(item)}`, `${state.index.families[item[0]].name}: its first map`]);
    fill(byId("beside"), [["", "nothing"], ["scan", "the picture alone"], ...own, ...others.map(([n, text]) => [`item/${n}`, text])]);
    fill(byId("mask"), [["", "none"], ...state.detail.answers.filter((one) => one.mask && one.mask.kept).map((one) => [String(one.method), state.family.methods[one.method]])]);
    byId("controls").disabled = !state.detail.width;
  };
  const heatOf = async (detail, key) => {
    const [where, which] = key.split("/");
    const look = { style: byId("style").value, opacity: Number(byId("opacity").value) / 100, smooth: byId("smooth").checked, colours: state.colours };
    if (where === "t") {
      const { mask } = detail.answers.find((one) => one.method === Number(which));
      const values = await slice(mask.triage, mask.rows * mask.cols);
      return { ...look, values, rows: mask.rows, cols: mask.cols, box: mask.box, top: mask.top, layers: 0, relative: true, capped: mask.capped || 0 };
    }
    const { map } = detail.probes[Number(where)];
    const layer = Math.min(Number(byId("layer").value), map.layers - 1);
    const size = map.rows * map.cols;
    const skip = (Number(which) * map.layers + layer) * size;
    const capped = which === "0" && map.capped ? map.capped[layer] : 0;
    const values = await slice([map.at[0], map.at[1] + skip], size);
    return { ...look, values, rows: map.rows, cols: map.cols, box: map.box, top: map.tops[Number(which)][layer], layers: map.layers, layer, relative: which === "0", capped };
  };
  const sceneOf = (detail, picture, heat, mask) => ({
    width: detail.width, height: detail.height, picture, boxes: byId("boxes").checked ? detail.boxes : [],
    said: byId("said").checked ? vgWitness.boxes(vgWitness.of(detail, byId("heat").value)) : [],
    heat: heat && heat.box ? heat : null, mask: mask && mask.box ? mask : null,
  });
  const beside = async (key) => {
    if (key === "") return null;
    if (key === "scan") return sceneOf(state.detail, state.picture, null, null);
    if (!key.startsWith("item/")) return sceneOf(state.detail, state.picture, await heatOf(state.detail, key), null);
    const item = state.index.items[Number(key.slice(5))];
    const detail = await read(item);
    const first = maps(detail, state.index.families[item[0]])[0];
    return detail.width ? sceneOf(detail, state.picture, first ? await heatOf(detail, first[0]) : null, null) : null;
  };
  const overlay = async () => {
    const { detail } = state;
    const turn = state.turn;
    const first = detail.probes.find((one) => one.map);
    const range = byId("layer");
    if (first && Number(range.max) !== first.map.layers - 1) {
      range.max = String(first.map.layers - 1);
      range.value = String(state.family.layers[detail.probes.indexOf(first)]);
    }
    const key = byId("heat").value;
    const heat = key === "off" || !detail.width ? null : await heatOf(detail, key);
    range.disabled = !heat || !heat.layers;
    byId("layer-value").textContent = heat && heat.layers ? `${heat.layer} of 0 to ${heat.layers - 1}` : "";
    byId("opacity-value").textContent = `${byId("opacity").value} %`;
    const masked = byId("mask").value === "" ? null : detail.answers.find((one) => one.method === Number(byId("mask").value)).mask;
    const mask = masked && { ...masked, kept: await slice(masked.kept, masked.rows * masked.cols) };
    const second = detail.width ? await beside(byId("beside").value) : null;
    if (turn !== state.turn) return;
    state.scene = detail.width ? sceneOf(detail, state.picture, heat, mask) : null;
    show(byId("canvas"), state.scene);
    show(byId("canvas-beside"), second);
    tell(heat);
    byId("stage").className = second ? "two" : "";
    byId("beside-text").textContent = second ? `Beside it: ${[byId("beside").selectedOptions[0].textContent, second.heat && second.heat.style !== "off" && scaled(second.heat)].filter(Boolean).join("; ")}.` : "";
  };
  const show = (canvas, scene) => {
    canvas.hidden = !scene;
    if (!scene) return;
    vgPicture.draw(canvas, scene);
    const said = [scene.picture ? "Picture" : "No picture"];
    const best = vgPicture.peak(scene);
    if (best) said.push(`heat${scene.heat.layers ? ` of layer ${scene.heat.layer}` : ""} strongest in row ${best.row} of ${scene.heat.rows}, column ${best.column} of ${scene.heat.cols}${best.outside ? ", in the padding beside the picture" : ""}`);
    if (scene.mask) said.push(`${scene.mask.count} of ${scene.mask.rows * scene.mask.cols} tokens kept`);
    said.push(`${scene.boxes.length} boxes`);
    if (scene.said.length) said.push(`${scene.said.length} that the model says`);
    canvas.setAttribute("aria-label", `${said.join("; ")}.`);
  };
  const UNITS = { true: "times the general prompt's attention", false: "of the row's attention" };
  // The scale of a map in words; empty where nothing is above 0.
  const scaled = (heat) => (heat.top === null ? "" : `${heat.layers ? `layer ${heat.layer}: ` : ""}0 to ${vgPicture.number(heat.top)} ${UNITS[heat.relative]}`);
  const tell = (heat) => {
    const { detail, scene } = state;
    const missing = detail.picture && detail.picture.missing;
    const best = scene && vgPicture.peak(scene);
    const notes = [missing || "", !detail.width ? "No picture geometry is known for this sample." : "",
      detail.width && !heat && !byId("heat").options[1] ? "No heatmap was kept for this sample (--maps none, or no probe run)." : "",
      best && best.outside ? "The strongest token lies in the padding beside the picture, shown as a dark margin." : "",
      detail.width && !detail.boxes.length ? "No boxes." : ""];
    byId("note").textContent = notes.filter(Boolean).join(" ");
    const off = !heat || heat.style === "off";
    for (const part of ["scale", "ends", "scale-text"]) byId(part).hidden = off;
    const top = heat && heat.top !== null ? vgPicture.number(heat.top) : null;
    byId("scale-low").textContent = top === null ? "" : "0";
    byId("scale-high").textContent = top === null ? "" : top;
    const over = heat && heat.capped ? ` ${heat.capped} tokens above ${state.index.cap} are shown as ${state.index.cap}.` : "";
    byId("scale-text").textContent = top !== null ? `0 is clear, ${top} is full: ${UNITS[heat.relative]}.${over}` : heat ? "no value above 0" : "";
    const probe = heat && heat.layers ? detail.probes[Number(byId("heat").value.split("/")[0])] : null;
    const at = (name) => (probe.metrics[name] && probe.metrics[name][heat.layer] !== null ? probe.metrics[name][heat.layer].toFixed(2) : "none");
    const shown = heat ? scaled(heat) : "";
    state.witness = vgWitness.of(detail, byId("heat").value);
    state.legend = scene ? vgWitness.legend(scene, state.witness, scene.heat && scene.heat.style !== "off" && shown) : [];
    vgWitness.tell(state.legend, state.witness, heat && heat.layers ? heat.layer : null);
    byId("l-said").hidden = !detail.probes.some((one) => vgWitness.boxes(one.witness).length);
    byId("metrics").textContent = probe && probe.metrics ? `Layer ${heat.layer}: attention ratio ${at("ratio")}, KL ${at("kl")}, JS ${at("js")}` : "";
  };
  // ---- controls and keys ----
  const cycle = (select) => {
    select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
    redraw();
  };
  const redraw = () => { if (state.detail && state.at >= 0) busy(overlay()); };
  const nudge = (range, by) => { range.value = String(Number(range.value) + by); redraw(); };
  const KEYS = {
    j: () => step(1), k: () => step(-1), "[": () => nudge(byId("layer"), -1), "]": () => nudge(byId("layer"), 1),
    "-": () => nudge(byId("opacity"), -10), "=": () => nudge(byId("opacity"), 10), h: () => cycle(byId("heat")),
    m: () => cycle(byId("mask")), s: () => cycle(byId("style")), b: () => byId("boxes").click(), w: () => byId("said").click(), "/": () => byId("f-text").focus(),
  };
  const listen = () => {
    for (const name of ["model", "run", "benchmark", "group", "type", "method", "outcome", "sort"]) byId(`f-${name}`).addEventListener("change", filter);
    byId("f-text").addEventListener("input", filter);
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    byId("clear").addEventListener("click", () => { byId("filters").reset(); filter(); });
    for (const name of ["heat", "style", "beside", "mask", "boxes", "said", "smooth"]) byId(name).addEventListener("change", redraw);
    for (const name of ["layer", "opacity"]) byId(name).addEventListener("input", redraw);
    const take = vgTake(state);
    byId("save-png").addEventListener("click", take.png);
    byId("save-svg").addEventListener("click", () => busy(take.svg()));
    byId("copy").addEventListener("click", () => busy(take.copy()));
    window.addEventListener("hashchange", visit);
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
  const start = async () => {
    state.index = JSON.parse(new TextDecoder().decode(await vgChunks.inflate(byId("index").textContent)));
    const { families, groups, types, items, colours, images } = state.index;
    if (!items.length) return;
    state.colours = colours.map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
    const scale = byId("scale").getContext("2d");
    state.colours.forEach((tone, at) => { scale.fillStyle = `rgba(${tone.join(", ")}, ${at / 63})`; scale.fillRect(at, 0, 1, 1); });
    if (!images) byId("opacity").value = byId("opacity").max;
    fill(byId("f-model"), any("any", unique(families.map((f) => f.model))));
    fill(byId("f-run"), any("any", families.map((f) => f.name)));
    byId("l-run").hidden = families.length < 2;
    fill(byId("f-benchmark"), any("any", unique(families.map((f) => f.benchmark))));
    fill(byId("f-group"), [["", "any"], ...groups.map((g, at) => [String(at), g || "(none)"])]);
    fill(byId("f-type"), [["", "any"], ...types.map((t, at) => [String(at), t || "(none)"])]);
    fill(byId("f-method"), any("any", unique(families.flatMap((f) => f.methods))));
    fill(byId("f-outcome"), [["", "any"], ...["right", "wrong", "undecided", "unfinished", "failed", "fixed", "broken"].map((o) => [o, o])]);
    byId("browser").hidden = false;
    listen();
    const wanted = location.hash;  // filter() shows the first sample and would write its address
    filter();
    if (wanted.includes("/")) { history.replaceState(null, "", wanted); visit(); }
  };
  busy(start());
})();
