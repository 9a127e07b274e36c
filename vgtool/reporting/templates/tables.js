// Tables of the page: sorted by a click on a column, saved as CSV, folded, all unfolded before the page is printed; the
// page's theme.
(() => {
  const value = (row, at) => {
    const cell = row.cells[at];
    if (cell && cell.dataset.value) return Number(cell.dataset.value);
    const text = cell ? cell.textContent.trim() : "";
    const number = /^[-+]?[\d,]*\.?\d+(e[-+]?\d+)?/i.exec(text.replace(/[−–](?=\d)/, "-"));
    return number ? Number(number[0].replaceAll(",", "")) : text;
  };
  const compare = (a, b) => {
    if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
    return typeof a === "number" ? -1 : 1;
  };
  // A spreadsheet would run what begins like a formula; numbers begin with a sign, too.
  const harmless = (text) => (/^[=@\t\r]|^[-+](?![\d.])/.test(text) ? `'${text}` : text);
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  for (const table of document.querySelectorAll("table.numbers")) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.title = "Sort by this column";
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [value(row, at), row]);
        rows.sort(([a], [b]) => (down ? -compare(a, b) : compare(a, b)));
        body.append(...rows.map(([, row]) => row));
      });
      head.replaceChildren(button);
    });
    const csv = document.createElement("button");
    csv.type = "button";
    csv.className = "csv";
    csv.textContent = "csv";
    csv.title = "Save this table as CSV";
    csv.addEventListener("click", () => {
      const lines = [...table.rows].map((row) => [...row.cells].map((one) => quoted(harmless(one.textContent.trim()))).join(","));
      const name = `${table.closest("[aria-label]").getAttribute("aria-label").replace(/[^\p{L}\p{N}]+/gu, "-")}.csv`;
      vgPicture.save(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }), name);
    });
    const under = document.createElement("div");
    under.className = "under";
    under.append(csv);
    table.closest(".scroll").after(under);
  }
  // Columns beyond the window's edge are counted below their table.
  for (const scroll of document.querySelectorAll(".scroll")) {
    const hint = document.createElement("p");
    hint.className = "more";
    const under = scroll.nextElementSibling;
    if (under && under.className === "under") under.append(hint);
    else scroll.after(hint);
    const count = () => {
      const edge = scroll.getBoundingClientRect().right + 1;
      const row = scroll.querySelector("tr");
      const hidden = row && scroll.clientWidth ? [...row.cells].filter((one) => one.getBoundingClientRect().right > edge).length : 0;
      hint.textContent = hidden ? `${hidden} more ${hidden === 1 ? "column" : "columns"}: scroll sideways →` : "";
    };
    new ResizeObserver(count).observe(scroll);
    new ResizeObserver(count).observe(scroll.firstElementChild);
    scroll.addEventListener("scroll", count, { passive: true });
  }
  const fold = document.getElementById("fold");
  if (fold) {
    fold.hidden = false;
    fold.addEventListener("click", () => {
      const tables = [...document.querySelectorAll("details.table")];
      const open = !tables.some((one) => one.open);
      for (const one of tables) one.open = open;
    });
    const say = () => { fold.textContent = document.querySelector("details.table[open]") ? "Fold all" : "Unfold all"; };
    for (const one of document.querySelectorAll("details.table")) one.addEventListener("toggle", say);
  }
  const theme = document.getElementById("theme");
  theme.addEventListener("click", () => {
    const next = { auto: "light", light: "dark", dark: "auto" }[document.documentElement.dataset.theme || "auto"];
    document.documentElement.dataset.theme = next;
    theme.textContent = `Theme: ${next}`;
  });
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const one of folded) one.open = true;
  });
  window.addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
})();
