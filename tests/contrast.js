// The texts of a page whose contrast is below 4.5 to 1 (WCAG 2.2, 1.4.3).
const number = (text) => (text.match(/[\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
const over = (top, bottom, share) => top.slice(0, 3).map((c, at) => c * share + bottom[at] * (1 - share));
const behind = (e) => {
  if (!e) return number(getComputedStyle(document.documentElement).colorScheme.includes("dark") ? "18 18 18" : "255 255 255");
  const own = getComputedStyle(e).backgroundColor;
  const tone = own.startsWith("color(srgb") ? number(own.slice(10)).map((c, at) => (at < 3 ? 255 * c : c)) : number(own);
  const share = tone.length > 3 ? tone[3] : 1;
  return share === 0 ? behind(e.parentElement) : over(tone, share < 1 ? behind(e.parentElement) : tone, share);
};
const faded = (e) => (e ? Number(getComputedStyle(e).opacity) * faded(e.parentElement) : 1);
const found = [];
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
  if (!own || !e.checkVisibility() || e.disabled || e.closest("select, script")) continue;
  const ground = behind(e);
  const ink = over(number(getComputedStyle(e).color), ground, faded(e));
  const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) found.push(`${e.tagName} ${e.id || e.className} ${e.textContent.slice(0, 30)}: ${ratio.toFixed(1)}`);
}
return found;

