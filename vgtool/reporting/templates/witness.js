// What a probe asked beside attention, of one sample: the box that the model says, and how far its answer rests on the
// region. Drawn from shapes, so that the page, a saved PNG and a saved SVG show the same.
const vgWitness = (() => {
  const byId = (name) => document.getElementById(name);
  const [REGION, RANDOM, INK, PALE] = ["#0072b2", "#c04a00", "#111111", "#8a8a8a"];
  const [SIZE, LINE, CURVE] = [13, 19, 96];
  const FONT = `${SIZE}px sans-serif`;
  const known = (value) => value !== null && value !== undefined;
  const nats = (value) => value.toFixed(3);
  const capital = (text) => text[0].toUpperCase() + text.slice(1);

  // Of the probe whose map is chosen, else of the first that has one.
  const of = (detail, key) => {
    const own = detail.probes[Number.parseInt(key, 10)];
    const one = own && own.witness ? own : detail.probes.find((probe) => probe.witness);
    return one ? { ...one.witness, layers: one.metrics && one.metrics.ratio ? one.metrics.ratio.length : null } : null;
  };
  const boxes = (witness) => (witness && witness.said) || [];
  const words = (witness) => {
    if (!witness || !witness.outcome) return "";
    if (witness.outcome === "none") return "the model says that there is none";
    if (witness.outcome === "unreadable") return `what the model says is no box that can be read: "${witness.words || ""}"`;
    return `${boxes(witness).length > 1 ? "boxes" : "box"} that the model says${known(witness.iou) ? `, IoU ${witness.iou.toFixed(2)}` : ""}`;
  };
  const reliance = (witness) => {
    if (!witness) return "";
    const parts = [];
    if (known(witness.reliance)) parts.push(`reliance on the region ${nats(witness.reliance)} nats`);
    if (known(witness.random)) parts.push(`on as many random tokens ${nats(witness.random)}`);
    if (known(witness.sufficiency)) parts.push(`sufficiency ${nats(witness.sufficiency)}`);
    if (witness.unmeasured) parts.push(`not measured: ${witness.unmeasured}`);
    return parts.length ? `${capital(parts.join("; "))}.` : "";
  };
  const points = (witness, name) => (witness[name] || []).map((value, at) => [witness.windows[at], value]).filter(([, value]) => known(value));
  const curved = (witness) => Boolean(witness && witness.windows && points(witness, "curve").length);
  const told = (witness) => {
    const said = (name) => points(witness, name).map(([[first, last], value]) => `layers ${first} to ${last}: ${nats(value)}`).join(", ");
    const random = said("random_curve");
    return `Reliance by window of layers, nats. Region: ${said("curve")}.${random ? ` Random tokens: ${random}.` : ""}`;
  };
  const text = (x, y, words_, anchor, tone) => ({ text: words_, x, y, anchor, tone });
  const line = (path, tone, width, dash) => ({ path, tone, width, dash });

  // The curve over layers in a box of `width` x CURVE below `top`; `layer`: where the heat is, or null.
  const curve = (witness, top, width, layer) => {
    const [region, random] = [points(witness, "curve"), points(witness, "random_curve")];
    const all = [0, ...region.map(([, v]) => v), ...random.map(([, v]) => v)];
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const last = Math.max(1, (witness.layers || 0) - 1, ...witness.windows.map(([, end]) => end));
    const [left, right, upper, lower] = [64, width - 12, top + LINE + 4, top + CURVE - LINE];
    const x = (at) => left + (right - left) * at / last;
    const y = (value) => lower - (lower - upper) * (value - low) / (high - low || 1);
    const path = (some) => some.map(([[first, end], value]) => [x((first + end) / 2), y(value)]);
    const shapes = [line([[left, y(0)], [right, y(0)]], PALE, 1, [])];
    if (known(layer)) shapes.push(line([[x(layer), upper], [x(layer), lower]], PALE, 1, [2, 2]));
    for (const [some, tone, dash] of [[random, RANDOM, [5, 4]], [region, REGION, []]]) {
      shapes.push(line(path(some), tone, 2, dash));
      for (const [px, py] of path(some)) shapes.push(line([[px - 2, py], [px + 2, py]], tone, 4, []));
    }
    shapes.push(text(left - 6, upper + 5, nats(high), "end", INK), text(left - 6, lower + 5, nats(low), "end", INK));
    shapes.push(text(left, top + CURVE - 3, "layer 0", "start", INK), text(right, top + CURVE - 3, `${last}`, "end", INK));
    shapes.push(text(left, top + SIZE, "reliance: region", "start", REGION), text(left + 118, top + SIZE, "- - random", "start", RANDOM));
    return shapes;
  };
  const wrapped = (words_, width) => {
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = FONT;
    const lines = [""];
    for (const part of words_.split(/\s+/)) {
      const longer = lines[lines.length - 1] ? `${lines[lines.length - 1]} ${part}` : part;
      if (pen.measureText(longer).width <= width) lines[lines.length - 1] = longer;
      else lines.push(part);
    }
    return lines.filter(Boolean);
  };
  // A colour of the heat as it is over white: clear at 0.
  const onWhite = (tone, share) => `rgb(${tone.map((one) => Math.round(255 + (one - 255) * share)).join(",")})`;
  // What stands below a saved picture of a `width`: what is what, the numbers, the curve.
  const band = (legend, witness, width, layer, colours) => {
    const shapes = [];
    let y = 8;
    const write = (words_, left) => {
      for (const one of wrapped(words_, width - left - 8)) { shapes.push(text(left, y + SIZE, one, "start", INK)); y += LINE; }
    };
    for (const [kind, words_] of legend) {
      const mark = [[10, y + 9], [36, y + 9]];
      if (kind === "said" || kind === "true") shapes.push(...vgPicture.STROKES[kind].map(([w, tone, dash]) => line(mark, tone, w, dash)));
      if (kind === "heat") for (let at = 0; at < 26; at += 1) shapes.push(line([[10 + at, y + 9], [11.5 + at, y + 9]], onWhite(colours[Math.round(at * 63 / 25)], at / 25), 8, []));
      write(words_, 46);
    }
    write(reliance(witness), 10);
    if (curved(witness)) { shapes.push(...curve(witness, y, width, layer)); y += CURVE; }
    return { height: shapes.length ? y + 8 : 0, shapes };
  };
  const paint = (pen, shapes) => {
    pen.font = FONT;
    for (const one of shapes) {
      if (one.text !== undefined) {
        pen.fillStyle = one.tone;
        pen.textAlign = one.anchor;
        pen.fillText(one.text, one.x, one.y);
      } else {
        pen.beginPath();
        one.path.forEach(([x, y], at) => (at ? pen.lineTo(x, y) : pen.moveTo(x, y)));
        pen.setLineDash(one.dash);
        pen.lineWidth = one.width;
        pen.strokeStyle = one.tone;
        pen.stroke();
      }
    }
    pen.setLineDash([]);
  };
  const escaped = (words_) => words_.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd")
    .replace(/[&<>"]/g, (one) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[one]);
  const asSvg = (shapes) => shapes.map((one) => (one.text !== undefined
    ? `<text x="${one.x}" y="${one.y}" text-anchor="${one.anchor}" font-family="sans-serif" font-size="${SIZE}" fill="${one.tone}">${escaped(one.text)}</text>`
    : `<path d="M${one.path.map(([x, y]) => `${Number(x.toFixed(2))} ${Number(y.toFixed(2))}`).join("L")}" fill="none" stroke="${one.tone}" stroke-width="${one.width}" stroke-dasharray="${one.dash.join(" ") || "none"}"/>`)).join("");

  // What is what on a scene: [kind, words] for what is there.
  const legend = (scene, witness, heat) => {
    const found = [];
    if (heat) found.push(["heat", heat]);
    if (scene.boxes.length) found.push(["true", scene.boxes.length > 1 ? "true boxes" : "true box"]);
    const said = words(witness);
    if (said && (scene.said.length || !boxes(witness).length)) found.push([boxes(witness).length ? "said" : "words", said]);
    return found;
  };
  const tell = (shown, witness, layer) => {
    byId("legend").replaceChildren(...shown.map(([kind, words_]) => {
      const [item, key] = [document.createElement("li"), document.createElement("span")];
      key.className = `key ${kind}`;
      if (kind !== "words") item.append(key, " ");
      item.append(words_);
      return item;
    }));
    byId("reliance").textContent = reliance(witness);
    const canvas = byId("curve");
    canvas.hidden = !curved(witness);
    if (canvas.hidden) return;
    [canvas.width, canvas.height] = [360, CURVE];
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    paint(pen, curve(witness, 0, canvas.width, layer));
    canvas.setAttribute("aria-label", told(witness));
  };
  return { of, boxes, legend, tell, band, paint, asSvg };
})();
