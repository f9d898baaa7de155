// "Which side has more words?" for people: two clouds flash, answers become a curve and a CSV. No library, no request.
(function () {
  "use strict";
  const WORDS = ("able also arm back bell best bird blue boat bone book both box cake calm card case city coal coat cold " +
    "corn cup dark day deep door dry dust each east egg end face fact farm fast fire fish flag flat food foot form " +
    "fox game gate gift gold good gray hair half hall hand hat head hill home horn hour ice idea iron jar key king " +
    "lake lamp land late leaf left light lion long loud map milk mind moon neck nest nine north note oak oil old " +
    "open oven page park pen pine play pond quiet rain red rice ring road roof rope rose salt sand seed ship shoe " +
    "sky slow snow soap song soup star stone sun tail tea time town tree vase wall warm wave west wide wind wing wolf " +
    "wood wool yard year").split(" ").filter((word) => word !== "left" && word.length < 6);
  const MEANS = [10, 20, 30], SIZES = [2, 4, 6, 8];  // even: both counts are whole at every mean
  const COLUMNS = 4, ROWS = 10;  // places in a cloud; the largest count is 34
  const COLORS = ["--we-1", "--we-2", "--we-3", "--we-4", "--we-5"], DASHES = ["", "7 4", "2 4", "9 3 2 3", "1 3"];
  const ORDER = ["person", "mean", "m", "n", "answer", "answer_ms", "shown_ms", "how"];
  const CALM = 400;  // at least so many milliseconds lie between two pairs: never three flashes a second

  // --- the design ------------------------------------------------------------------------------

  function generator(seed) {  // mulberry32: the same seed, the same pairs
    let state = seed >>> 0;
    return function () {
      state = (state + 0x6D2B79F5) >>> 0;
      let word = Math.imul(state ^ (state >>> 15), 1 | state);
      word = (word + Math.imul(word ^ (word >>> 7), 61 | word)) ^ word;
      return ((word ^ (word >>> 14)) >>> 0) / 4294967296;
    };
  }

  function shuffled(items, draw) {
    const order = items.slice();
    for (let i = order.length - 1; i > 0; i--) {
      const j = Math.floor(draw() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }

  function design(rounds, draw) {
    const every = [];
    for (let round = 0; round < rounds; round++) {
      const one = [];
      for (const mean of MEANS) for (const size of SIZES) for (const side of [-1, 1]) {
        one.push({ mean: mean, m: mean - side * size / 2, n: mean + side * size / 2 });
      }
      every.push(...shuffled(one, draw));
    }
    return every;
  }

  // --- the curve: P(right) = σ(bias + slope · (n − m)) ---------------------------------------------

  function cells(answers) {
    const found = new Map();
    for (const a of answers) {
      if (a.answer !== "left" && a.answer !== "right") continue;
      const key = a.mean + "," + (a.n - a.m);
      const cell = found.get(key) || { mean: a.mean, difference: a.n - a.m, right: 0, trials: 0 };
      cell.trials += 1;
      if (a.answer === "right") cell.right += 1;
      found.set(key, cell);
    }
    return Array.from(found.values()).sort((a, b) => a.mean - b.mean || a.difference - b.difference);
  }

  const sigmoid = (eta) => 1 / (1 + Math.exp(-eta));

  function isStep(own) {  // does one difference part all answers, left below it and right above?
    const highestLeft = Math.max(-Infinity, ...own.filter((c) => c.right < c.trials).map((c) => c.difference));
    const lowestRight = Math.min(Infinity, ...own.filter((c) => c.right > 0).map((c) => c.difference));
    return highestLeft <= lowestRight ? [highestLeft, lowestRight] : null;
  }

  function valueOf(own, bias, slope) {
    return own.reduce((sum, c) => {
      const eta = bias + slope * c.difference;
      const soft = Math.max(eta, 0) + Math.log1p(Math.exp(-Math.abs(eta)));  // log(1 + e^eta), without overflow
      return sum + c.right * eta - c.trials * soft;
    }, 0);
  }

  function newton(own) {
    let bias = 0, slope = 0;
    for (let round = 0; round < 100; round++) {
      let g0 = 0, g1 = 0, h00 = 0, h01 = 0, h11 = 0;
      for (const c of own) {
        const p = sigmoid(bias + slope * c.difference), weight = c.trials * p * (1 - p), error = c.right - c.trials * p;
        g0 += error; g1 += error * c.difference;
        h00 += weight; h01 += weight * c.difference; h11 += weight * c.difference * c.difference;
      }
      const det = h00 * h11 - h01 * h01;
      if (!(det > 1e-12)) break;
      let step0 = (h11 * g0 - h01 * g1) / det, step1 = (h00 * g1 - h01 * g0) / det;
      const before = valueOf(own, bias, slope);
      while (valueOf(own, bias + step0, slope + step1) < before && Math.abs(step0) + Math.abs(step1) > 1e-12) {
        step0 /= 2; step1 /= 2;
      }
      bias += step0; slope += step1;
      if (Math.abs(step0) + Math.abs(step1) < 1e-10) break;
    }
    return { bias: bias, slope: slope };
  }

  function fit(own) {
    const trials = own.reduce((sum, c) => sum + c.trials, 0), right = own.reduce((sum, c) => sum + c.right, 0);
    if (!trials) return { problem: "no answers" };
    if (right === 0 || right === trials) return { problem: "all answers on one side" };
    if (new Set(own.map((c) => c.difference)).size < 2) return { problem: "one difference only" };
    const step = isStep(own);
    if (step) return { jnd: 0, pse: (step[0] + step[1]) / 2, step: true };
    const found = newton(own);
    if (!(found.slope > 0)) return { problem: "no better than chance" };
    return { jnd: Math.log(3) / found.slope, pse: -found.bias / found.slope, bias: found.bias, slope: found.slope };
  }

  function exponent(rows) {  // slope of log JND against log mean, by least squares
    const known = rows.filter((row) => row.fit.jnd > 0).map((row) => [Math.log(row.mean), Math.log(row.fit.jnd)]);
    if (known.length < 2) return null;
    const middle = [0, 1].map((i) => known.reduce((sum, point) => sum + point[i], 0) / known.length);
    const up = known.reduce((sum, p) => sum + (p[0] - middle[0]) * (p[1] - middle[1]), 0);
    return up / known.reduce((sum, p) => sum + (p[0] - middle[0]) ** 2, 0);
  }

  function results(answers) {
    const every = cells(answers);
    return Array.from(new Set(every.map((c) => c.mean))).map(function (mean) {
      const own = every.filter((c) => c.mean === mean);
      const trials = own.reduce((sum, c) => sum + c.trials, 0);
      const correct = own.reduce((sum, c) => sum + (c.difference > 0 ? c.right : c.trials - c.right), 0);
      return { mean: mean, cells: own, trials: trials, correct: correct / trials, fit: fit(own) };
    });
  }

  // --- CSV -------------------------------------------------------------------------------------

  function toCsv(answers) {
    // a leading =, +, - or @ would be a formula to a spreadsheet
    const safe = (text) => /^[=+\-@\t]/.test(text) ? "'" + text : text;
    const field = (value) => {
      const text = typeof value === "number" ? String(value) : safe(String(value === undefined ? "" : value));
      return /[",\n\r]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
    };
    return [ORDER.join(","), ...answers.map((a) => ORDER.map((name) => field(a[name])).join(","))].join("\n") + "\n";
  }

  function rowsOf(text) {
    const rows = [[""]];
    let quoted = false;
    for (let i = 0; i < text.length; i++) {
      const c = text[i], row = rows[rows.length - 1];
      if (quoted && c === '"' && text[i + 1] === '"') { row[row.length - 1] += '"'; i++; }
      else if (c === '"') quoted = !quoted;
      else if (!quoted && c === ",") row.push("");
      else if (!quoted && (c === "\n" || c === "\r")) rows.push([""]);
      else row[row.length - 1] += c;
    }
    return rows.filter((row) => row.length > 1);
  }

  function fromCsv(text) {
    const rows = rowsOf(text.replace(/^\ufeff/, "")), names = rows.shift() || [];
    const missing = ["person", "mean", "m", "n", "answer"].filter((name) => !names.includes(name));
    if (missing.length) throw new Error("it has no column " + missing.join(", "));
    return rows.map(function (row, index) {
      const a = Object.fromEntries(names.map((name, i) => [name, row[i] === undefined ? "" : row[i]]));
      ["mean", "m", "n"].forEach((name) => { a[name] = a[name].trim() === "" ? NaN : Number(a[name]); });
      const whole = Number.isInteger(a.m) && Number.isInteger(a.n) && a.m > 0 && a.n > 0 && a.mean > 0;
      if (!whole || !["left", "right", ""].includes(a.answer)) {
        throw new Error("line " + (index + 2) + " needs whole numbers m and n, a mean, and left, right or nothing");
      }
      return a;
    });
  }

  // --- drawing ---------------------------------------------------------------------------------

  const SVG = "http://www.w3.org/2000/svg";

  function drawn(parent, name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  function plot(svg, rows, overRatio) {
    const [left, right, top, bottom] = [46, 470, 12, 220];
    const scaled = (mean, d) => overRatio ? d / (2 * mean) : d;
    const widest = Math.max(...rows.flatMap((r) => r.cells.map((c) => Math.abs(scaled(r.mean, c.difference))))) * 1.06;
    const x = (value) => left + (right - left) * (value / widest + 1) / 2, y = (p) => bottom - (bottom - top) * p;
    svg.replaceChildren();
    for (const p of [0, 0.5, 1]) {
      drawn(svg, "line", { x1: left, x2: right, y1: y(p), y2: y(p), class: "we-grid" });
      drawn(svg, "text", { x: left - 6, y: y(p) + 4, "text-anchor": "end" }, String(p));
    }
    for (const share of [-1, -0.5, 0, 0.5, 1]) {
      const value = share * widest / 1.06;
      drawn(svg, "text", { x: x(value), y: bottom + 17, "text-anchor": "middle" }, String(Number(value.toFixed(2))));
    }
    drawn(svg, "text", { x: (left + right) / 2, y: bottom + 36, "text-anchor": "middle" },
      overRatio ? "(n − m) / (n + m)" : "n − m, in words");
    rows.forEach((row, i) => curve(svg, row, i, x, y, scaled));
  }

  function curve(svg, row, index, x, y, scaled) {
    const color = "var(" + COLORS[index % COLORS.length] + ")", own = row.cells.map((c) => c.difference);
    for (const c of row.cells) {
      drawn(svg, "circle", { cx: x(scaled(row.mean, c.difference)), cy: y(c.right / c.trials), r: 4.5, fill: color });
    }
    const [low, high] = [Math.min(...own), Math.max(...own)], points = [];
    if (row.fit.problem) return;
    for (let k = 0; k <= 60; k++) {
      const d = low + (high - low) * k / 60;
      const p = row.fit.step ? Number(d > row.fit.pse) : sigmoid(row.fit.bias + row.fit.slope * d);
      points.push(x(scaled(row.mean, d)) + "," + y(p));
    }
    const dash = DASHES[index % DASHES.length];
    drawn(svg, "polyline", { points: points.join(" "), fill: "none", stroke: color, "stroke-width": 2.2, "stroke-dasharray": dash });
  }

  function cloud(box, count, draw) {
    const places = shuffled(Array.from({ length: COLUMNS * ROWS }, (_, i) => i), draw).slice(0, count);
    box.replaceChildren(...places.map(function (place) {
      const word = document.createElement("span");
      word.textContent = WORDS[Math.floor(draw() * WORDS.length)];
      word.style.left = 100 * (place % COLUMNS + 0.12 + 0.3 * draw()) / COLUMNS + "%";
      word.style.top = 100 * (Math.floor(place / COLUMNS) + 0.1 + 0.3 * draw()) / ROWS + "%";
      return word;
    }));
  }

  function clicks(audio, trial, draw) {  // the left ear, then the right one; seconds until it is over
    let at = audio.currentTime + 0.15;
    [[trial.m, -1], [trial.n, 1]].forEach(function ([count, side]) {
      for (let i = 0; i < count; i++) {
        const tone = audio.createOscillator(), loud = audio.createGain(), pan = audio.createStereoPanner();
        tone.frequency.value = 700; pan.pan.value = side;
        loud.gain.setValueAtTime(0.2, at); loud.gain.exponentialRampToValueAtTime(0.001, at + 0.03);
        tone.connect(loud).connect(pan).connect(audio.destination);
        tone.start(at); tone.stop(at + 0.035);
        at += 0.06 + 0.07 * draw();  // too fast and too uneven to be counted
      }
      at += 0.6;
    });
    return at - 0.6 - audio.currentTime;
  }

  // --- one experiment on the page ------------------------------------------------------------------

  function wake(root) {
    const part = (name) => root.querySelector("[data-we=" + name + "]");
    const still = window.matchMedia("(prefers-reduced-motion: reduce)");
    const boxes = Array.from(root.querySelectorAll(".we-cloud"));
    const seed = Number(root.dataset.seed) || Math.floor(Math.random() * 2 ** 31);
    const draw = generator(seed);
    let answers = [], queue = [], total = 0, current = null, since = 0, timer = null, audio = null, begun = -1e9;

    const say = (text) => { part("status").textContent = text; };
    const off = (button, value) => button.setAttribute("aria-disabled", String(value));
    const isOff = (button) => button.getAttribute("aria-disabled") === "true";
    const blank = () => boxes.forEach((box) => box.replaceChildren());

    function ready() {
      current = null;
      off(part("left"), true); off(part("right"), true);
      off(part("show"), !queue.length);
      off(part("stop"), !queue.length);
    }

    function start() {
      queue = design(Number(part("rounds").value), draw);
      total = queue.length;
      blank(); ready();
      say("Pair 1 of " + total + ". Press Show, look, then answer.");
      part("show").focus();
    }

    function show() {
      if (isOff(part("show")) || performance.now() - begun < CALM) return;
      begun = performance.now();
      off(part("show"), true);
      const trial = queue[0], pause = still.matches || part("how").value === "hear" ? 0 : 350;
      root.classList.toggle("we-cross", pause > 0);
      timer = setTimeout(function () {
        root.classList.remove("we-cross");
        if (part("how").value === "hear") listen(trial); else look(trial);
      }, pause);
    }

    function look(trial) {
      cloud(boxes[0], trial.m, draw); cloud(boxes[1], trial.n, draw);
      const shown = Number(part("time").value);
      if (shown) timer = setTimeout(blank, shown);
      ask(trial, shown || "");
    }

    function listen(trial) {
      audio = audio || new AudioContext();
      audio.resume();
      timer = setTimeout(() => ask(trial, ""), 1000 * clicks(audio, trial, draw));
    }

    function ask(trial, shown) {
      current = Object.assign({ shown_ms: shown, how: part("how").value }, trial);
      since = performance.now();
      off(part("left"), false); off(part("right"), false);
      say("Pair " + (total - queue.length + 1) + " of " + total + ". Which side has more words: left or right?");
    }

    function answer(side) {
      if (!current) return;
      clearTimeout(timer);
      blank();
      const person = part("person").value.trim();
      answers.push(Object.assign(current, { person: person, answer: side, answer_ms: Math.round(performance.now() - since) }));
      queue.shift();
      ready();
      if (queue.length) {
        say("Answered: " + side + ". Next is pair " + (total - queue.length + 1) + " of " + total + ".");
        part("show").focus();
      } else finish();
    }

    function finish() {
      clearTimeout(timer);
      blank(); root.classList.remove("we-cross");
      queue = [];
      ready();
      say("Done. " + answers.length + " answers are in the table below.");
      render();
      if (answers.length) part("results").querySelector("h2").focus();
    }

    function render() {
      const rows = results(answers), box = part("results");
      box.hidden = !rows.length;
      if (!rows.length) return;
      const people = new Set(answers.map((a) => a.person || "nameless"));
      part("who").textContent = answers.length + " answers of " + people.size + (people.size === 1 ? " person." : " people.");
      part("table").replaceChildren(...rows.map(tableRow));
      plot(part("plot"), rows, part("ratio").checked);
      const told = rows.map((r) => "mean " + r.mean + ": " + words(r.fit)).join("; ");
      part("plot").setAttribute("aria-label", "Share of right answers over " +
        (part("ratio").checked ? "the ratio" : "n − m") + ", with a curve for each mean. " + told);
      const gamma = exponent(rows);
      part("exponent").textContent = gamma === null
        ? "No exponent yet: it needs a threshold above zero at two means or more."
        : "Thresholds grow as mean to the power of " + gamma.toFixed(2) + ": 0 is the notes' prediction, 1 is Weber's law. " +
          "How sure that is, the notebook tells.";
    }

    const words = (found) => found.problem || (found.step ? "every answer fits a step" : "JND " + found.jnd.toFixed(1) + " words");

    function tableRow(row, index) {
      const made = document.createElement("tr");
      const texts = ["mean " + row.mean, String(row.trials), Math.round(100 * row.correct) + " %"];
      texts.push(row.fit.problem || (row.fit.step ? "0 (a step)" : row.fit.jnd.toFixed(1)));
      texts.push(row.fit.problem ? "–" : row.fit.pse.toFixed(1));
      texts.push(row.fit.problem ? "–" : (row.fit.jnd / row.mean).toFixed(2));
      texts.forEach(function (text, i) {
        const cell = document.createElement(i ? "td" : "th");
        if (!i) {
          cell.scope = "row";
          cell.style.setProperty("--we-own", "var(" + COLORS[index % COLORS.length] + ")");
        }
        cell.textContent = text;
        made.append(cell);
      });
      return made;
    }

    function save() {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([toCsv(answers)], { type: "text/csv" }));
      link.download = "weber-answers.csv";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }

    async function load(files) {
      for (const file of files) {
        try {
          const read = fromCsv(await file.text());
          answers = answers.concat(read);
          say(read.length + " answers read from " + file.name + ".");
        } catch (error) {
          say(file.name + " was not read: " + error.message + ".");
        }
      }
      part("file").value = "";
      render();
    }

    part("start").addEventListener("click", start);
    part("show").addEventListener("click", show);
    part("stop").addEventListener("click", () => { if (!isOff(part("stop"))) finish(); });
    part("left").addEventListener("click", () => answer("left"));
    part("right").addEventListener("click", () => answer("right"));
    part("ratio").addEventListener("change", render);
    part("save").addEventListener("click", save);
    part("file").addEventListener("change", (event) => load(event.target.files));
    part("clear").addEventListener("click", () => { answers = []; finish(); say("All answers are gone."); part("start").focus(); });
    root.addEventListener("keydown", function (event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const field = /^(INPUT|SELECT)$/.test(event.target.tagName);
      if (!field && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
        event.preventDefault();
        answer(event.key === "ArrowLeft" ? "left" : "right");
      }
      if (event.key !== "Escape") event.stopPropagation();  // the theme turns pages with the arrow keys
    });
    if (still.matches) part("time").value = "1500";
    ready();
    off(part("show"), true);
    part("inside").hidden = false;
  }

  window.mechbookWeber = { cells, design, exponent, fit, fromCsv, generator, results, toCsv };
  const begin = () => document.querySelectorAll(".we-experiment").forEach(wake);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin); else begin();
})();
