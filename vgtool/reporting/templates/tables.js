// Tables of the page: sorted by a click on a column, saved as CSV, all unfolded before the page is printed.
(() => {
  const value = (row, at) => {
    const text = row.cells[at] ? row.cells[at].textContent.trim() : "";
    const number = /^[-+]?[\d,]*\.?\d+(e[-+]?\d+)?/i.exec(text.replace(/[−–](?=\d)/, "-"));
    return number ? Number(number[0].replaceAll(",", "")) : text;
  };
  const compare = (a, b) => {
    if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
    return typeof a === "number" ? -1 : 1;
  };
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
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
      const lines = [...table.rows].map((row) => [...row.cells].map((one) => quoted(one.textContent.trim())).join(","));
      const name = `${table.closest("[aria-label]").getAttribute("aria-label").replace(/[^\p{L}\p{N}]+/gu, "-")}.csv`;
      vgPicture.save(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }), name);
    });
    table.closest(".scroll").after(csv);
  }
  window.addEventListener("beforeprint", () => { for (const one of document.querySelectorAll("details")) one.open = true; });
})();
