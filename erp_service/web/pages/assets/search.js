// Shows of a list what has each word that is typed: in the text of a line, or in its `data-more`. Without this script the
// form asks the service, which finds the same.

const box = document.getElementById("q");
const list = document.getElementById("list");
const count = document.getElementById("count");

function search() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const line of list.querySelectorAll("li")) {
    const text = `${line.textContent} ${line.dataset.more}`.toLowerCase();
    line.hidden = !words.every((word) => text.includes(word));
    found += line.hidden ? 0 : 1;
  }
  for (const section of list.querySelectorAll("section")) {
    section.hidden = !section.querySelector("li:not([hidden])");
  }
  count.textContent = `${found} ${found === 1 ? "problem" : "problems"}`;
  document.getElementById("none").hidden = found > 0;
}

box.addEventListener("input", search);
box.form.addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
// also what a browser has put back into the field
addEventListener("pageshow", search);
