// Wakes the list of latents: search, order, and whole cards on demand. No library, no request but script files.
(function () {
  "use strict";
  const cards = {}, waiting = {};

  window.mechbookLatents = {
    take: function (part, found) {
      Object.assign(cards, found);
      (waiting[part] || []).forEach((done) => done());
      delete waiting[part];
    },
  };

  function fill(item) {
    const place = item.querySelector(".mb-short");
    const card = cards[item.dataset.latent];
    if (!place || card === undefined) return;
    place.className = "mb-whole";
    place.innerHTML = card;  // made by the book itself, every word of it escaped
  }

  function load(list, item) {
    if (item.dataset.latent in cards) { fill(item); return; }
    const part = item.dataset.part;
    if (waiting[part]) { waiting[part].push(() => fill(item)); return; }
    waiting[part] = [() => fill(item)];
    const script = document.createElement("script");
    script.src = list.dataset.parts + part.padStart(2, "0") + ".js";
    script.onerror = function () { delete waiting[part]; };  // the short card stays
    document.head.append(script);
  }

  function start(list) {
    const form = list.querySelector(".mb-find");
    const items = Array.from(list.querySelectorAll("li[data-latent]"));
    const [find, order, output] = [form.querySelector("input"), form.querySelector("select"), form.querySelector("output")];
    const words = new Map(items.map((item) => [item, item.textContent.toLowerCase()]));

    function show() {
      const asked = find.value.trim().toLowerCase();
      let left = 0;
      items.forEach(function (item) {
        item.hidden = !(asked === "" || asked === item.dataset.latent || words.get(item).includes(asked));
        left += !item.hidden;
      });
      output.textContent = left + " of " + items.length + " latents";
    }
    function sort() {
      const key = order.value, sign = key === "latent" ? 1 : -1;
      items.sort((a, b) => sign * (a.dataset[key] - b.dataset[key]) || a.dataset.latent - b.dataset.latent);
      items[0].parentNode.append(...items);
    }
    function follow() {  // a link to #latent-7 opens it
      const item = items.find((one) => "#" + one.id === window.location.hash);
      if (!item) return;
      find.value = "";
      show();
      item.querySelector("details").open = true;
      item.scrollIntoView();
    }

    items.forEach((item) => item.querySelector("details").addEventListener("toggle", function (event) {
      if (event.target.open) load(list, item);
    }));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("keydown", function (event) {  // the theme listens for letters and arrows
      if (!event.ctrlKey && !event.metaKey && !event.altKey && event.key !== "Escape") event.stopPropagation();
    });
    find.addEventListener("input", show);
    order.addEventListener("change", sort);
    window.addEventListener("hashchange", follow);
    form.hidden = false;
    show();
    follow();
  }

  document.querySelectorAll(".mb-latents").forEach(start);
})();
