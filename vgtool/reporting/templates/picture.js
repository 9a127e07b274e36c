"use strict";
// One sample's picture: scan, heat, kept tokens and boxes on a canvas, the same as SVG, and what is to be said of it.
const vgPicture = (() => {
  const LONGEST = 720;
  // Share of the peak and width; the strongest last, so that it lies on those whose edges it shares.
  const CONTOURS = [[0.25, 1.4], [0.5, 2.4], [0.75, 3.6]];
  const MARGIN = "#3a3a3a";
  const BLANK = "#6b6b6b";
  // True boxes are white and whole; boxes that the model says are cyan dashes, so that one below them still shows.
  const STROKES = { true: [[5, "#000", []], [2.5, "#fff", []]], said: [[5, "#000", [9, 7]], [2.5, "#00e0ff", [9, 7]]] };

  // The part of the plane to show: the picture, and what the model saw beside it (padding), in the picture's pixels.
  const view = (scene) => {
    const [x0, y0, x1, y1] = [0, 0, scene.width, scene.height];
    const box = scene.heat && scene.heat.style !== "off" ? scene.heat.box : null;
    if (!box) return [x0, y0, x1, y1];
    return [Math.min(x0, box[0]), Math.min(y0, box[1]), Math.max(x1, box[2]), Math.max(y1, box[3])];
  };
  const peak = (scene) => {
    const { heat } = scene;
    if (!heat || !heat.values.length) return null;
    const best = heat.values.reduce((most, value, at) => (value > heat.values[most] ? at : most), 0);
    if (!heat.values[best]) return null;
    const [row, column] = [Math.floor(best / heat.cols), best % heat.cols];
    const x = heat.box[0] + (column + 0.5) * (heat.box[2] - heat.box[0]) / heat.cols;
    const y = heat.box[1] + (row + 0.5) * (heat.box[3] - heat.box[1]) / heat.rows;
    return { row: row + 1, column: column + 1, outside: x < 0 || y < 0 || x > scene.width || y > scene.height };
  };
  const number = (value) => (value === null ? "" : Number(value.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 12, useGrouping: true }));
  // As opaque as it is strong: a token that gets nothing is clear, and the scan shows.
  const colour = (heat, t) => [...heat.colours[Math.round(heat.values[t] * 63 / 255)], heat.values[t]];
  const tile = (rows, cols, fill) => {
    const made = document.createElement("canvas");
    made.width = cols;
    made.height = rows;
    const pen = made.getContext("2d");
    const data = pen.createImageData(cols, rows);
    for (let t = 0; t < rows * cols; t += 1) data.data.set(fill(t), 4 * t);
    pen.putImageData(data, 0, 0);
    return made;
  };
  // Edges of the tokens at or above a share of the peak, as lines [x0, y0, x1, y1] in the picture's pixels.
  const edges = (heat, share) => {
    const inside = (r, c) => r >= 0 && c >= 0 && r < heat.rows && c < heat.cols && heat.values[r * heat.cols + c] >= share * 255;
    const [w, h] = [(heat.box[2] - heat.box[0]) / heat.cols, (heat.box[3] - heat.box[1]) / heat.rows];
    const at = (c, r) => [heat.box[0] + c * w, heat.box[1] + r * h];
    const lines = [];
    for (let r = 0; r <= heat.rows; r += 1) {
      for (let c = 0; c <= heat.cols; c += 1) {
        if (c < heat.cols && inside(r, c) !== inside(r - 1, c)) lines.push([...at(c, r), ...at(c + 1, r)]);
        if (r < heat.rows && inside(r, c) !== inside(r, c - 1)) lines.push([...at(c, r), ...at(c, r + 1)]);
      }
    }
    return lines;
  };
  const cells = (heat) => {
    const [w, h] = [(heat.box[2] - heat.box[0]) / heat.cols, (heat.box[3] - heat.box[1]) / heat.rows];
    const found = [];
    heat.values.forEach((value, t) => {
      if (value) found.push([heat.box[0] + (t % heat.cols) * w, heat.box[1] + Math.floor(t / heat.cols) * h, w, h, colour(heat, t)]);
    });
    return found;
  };

  const outlines = (scene) => [["true", scene.boxes], ["said", scene.said || []]].flatMap(([kind, boxes]) => (
    STROKES[kind].flatMap(([width, tone, dash]) => boxes.map((box) => [width, tone, dash, box]))));

  const draw = (canvas, scene) => {
    const [left, top, right, bottom] = view(scene);
    const scale = LONGEST / Math.max(right - left, bottom - top);
    canvas.width = Math.max(1, Math.round((right - left) * scale));
    canvas.height = Math.max(1, Math.round((bottom - top) * scale));
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    const [x, y] = [(v) => (v - left) * canvas.width / (right - left), (v) => (v - top) * canvas.height / (bottom - top)];
    const over = (made, box) => pen.drawImage(made, x(box[0]), y(box[1]), x(box[2]) - x(box[0]), y(box[3]) - y(box[1]));
    pen.fillStyle = MARGIN;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = BLANK;
    pen.fillRect(x(0), y(0), x(scene.width) - x(0), y(scene.height) - y(0));
    if (scene.picture) over(scene.picture, [0, 0, scene.width, scene.height]);
    const { heat, mask } = scene;
    pen.globalAlpha = heat ? heat.opacity : 1;
    if (heat && heat.style === "heat") {
      pen.imageSmoothingEnabled = heat.smooth;
      over(tile(heat.rows, heat.cols, (t) => colour(heat, t)), heat.box);
    } else if (heat && heat.style === "contour") {
      for (const [share, width] of CONTOURS) {
        pen.beginPath();
        for (const [x0, y0, x1, y1] of edges(heat, share)) { pen.moveTo(x(x0), y(y0)); pen.lineTo(x(x1), y(y1)); }
        for (const [more, tone] of [[1.5, "#000"], [0, "#ffb000"]]) { pen.lineWidth = width + more; pen.strokeStyle = tone; pen.stroke(); }
      }
    } else if (heat && heat.style === "cells") {
      pen.lineWidth = 2;
      for (const [x0, y0, w, h, [r, g, b, a]] of cells(heat)) {
        pen.strokeStyle = `rgba(${r}, ${g}, ${b}, ${a / 255})`;
        pen.strokeRect(x(x0) + 1, y(y0) + 1, x(x0 + w) - x(x0) - 2, y(y0 + h) - y(y0) - 2);
      }
    }
    pen.globalAlpha = 1;
    if (mask) {
      pen.imageSmoothingEnabled = false;
      over(tile(mask.rows, mask.cols, (t) => (mask.kept[t] ? [0, 0, 0, 0] : [20, 20, 40, 200])), mask.box);
    }
    for (const [width, tone, dash, box] of outlines(scene)) {
      pen.lineWidth = width;
      pen.strokeStyle = tone;
      pen.setLineDash(dash);
      pen.strokeRect(x(box[0]), y(box[1]), x(box[2]) - x(box[0]), y(box[3]) - y(box[1]));
    }
    pen.setLineDash([]);
  };

  // The same as a drawing that scales: the scan as it is in the page, everything else as shapes.
  const svg = (scene, scan, under) => {
    const [left, top, right, bottom] = view(scene);
    const round = (v) => Number(v.toFixed(3));
    const line = Math.max(right - left, bottom - top) / LONGEST;
    const parts = [`<rect x="${left}" y="${top}" width="${right - left}" height="${bottom - top}" fill="${MARGIN}"/>`];
    parts.push(`<rect width="${scene.width}" height="${scene.height}" fill="${BLANK}"/>`);
    if (scan) parts.push(`<image href="${scan}" width="${scene.width}" height="${scene.height}" preserveAspectRatio="none"/>`);
    const { heat, mask } = scene;
    if (heat && heat.style === "contour") {
      for (const [share, width] of CONTOURS) {
        const path = edges(heat, share).map(([x0, y0, x1, y1]) => `M${round(x0)} ${round(y0)}L${round(x1)} ${round(y1)}`).join("");
        for (const [more, tone] of [[1.5, "#000"], [0, "#ffb000"]]) parts.push(`<path d="${path}" fill="none" stroke="${tone}" stroke-width="${(width + more) * line}" opacity="${heat.opacity}"/>`);
      }
    } else if (heat && heat.style !== "off") {
      for (const [x0, y0, w, h, [r, g, b, a]] of cells(heat)) {
        const paint = heat.style === "heat" ? `fill="rgb(${r},${g},${b})"` : `fill="none" stroke="rgb(${r},${g},${b})" stroke-width="${2 * line}"`;
        parts.push(`<rect x="${round(x0)}" y="${round(y0)}" width="${round(w)}" height="${round(h)}" ${paint} opacity="${round(a / 255 * heat.opacity)}"/>`);
      }
    }
    if (mask) {
      const [w, h] = [(mask.box[2] - mask.box[0]) / mask.cols, (mask.box[3] - mask.box[1]) / mask.rows];
      mask.kept.forEach((one, t) => {
        if (!one) parts.push(`<rect x="${round(mask.box[0] + (t % mask.cols) * w)}" y="${round(mask.box[1] + Math.floor(t / mask.cols) * h)}" width="${round(w)}" height="${round(h)}" fill="#141428" opacity=".78"/>`);
      });
    }
    for (const [width, tone, dash, box] of outlines(scene)) {
      const dashes = dash.length ? ` stroke-dasharray="${dash.map((one) => one * line).join(" ")}"` : "";
      parts.push(`<rect x="${box[0]}" y="${box[1]}" width="${box[2] - box[0]}" height="${box[3] - box[1]}" fill="none" stroke="${tone}" stroke-width="${width * line}"${dashes}/>`);
    }
    const below = under && under.height ? under.height * line : 0;
    if (below) {
      parts.push(`<rect x="${left}" y="${bottom}" width="${right - left}" height="${below}" fill="#fff"/>`);
      parts.push(`<g transform="translate(${left} ${bottom}) scale(${line})">${vgWitness.asSvg(under.shapes)}</g>`);
    }
    return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${left} ${top} ${right - left} ${bottom - top + below}">${parts.join("")}</svg>\n`;
  };
  // A drawn picture with what stands below it.
  const whole = (canvas, under) => {
    const made = document.createElement("canvas");
    [made.width, made.height] = [canvas.width, canvas.height + Math.ceil(under.height)];
    const pen = made.getContext("2d");
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, made.width, made.height);
    pen.drawImage(canvas, 0, 0);
    pen.translate(0, canvas.height);
    vgWitness.paint(pen, under.shapes);
    return made;
  };
  const asUrl = (blob) => new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
  const save = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  return { draw, svg, whole, peak, number, asUrl, save, STROKES };
})();
