"use strict";
// Tables are sorted by a click on a head: numbers by data-v, all else by text.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
    const down = head.getAttribute("aria-sort") === "descending" ||
      (!head.hasAttribute("aria-sort") && !head.classList.contains("n"));
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "ascending" : "descending");
    const of = (row) => {
      const cell = row.cells[head.cellIndex];
      return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
    };
    const order = (a, b) => {
      const x = of(a), y = of(b);
      if (typeof x === "number" && typeof y === "number") return x - y;
      return String(x).localeCompare(String(y));
    };
    const rows = [...body.rows].sort(order);
    body.append(...(down ? rows : rows.reverse()));
  });
}
// A stage of the legend stands out until it is pressed again.
const keys = [...document.querySelectorAll("button.key")];
for (const key of keys) {
  key.addEventListener("click", () => {
    const on = key.getAttribute("aria-pressed") !== "true";
    for (const other of keys) other.setAttribute("aria-pressed", String(on && other === key));
    const drawing = document.querySelector("#time svg");
    drawing.classList.toggle("only", on);
    for (const rect of drawing.querySelectorAll("rect")) {
      rect.classList.toggle("on", on && rect.classList.contains(key.dataset.stage));
    }
  });
}
// Titles of drawings at once, not after the browser's pause, and on touch too.
const tip = document.getElementById("tip");
document.addEventListener("pointerover", (event) => {
  const shape = event.target.closest(".plot rect, .mark");
  const title = shape && (shape.querySelector("title") || shape);
  const text = title && (shape.dataset.tip || (title === shape ? shape.title : title.textContent));
  tip.hidden = !text;
  if (!text) return;
  shape.dataset.tip = text;
  if (title === shape) shape.removeAttribute("title"); else title.textContent = "";
  shape.setAttribute("aria-label", text);
  tip.textContent = text;
});
document.addEventListener("pointermove", (event) => {
  if (tip.hidden) return;
  const wide = tip.offsetWidth, high = tip.offsetHeight;
  tip.style.left = Math.max(4, Math.min(event.clientX + 12, innerWidth - wide - 4)) + "px";
  tip.style.top = (event.clientY + high + 24 > innerHeight ? event.clientY - high - 10 : event.clientY + 16) + "px";
});
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
document.documentElement.dataset.ready = "1";
