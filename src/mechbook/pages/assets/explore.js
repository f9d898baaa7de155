// Wakes the book's sliders and switchboards. No library, no request; safe to load more than once.
(function () {
  "use strict";
  if (window.mechbookExplore) { window.mechbookExplore.scan(document); return; }

  const STEP = 900;  // milliseconds a frame
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");

  // The theme and JupyterLab listen for arrow keys; shortcuts with Ctrl and the like still pass.
  function keepKeys(element) {
    element.addEventListener("keydown", function (event) {
      if (!event.ctrlKey && !event.metaKey && !event.altKey && event.key !== "Escape") event.stopPropagation();
    });
  }

  function slider(figure) {
    const control = figure.querySelector(".mb-control");
    const frames = Array.from(figure.querySelectorAll(".mb-frame"));
    if (!control || frames.length < 2) return;
    const captions = Array.from(figure.querySelectorAll(".mb-caption"));
    const range = control.querySelector("input");
    const output = control.querySelector("output");
    const [previous, play, next] = ["previous", "play", "next"].map((name) => control.querySelector(".mb-" + name));
    const last = frames.length - 1;
    let timer = null;

    function show(index) {
      range.value = index;
      frames.forEach((frame, i) => { frame.hidden = i !== index; });
      if (captions.length > 1) captions.forEach((caption, i) => caption.classList.toggle("mb-off", i !== index));
      output.textContent = frames[index].dataset.label;
      range.setAttribute("aria-valuetext", frames[index].dataset.label);
      previous.setAttribute("aria-disabled", String(index === 0));
      next.setAttribute("aria-disabled", String(index === last));
    }
    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
    }
    function tick() {
      show(Math.min(last, Number(range.value) + 1));
      if (Number(range.value) === last) stop();
    }
    function step(by) {  // a focused slider speaks its value itself, a button needs the output to
      stop();
      output.setAttribute("aria-live", "polite");
      show(Math.max(0, Math.min(last, Number(range.value) + by)));
    }

    range.addEventListener("input", function () {
      stop();
      output.setAttribute("aria-live", "off");
      show(Number(range.value));
    });
    previous.addEventListener("click", () => step(-1));
    next.addEventListener("click", () => step(1));
    play.addEventListener("click", function () {
      if (timer) { stop(); return; }
      output.setAttribute("aria-live", "off");
      if (Number(range.value) === last) show(0);
      play.textContent = "Pause";
      timer = setInterval(tick, STEP);
    });
    function motion() {
      play.hidden = still.matches;
      if (still.matches) stop();
    }
    still.addEventListener("change", motion);
    ["pointerenter", "focusin"].forEach((kind) => figure.addEventListener(kind, function () {
      frames.forEach((frame) => { frame.loading = "eager"; });
    }, { once: true }));

    keepKeys(control);
    motion();
    show(Number(range.value));
    control.hidden = false;
  }

  function sum(values, on) {
    return values[0].map((_, output) => on.reduce((total, row) => total + values[row][output], 0));
  }

  function softmax(logits) {
    const top = Math.max(...logits);
    const weights = logits.map((logit) => Math.exp(logit - top));
    const total = weights.reduce((one, other) => one + other, 0);
    return weights.map((weight) => weight / total);
  }

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function barCell(value, low, high) {
    const cell = element("td"), track = element("span", "mb-track"), bar = element("span", "mb-bar");
    const span = (high - low) || 1;
    track.setAttribute("aria-hidden", "true");
    track.style.setProperty("--mb-zero", -100 * low / span + "%");
    bar.style.left = 100 * (Math.min(value, 0) - low) / span + "%";
    bar.style.width = 100 * Math.abs(value) / span + "%";
    track.append(bar);
    cell.append(track, element("span", "mb-number", value.toFixed(2).replace(/^-(0\.00)$/, "$1")));
    return cell;
  }

  function switchboard(board) {
    const switches = board.querySelector(".mb-switches");
    if (!switches) return;
    const data = JSON.parse(board.querySelector(".mb-data").textContent);
    const choice = switches.querySelector("select");
    const boxes = Array.from(switches.querySelectorAll("input"));
    const buttons = Array.from(switches.querySelectorAll("[data-preset]"));

    function limits(example, now) {  // one scale for all presets, so that lengths can be compared
      const sums = data.presets.map((preset) => sum(example.values, preset.on)).concat([now]).flat();
      return [Math.min(0, ...sums), Math.max(0, ...sums)];
    }
    function rows(example, logits, chances) {
      const [low, high] = limits(example, logits);
      let order = logits.map((_, index) => index).sort((a, b) => logits[b] - logits[a] || a - b).slice(0, data.shown);
      if (!order.includes(example.answer)) order = order.slice(0, -1).concat(example.answer);
      return order.map(function (index) {
        const row = element("tr", index === example.answer ? "mb-correct" : "");
        const head = element("th");
        head.scope = "row";
        head.append(element("span", "mb-token", data.outputs[index]));
        if (index === example.answer) head.append(" ", element("span", "mb-mark", "correct"));
        row.append(head, barCell(logits[index], low, high), barCell(chances[index], 0, 1));
        return row;
      });
    }
    function verdict(example, logits, chances, on) {
      const best = logits.indexOf(Math.max(...logits));
      const text = [on.length + " of " + boxes.length + " components on."];
      if (Math.max(...logits) - Math.min(...logits) < 1e-9) {
        return ["No prediction: all " + logits.length + " outputs are equally likely (p = " +
          chances[0].toFixed(2) + "). "].concat(text);
      }
      const right = best === example.answer ? "correct" : "not the correct one";
      return ["Top prediction: ", element("strong", "", data.outputs[best]),
        " (p = " + chances[best].toFixed(2) + "), " + right + ". "].concat(text);
    }
    function update() {
      const example = data.examples[Number(choice.value)];
      const on = boxes.filter((box) => box.checked).map((box) => Number(box.value));
      const logits = sum(example.values, on), chances = softmax(logits);
      board.querySelector("tbody").replaceChildren(...rows(example, logits, chances));
      board.querySelector(".mb-verdict").replaceChildren(...verdict(example, logits, chances, on));
      board.querySelector(".mb-prompt").replaceChildren(element("span", "mb-what", "Prompt"),
        ...example.prompt.flatMap((token) => [" ", element("span", "mb-token", token)]));
      buttons.forEach(function (button) {
        button.setAttribute("aria-pressed", String(data.presets[button.dataset.preset].on.join() === on.join()));
      });
    }

    buttons.forEach((button) => button.addEventListener("click", function () {
      const on = new Set(data.presets[button.dataset.preset].on);
      boxes.forEach((box) => { box.checked = on.has(Number(box.value)); });
      update();
    }));
    switches.addEventListener("change", update);
    keepKeys(switches);
    update();
    switches.hidden = false;
  }

  function wake(selector, root, start) {
    const found = Array.from(root.querySelectorAll(selector));
    if (root.matches && root.matches(selector)) found.push(root);
    found.forEach(function (figure) {
      if (figure.dataset.mbAwake) return;
      figure.dataset.mbAwake = "yes";
      start(figure);
    });
  }
  function scan(root) {
    wake(".mb-figure", root, slider);
    wake(".mb-switchboard", root, switchboard);
  }

  window.mechbookExplore = { scan: scan };
  function begin() {
    scan(document);
    new MutationObserver(function (changes) {
      changes.forEach((change) => change.addedNodes.forEach(function (node) { if (node.nodeType === 1) scan(node); }));
    }).observe(document.body, { childList: true, subtree: true });
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
