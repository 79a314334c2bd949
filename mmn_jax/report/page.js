// Sorting and filtering of the table of classes. Without it the page is complete, and the table stays in its first order.
"use strict";
const table = document.querySelector("#classes table"), body = table.tBodies[0], rows = [...body.rows];
const heads = [...table.tHead.rows[0].cells], search = document.getElementById("search"), group = document.getElementById("group");
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const value = (row, column) => { const cell = row.cells[column]; return cell.dataset.v ?? cell.textContent; };

function compare(column, sign) {
  const words = column === 0 || column === heads.length - 1;
  return (a, b) => {
    const [x, y] = [value(a, column), value(b, column)];
    if (x === "" || y === "") return (x === "") - (y === ""); // a class without a value comes last in either direction
    return sign * (words ? collator.compare(x, y) : x - y);
  };
}

function sort(column) {
  const down = heads[column].ariaSort === "ascending" || (heads[column].ariaSort === null && column > 0 && column < heads.length - 1);
  const next = heads[column].ariaSort === "descending" ? "ascending" : down ? "descending" : "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", next);
  rows.sort(compare(column, next === "ascending" ? 1 : -1));
  body.append(...rows);
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
