// Taking a sample along: its picture as PNG or SVG, its row as JSON.
const vgTake = (state) => {
  const byId = (name) => document.getElementById(name);
  const item = () => state.index.items[state.shown[state.at]];
  const name = (ending) => `${item()[1].replace(/[^\p{L}\p{N}]+/gu, "-")}.${ending}`;
  // With what the page says beside the picture below it, where a probe asked for more than attention.
  const under = () => {
    const { heat } = state.scene;
    const layer = heat && heat.layers ? heat.layer : null;
    return state.witness ? vgWitness.band(state.legend, state.witness, byId("canvas").width, layer, state.colours) : { height: 0, shapes: [] };
  };
  const png = () => { if (state.scene) vgPicture.whole(byId("canvas"), under()).toBlob((blob) => vgPicture.save(blob, name("png")), "image/png"); };
  const svg = async () => {
    if (!state.scene) return;
    const drawn = vgPicture.svg(state.scene, state.scan && await vgPicture.asUrl(state.scan), under());
    vgPicture.save(new Blob([drawn], { type: "image/svg+xml" }), name("svg"));
  };
  const copy = async () => {
    const row = vgSample.row(state.detail, state.family, item(), state.index.groups[item()[3]]);
    byId("json").value = JSON.stringify(row, null, 1);
    byId("json").hidden = false;
    byId("json").select();
    const done = navigator.clipboard ? await navigator.clipboard.writeText(byId("json").value).then(() => true, () => false) : document.execCommand("copy");
    byId("copied").textContent = done ? "Copied." : "Press Ctrl-C.";
  };
  return { png, svg, copy };
};
