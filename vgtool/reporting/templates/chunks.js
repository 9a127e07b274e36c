// The page's data: base64 of deflated bytes, in the page or in scripts beside it.
const vgChunks = (() => {
  const KEPT = 12;
  const kept = new Map();
  const coming = new Map();  // number: what is told its text, and the promise of it
  window.vgtoolChunk = (number, text) => { if (coming.has(number)) coming.get(number).take(text); };
  const inflate = async (text) => {
    const letters = atob(text.trim());
    const raw = new Uint8Array(letters.length);
    for (let at = 0; at < raw.length; at += 1) raw[at] = letters.charCodeAt(at);
    const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const fromFile = (number) => {
    if (coming.has(number)) return coming.get(number).text;  // it was let go while it was on its way
    const name = `data/chunk-${String(number).padStart(5, "0")}.js`;
    const script = document.createElement("script");
    const one = {};
    coming.set(number, one);
    one.text = new Promise((resolve, reject) => {
      one.take = resolve;
      // A script that has run has handed over its text, if it is whole.
      script.onload = () => reject(new Error(`${name} is damaged: make the report again.`));
      script.onerror = () => reject(new Error(`${name} is missing: keep the folder data beside this page.`));
    }).finally(() => { coming.delete(number); script.remove(); });
    script.src = name;
    document.head.append(script);
    return one.text;
  };
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
