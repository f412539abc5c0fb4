"use strict";

// Tables: a click on a column's name sorts by it, a second click reverses the order. Empty cells stay last.
function sortBy(table, place, descending) {
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => {
    const cell = row.cells[place];
    const number = cell.dataset.sort;
    return { row, text: cell.textContent, number: number === undefined ? NaN : Number(number) };
  });
  const turn = descending ? -1 : 1;
  keyed.sort((a, b) => {
    if (!a.text || !b.text) return !a.text - !b.text;
    if (!isNaN(a.number) && !isNaN(b.number)) return turn * (a.number - b.number);
    return turn * a.text.localeCompare(b.text, undefined, { numeric: true });
  });
  body.append(...keyed.map((k) => k.row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    sortBy(table, place, descending);
  }));
}

// Choices: show one part of a section, or all.
for (const select of document.querySelectorAll("select[data-for]")) {
  const parts = document.querySelectorAll(`#${select.dataset.for} > [data-key]`);
  const show = () => parts.forEach((part) => { part.hidden = select.value !== "" && part.dataset.key !== select.value; });
  select.addEventListener("change", show);
  show();
}

// Sound: one player at a time.
document.addEventListener("play", (event) => {
  for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
}, true);
