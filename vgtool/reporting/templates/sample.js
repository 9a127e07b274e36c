// What is written of one sample: its options, what was answered, and all of it as one JSON row.
const vgSample = (() => {
  const byId = (name) => document.getElementById(name);
  const { WORDS, change } = vgFilters;

  // Options with their letters, unless they carry them; and the reference.
  const options = ({ choices, reference }) => {
    const list = document.createElement("ol");
    (choices || []).forEach((text, n) => {
      const letter = n < 26 ? String.fromCharCode(65 + n) : String(n + 1);
      const line = document.createElement("li");
      line.textContent = new RegExp(`^\\(?${letter}[.):]`, "i").test(text) ? text : `${letter}. ${text}`;
      list.append(line);
    });
    const right = document.createElement("p");
    right.textContent = reference === null ? "" : `Reference: ${reference}`;
    byId("choices").replaceChildren(...(choices && choices.length ? [list] : []), right);
  };
  const cell = (text, kind) => {
    const made = document.createElement(kind === "th" ? "th" : "td");
    if (kind === "th") made.setAttribute("scope", "row");
    else if (kind) made.className = kind;
    made.textContent = text;
    return made;
  };
  const answers = (detail, family, item) => {
    const was = new Set(detail.answers.map((one) => one.method));
    byId("answers").closest(".scroll").hidden = !detail.answers.length;
    byId("answers").replaceChildren(...detail.answers.map((one) => {
      const row = document.createElement("tr");
      const base = family.base[one.method];
      const word = WORDS[item[6][one.method]];
      const changed = base < 0 || !was.has(base) ? "" : change(item[6][one.method], item[6][base]);
      const tokens = one.mask && one.mask.kept ? `${one.mask.count} of ${one.mask.rows * one.mask.cols}` : "";
      row.append(cell(family.methods[one.method], "th"), cell(one.error === null ? one.answer ?? "" : one.error),
        cell(word, word), cell(changed, changed), cell(one.confidence === null ? "" : one.confidence.toFixed(3)), cell(tokens));
      return row;
    }));
  };
  // The maps that can be shown: [key, words] of each.
  const maps = (detail, family) => {
    const found = [];
    detail.probes.forEach((one, p) => {
      if (one.map) found.push([`${p}/0`, `${family.probes[p]}: relative to the general prompt`], [`${p}/1`, `${family.probes[p]}: the question's own`]);
    });
    for (const one of detail.answers) if (one.mask && one.mask.triage) found.push([`t/${one.method}`, `triage map of ${family.methods[one.method]}`]);
    return found;
  };
  const row = (detail, family, item, group) => {
    const { question, prompt, reference, choices, width, height, boxes, error } = detail;
    const told = detail.answers.map((one) => ({
      method: family.methods[one.method], answer: one.answer, outcome: WORDS[item[6][one.method]], confidence: one.confidence, error: one.error,
    }));
    const metrics = detail.probes.map((one, p) => ({ probe: family.probes[p], ...one.metrics, ...(one.witness ? { witness: one.witness } : {}) }));
    const where = { run: family.name, model: family.model, benchmark: family.benchmark, split: family.split };
    return { ...where, id: item[1], image: item[2], group, question, prompt, choices, reference, width, height, boxes, error, answers: told, metrics };
  };
  return { options, answers, maps, row };
})();
