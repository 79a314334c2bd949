// Sorting and filtering of the table of classes. Without it the page is complete, and the table stays in its first order.
"use strict";
const table = document.querySelector("#classes table"), body = table.tBodies[0], rows = [...body.rows];
const heads = [...table.tHead.rows[0].cells], search = document.getElementById("search"), group = document.getElementById("group");
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const ofWords = (column) => heads[column].classList.length > 0; // the columns of names; all others hold numbers

function keyOf(row, column) {
  const text = row.cells[column].textContent;
  return ofWords(column) ? text : parseFloat(text);
}

function compare(x, y, sign) {
  const missing = (key) => key === "" || Number.isNaN(key);
  if (missing(x) || missing(y)) return missing(x) - missing(y); // a class without a value comes last in either direction
  return sign * (typeof x === "string" ? collator.compare(x, y) : x - y);
}

function sort(column) {
  const before = heads[column].getAttribute("aria-sort");
  const up = before === null ? ofWords(column) : before === "descending"; // numbers begin with the largest
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
  const keys = new Map(rows.map((row) => [row, keyOf(row, column)]));
  rows.sort((a, b) => compare(keys.get(a), keys.get(b), up ? 1 : -1));
  body.replaceChildren(...rows);
}

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const text = row.cells[0].textContent.toLowerCase();
    row.hidden = !(words.every((word) => text.includes(word)) && (!group.value || row.dataset.g === group.value));
    shown += !row.hidden;
  }
  document.getElementById("shown").textContent = `${shown} of ${rows.length} classes`;
}

heads.forEach((head, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => sort(column));
});
search.addEventListener("input", filter);
group.addEventListener("change", filter);
document.getElementById("tools").hidden = false;
filter();
