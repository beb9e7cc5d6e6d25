(function () {
  "use strict";
  var body = document.querySelector("#audits tbody"), rows = Array.from(body.rows), told = document.getElementById("told");
  var search = document.getElementById("search"), choices = Array.from(document.querySelectorAll("select[data-part]"));
  function filter() {
    var words = search.value.toLowerCase().split(/\s+/).filter(Boolean), shown = 0;
    rows.forEach(function (row) {
      var text = row.textContent.toLowerCase();
      var fits = words.every(function (word) { return text.includes(word); }) && choices.every(function (one) {
        return !one.value || row.dataset[one.dataset.part] === one.value;
      });
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    });
    told.textContent = shown + " of " + rows.length + " claims shown";
  }
  function value(row, column) {
    var text = row.cells[column].dataset.value;
    var number = text === "" ? NaN : Number(text);
    return text !== "" && isNaN(number) ? text.toLowerCase() : number;
  }
  function sort(head) {
    var up = head.getAttribute("aria-sort") !== "ascending", column = head.cellIndex;
    Array.from(head.parentNode.cells).forEach(function (other) { other.setAttribute("aria-sort", "none"); });
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    rows.sort(function (one, other) {
      var a = value(one, column), b = value(other, column), missing = [a, b].map(function (x) { return x !== x; });
      if (missing[0] || missing[1]) { return missing[0] - missing[1]; }
      return (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1);
    });
    rows.forEach(function (row) { body.appendChild(row); });
    told.textContent = "Sorted by " + head.textContent.trim() + (up ? ", smallest first" : ", largest first");
  }
  document.querySelectorAll("#audits thead th").forEach(function (head) {
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", function () { sort(head); });
    head.setAttribute("aria-sort", "none");
    head.replaceChildren(button);
  });
  search.addEventListener("input", filter);
  choices.forEach(function (one) { one.addEventListener("change", filter); });
  document.getElementById("tools").hidden = false;
  filter();
})();
