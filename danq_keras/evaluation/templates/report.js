"use strict";
// Sorting and filtering of the per-target table. Rows are read once; NA (an empty value) stands last.
(() => {
  const table = document.getElementById("targets-table");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows].map((element) => ({
    element,
    values: [...element.cells].map((cell) => cell.dataset.v),
    text: element.textContent.toLowerCase(),
  }));

  const sortBy = (column, descending) => {
    const numeric = heads[column].classList.contains("n");
    const collator = new Intl.Collator("en", { numeric: true });
    const compare = numeric ? (a, b) => a - b : collator.compare;
    rows.sort((a, b) => {
      const [x, y] = [a.values[column], b.values[column]];
      if (x === "" || y === "") return (x === "") - (y === "");
      return descending ? compare(y, x) : compare(x, y);
    });
    const all = document.createDocumentFragment();
    for (const row of rows) all.append(row.element);
    body.append(all);
    heads.forEach((head, i) => {
      head.setAttribute("aria-sort", i !== column ? "none" : descending ? "descending" : "ascending");
    });
  };

  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const order = head.getAttribute("aria-sort");
      // figures: the best first, names and numbers of targets: the first first
      const first = head.classList.contains("n") && column !== 0;
      sortBy(column, order === "none" ? first : order === "ascending");
    });
  });

  const shown = document.getElementById("shown");
  document.getElementById("filter").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      row.element.hidden = !words.every((word) => row.text.includes(word));
      if (!row.element.hidden) count += 1;
    }
    shown.value = `${count} of ${rows.length}`;
  });
})();
