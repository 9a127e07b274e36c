// The page's data: base64 of deflated bytes, in the page or in scripts beside it.
const vgChunks = (() => {
  const KEPT = 12;
  const kept = new Map();
  const waiting = new Map();
  window.vgtoolChunk = (number, text) => {
    const take = waiting.get(number);
    waiting.delete(number);
    if (take) take.forEach((one) => one(text));
  };
  const inflate = async (text) => {
    const letters = atob(text.trim());
    const raw = new Uint8Array(letters.length);
    for (let at = 0; at < raw.length; at += 1) raw[at] = letters.charCodeAt(at);
    const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const fromFile = (number) => new Promise((resolve, reject) => {
    const name = `data/chunk-${String(number).padStart(5, "0")}.js`;
    if (waiting.has(number)) { waiting.get(number).push(resolve); return; }  // it was let go while it was on its way
    const script = document.createElement("script");
    waiting.set(number, [resolve]);
    script.onload = () => script.remove();
    script.onerror = () => { script.remove(); waiting.delete(number); reject(new Error(`${name} is missing: keep the folder data beside this page.`)); };
    script.src = name;
    document.head.append(script);
  });
  const chunk = (number) => {
    let found = kept.get(number);
    if (!found) {
      const inside = document.getElementById(`chunk-${number}`);
      found = (inside ? Promise.resolve(inside.textContent) : fromFile(number)).then(inflate);
      found.catch(() => kept.delete(number));
    }
    kept.delete(number);
    kept.set(number, found);
    while (kept.size > KEPT) kept.delete(kept.keys().next().value);
    return found;
  };
  const slice = async ([number, offset], length) => (await chunk(number)).subarray(offset, offset + length);
  const json = async (place, length) => JSON.parse(new TextDecoder().decode(await slice(place, length)));
  return { inflate, slice, json };
})();
