"use strict";
// Search, filter and sort the top tables. Without this script the tables are complete and readable.
for (const form of document.querySelectorAll("form.filters")) {
  const table = document.getElementById(form.dataset.table);
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const column = (kind) => heads.findIndex((head) => head.dataset.kind === kind);
  const output = form.querySelector("output");
  const rows = [...body.rows].map((row, order) => {
    const cells = [...row.cells].map((cell) => cell.textContent);
    const text = cells.filter((_, i) => heads[i].dataset.kind === "text").join("\t").toLowerCase();
    return { row, order, cells, text };
  });

  function value(cell) {
    if (cell === "∞") return Infinity;
    if (cell === "-∞") return -Infinity;
    return parseFloat(cell);
  }

  function filter() {
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const q = parseFloat(form.elements.q.value);
    const effect = form.elements.effect ? parseFloat(form.elements.effect.value) : NaN;
    const qColumn = column("q");
    const effectColumn = column("effect");
    let shown = 0;
    for (const item of rows) {
      const isShown = words.every((word) => item.text.includes(word)) &&
        !(q >= 0 && !(value(item.cells[qColumn]) <= q)) &&
        !(effect >= 0 && !(Math.abs(value(item.cells[effectColumn])) >= effect));
      item.row.hidden = !isShown;
      shown += isShown;
    }
    output.textContent = `${shown} of ${rows.length} rows`;
  }

  function sort(index) {
    const head = heads[index];
    const isDown = head.getAttribute("aria-sort") === "ascending";
    const isText = head.dataset.kind === "text";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
    const sign = isDown ? -1 : 1;
    rows.sort((a, b) => {
      if (isText) return sign * a.cells[index].localeCompare(b.cells[index], undefined, { numeric: true }) || a.order - b.order;
      const x = value(a.cells[index]);
      const y = value(b.cells[index]);
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a.order - b.order;
      return sign * (x < y ? -1 : x > y ? 1 : 0) || a.order - b.order;
    });
    body.append(...rows.map((item) => item.row));
  }

  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.textContent = "";
    head.append(button);
    button.addEventListener("click", () => sort(index));
  });
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  form.hidden = false;
  filter();
}
