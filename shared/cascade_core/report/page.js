"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const NS = "http://www.w3.org/2000/svg";
  const color = (i) => `var(--c${i % 8})`;
  const seconds = data.unit === "seconds";
  // US dollars are shown for a thousand queries: single ones cost too little to read.
  const scale = seconds ? 1 : 1000;
  const per = seconds ? "seconds per query" : `US dollars per 1,000 queries${data.usd_per_second ? ", time included" : ""}`;
  const digits = (x) => x >= 100 ? 0 : x >= 10 ? 1 : x >= 1 ? 2 : x >= 0.1 ? 3 : 4;
  const plain = (x) => (x * scale).toLocaleString("en", { minimumFractionDigits: 0, maximumFractionDigits: digits(x * scale) });
  const cost = (x) => seconds ? `${plain(x)} s` : `$${plain(x)}`;
  const short = (name) => name.split("/").pop();
  // The models that answer most get colours of their own; with more than eight, colours repeat.
  const most = data.models.map((_, k) => Math.max(...data.points.map((point) => point.mix[k])));
  const rank = most.map((_, k) => k).sort((a, b) => most[b] - most[a]);
  const colorOf = (k) => color(rank.indexOf(k));
  const percent = (x, d = 1) => `${(100 * x).toFixed(d)} %`;

  function el(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children.filter((child) => child !== null));
    return node;
  }
  function svg(name, attributes = {}, text) {
    const node = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  }
  function table(node, head, rows) {
    const numeric = head.map((cell) => cell.startsWith("#"));
    const title = (cell, i) => el("th", { scope: "col", class: numeric[i] ? "num" : "" }, cell.replace("#", ""));
    const body = rows.map((row) => el("tr", {}, ...row.map((cell, i) =>
      el(i ? "td" : "th", { ...(i ? {} : { scope: "row" }), class: numeric[i] ? "num" : "" }, cell))));
    node.replaceChildren(el("thead", {}, el("tr", {}, ...head.map(title))), el("tbody", {}, ...body));
  }
  function tiles(node, entries) {
    node.replaceChildren(...entries.map(([name, value, sub]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, value, sub ? el("span", { class: "sub" }, sub) : null))));
  }
  function legend(node, entries) {
    node.replaceChildren(...entries.map(([name, fill, box]) =>
      el("li", {}, el("span", { class: box ? "swatch box" : "swatch", style: `background:${fill}`, "aria-hidden": "true" }), name)));
  }
  function ticks(low, high, wanted) {
    const raw = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw);
    const all = [];
    for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-9; t += step) all.push(Math.abs(t) < step * 1e-9 ? 0 : t);
    return all;
  }

  // -- in short -----------------------------------------------------------------------------------------------
  const certificate = data.certificate;
  $("lede").textContent = data.lede;
  $("made").textContent = data.made;
  const chosen = data.chosen;
  const reference = data.models.find((model) => model.name === data.reference);
  if (certificate) {
    $("hero").classList.add(certificate.reached === false ? "warn" : "good");
    $("promise").textContent = certificate.sentence.replaceAll(" %", "\u00a0%");
  } else {
    $("promise").textContent = `${chosen.label} returns ${percent(chosen.quality / reference.quality)} of ${reference.name}'s quality at ${percent(chosen.cost / reference.cost)} of its cost on these prompts. Without held-out prompts, nothing is promised for new ones.`;
  }
  tiles($("tiles"), [
    ["Quality", percent(chosen.quality), `${reference.name}: ${percent(reference.quality)}`],
    [seconds ? "Time per query" : "Cost per 1,000 queries", cost(chosen.cost), `${reference.name}: ${cost(reference.cost)}`],
    [chosen.cost <= reference.cost ? "Saved" : "Spent more", percent(Math.abs(1 - chosen.cost / reference.cost), 0), `compared with ${reference.name}`],
    ["Strategy", chosen.label, `${data.prompts} prompts looked at`],
  ]);

  // -- frontier -----------------------------------------------------------------------------------------------
  $("frontier-note").textContent = `Each line is what a strategy reaches as its budget grows; diamonds are the models alone, with ${percent(data.level, 0)} intervals. Up and to the left is better.`;
  const frontier = (() => {
    const narrow = innerWidth < 640;
    const W = narrow ? 500 : 960, H = narrow ? 400 : 460, L = 58, R = 24, T = 16, B = 54;
    const xs = data.models.map((m) => m.cost).concat(...data.strategies.map((s) => s.cost), chosen.cost);
    const ys = data.models.flatMap((m) => [m.low, m.high]).concat(...data.strategies.map((s) => s.quality), chosen.low, chosen.high);
    const x0 = 0, x1 = Math.max(...xs) * 1.04 || 1;
    const pad = (Math.max(...ys) - Math.min(...ys)) * 0.08 || 0.05;
    const y0 = Math.max(0, Math.min(...ys) - pad), y1 = Math.min(1.001, Math.max(...ys) + pad);
    const X = (c) => L + (c - x0) / (x1 - x0) * (W - L - R), Y = (q) => H - B - (q - y0) / (y1 - y0) * (H - T - B);
    const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Quality over cost in ${per}. The policy reaches ${percent(chosen.quality)} at ${cost(chosen.cost)}, ${reference.name} ${percent(reference.quality)} at ${cost(reference.cost)}.` });
    for (const t of ticks(y0, y1, 5)) {
      root.append(svg("line", { class: "grid", x1: L, x2: W - R, y1: Y(t), y2: Y(t) }), svg("text", { x: L - 10, y: Y(t) + 4, "text-anchor": "end" }, percent(t, y1 - y0 < 0.06 ? 1 : 0)));
    }
    for (const t of ticks(x0 * scale, x1 * scale, narrow ? 4 : 6)) {
      root.append(svg("text", { x: X(t / scale), y: H - B + 22, "text-anchor": "middle" }, seconds ? plain(t / scale) : `$${plain(t / scale)}`));
    }
    root.append(svg("line", { x1: L, x2: W - R, y1: H - B, y2: H - B, stroke: "var(--soft)" }));
    root.append(svg("text", { x: (L + W - R) / 2, y: H - 8, "text-anchor": "middle" }, per));
    data.strategies.forEach((s, i) => {
      const d = s.cost.map((c, j) => `${j ? "L" : "M"}${X(c).toFixed(1)} ${Y(s.quality[j]).toFixed(1)}`).join("");
      const mine = s.name === chosen.name;
      root.append(svg("path", { d, fill: "none", stroke: color(i), "stroke-width": mine ? 3.5 : 1.8, "stroke-linejoin": "round", opacity: mine ? 1 : 0.8, ...(s.name === "linear" ? { "stroke-dasharray": "5 5" } : {}) }));
    });
    const cross = (x, low, high) => svg("line", { x1: x, x2: x, y1: Y(low), y2: Y(high), stroke: "var(--ink)", "stroke-width": 1.3 });
    const taken = [];
    data.models.forEach((m) => {
      const x = X(m.cost), y = Y(m.quality);
      root.append(cross(x, m.low, m.high), svg("path", { d: `M${x} ${y - 7}L${x + 7} ${y}L${x} ${y + 7}L${x - 7} ${y}Z`, fill: "var(--card)", stroke: "var(--ink)", "stroke-width": 2 }));
      const crowded = data.models.length > 6, beaten = data.models.some((o) => o.cost <= m.cost && o.quality > m.quality);
      if (crowded && beaten) { root.lastChild.append(svg("title", {}, m.name)); return; }
      const end = x > W * 0.72;
      let ly = y + 22;
      while (taken.some(([tx, ty]) => Math.abs(tx - x) < 150 && Math.abs(ty - ly) < 15)) ly += 16;
      taken.push([x, ly]);
      root.append(svg("text", { class: "label", x: end ? x + 6 : x + 10, y: ly, "text-anchor": end ? "end" : "start" }, short(m.name)));
    });
    const cx = X(chosen.cost), cy = Y(chosen.quality);
    root.append(cross(cx, chosen.low, chosen.high), svg("circle", { cx, cy, r: 8, fill: "var(--accent)", stroke: "var(--card)", "stroke-width": 2 }));
    const marker = svg("circle", { r: 12, fill: "none", stroke: "var(--accent)", "stroke-width": 2.5, visibility: "hidden" });
    root.append(marker);
    $("frontier-chart").append(root);
    legend($("frontier-legend"), [...data.strategies.map((s, i) => [s.label, color(i), false]), ["the chosen policy", "var(--accent)", true]]);
    table($("frontier-table"), ["Strategy or model", "#" + per, "#Quality"], [
      ["the chosen policy", cost(chosen.cost), percent(chosen.quality)],
      ...data.models.map((m) => [m.name, cost(m.cost), percent(m.quality)]),
      ...data.strategies.flatMap((s) => s.cost.map((c, j) => [s.label, cost(c), percent(s.quality[j])]).filter((_, j, all) => j % Math.ceil(all.length / 8) === 0)),
    ]);
    return (point) => { marker.setAttribute("cx", X(point.cost)); marker.setAttribute("cy", Y(point.quality)); marker.setAttribute("visibility", "visible"); };
  })();

  // -- budgets ------------------------------------------------------------------------------------------------
  const slider = $("slider");
  slider.max = data.points.length - 1;
  slider.value = data.start;
  legend($("mix-legend"), data.models.map((m, k) => [m.name, colorOf(k), true]));
  const mix = data.models.map((_, k) => el("i", { style: `background:${colorOf(k)}` }));
  $("mix").append(...mix);
  function show(moved) {
    const point = data.points[slider.value];
    const text = `${cost(point.cost)}${seconds ? "" : " per 1,000"}`;
    $("budget-value").textContent = text;
    slider.setAttribute("aria-valuetext", `${text}, quality ${percent(point.quality)}`);
    tiles($("budget-tiles"), [
      ["Quality", percent(point.quality), `${percent(point.low)} to ${percent(point.high)}`],
      [`Of ${reference.name}'s quality`, percent(point.quality / reference.quality)],
      [`Of ${reference.name}'s cost`, percent(point.cost / reference.cost)],
      ["Calls per query", point.calls.reduce((a, b) => a + b, 0).toFixed(2)],
    ]);
    mix.forEach((bar, k) => { bar.style.flexGrow = point.mix[k]; bar.style.display = point.mix[k] < 0.002 ? "none" : ""; });
    $("mix").setAttribute("aria-label", data.models.map((m, k) => `${m.name} ${percent(point.mix[k], 0)}`).join(", "));
    [...$("mix-legend").children].forEach((item, k) => { item.lastChild.textContent = `${data.models[k].name} · ${percent(point.mix[k], 0)}`; item.hidden = point.mix[k] < 0.002; });
    table($("samples"), ["Query", "Models run", "#Quality", "#Cost"], point.samples.map((s, i) => [
      el("span", { class: "q", style: "display:block;font-weight:400" }, data.samples[i]),
      el("span", { class: "path" }, ...s.ran.map((k) => el("span", { class: k === s.kept ? "chip kept" : "chip" }, data.models[k].name + (k === s.kept ? " ✓" : "")))),
      el("span", {}, el("span", { class: "only-phone" }, "quality "), s.quality.toFixed(2)), el("span", {}, el("span", { class: "only-phone" }, "cost "), cost(s.cost)),
    ]));
    if (moved) frontier(point);
  }
  slider.addEventListener("input", () => show(true));
  show(false);

  // -- models -------------------------------------------------------------------------------------------------
  const dearest = Math.max(...data.models.map((m) => m.cost)) || 1;
  const bar = (share, text) => el("span", {}, text, el("span", { class: "bar", "aria-hidden": "true" }, el("i", { style: `width:${(100 * share).toFixed(1)}%` })));
  table($("models-table"), ["Model", "#Quality", "#Interval", `#${seconds ? "Seconds" : "$ per 1,000"}`, "#Answers returned", "#Calls per query", "#Share of the bill"], data.models.map((m, k) => [
    m.name, bar(m.quality, percent(m.quality)), `${percent(m.low)} – ${percent(m.high)}`, bar(m.cost / dearest, cost(m.cost)),
    percent(data.chosen.mix[k], 0), data.chosen.calls[k].toFixed(2), percent(data.chosen.bill[k], 0),
  ]));

  // -- estimates ----------------------------------------------------------------------------------------------
  $("reliability").append(...data.reliability.map((r, k) => {
    const S = 210, P = 30, at = (v) => P + v * (S - P - 8), up = (v) => S - P - v * (S - P - 8);
    const said = (phase) => phase ? `expected calibration error ${phase.ece.toFixed(3)}` : "not estimated";
    const root = svg("svg", { viewBox: `0 0 ${S} ${S}`, role: "img", "aria-label": `${r.model}: before it ran, ${said(r.before)}; after its answer was seen, ${said(r.after)}` });
    for (const t of [0, 0.5, 1]) {
      root.append(svg("line", { class: "grid", x1: at(0), x2: at(1), y1: up(t), y2: up(t) }), svg("text", { x: P - 6, y: up(t) + 4, "text-anchor": "end", style: "font-size:11px" }, t), svg("text", { x: at(t), y: S - P + 16, "text-anchor": "middle", style: "font-size:11px" }, t));
    }
    root.append(svg("line", { x1: at(0), y1: up(0), x2: at(1), y2: up(1), stroke: "var(--soft)", "stroke-dasharray": "3 4" }));
    const most = Math.max(1, ...(r.before?.bins ?? []).concat(r.after?.bins ?? []).map((b) => b[2]));
    for (const [phase, filled] of [[r.before, false], [r.after, true]]) {
      for (const [expected, observed, n] of phase?.bins ?? []) {
        root.append(svg("circle", { cx: at(expected), cy: up(observed), r: 2.5 + 4 * Math.sqrt(n / most), fill: filled ? colorOf(k) : "var(--card)", "fill-opacity": filled ? 0.75 : 0, stroke: colorOf(k), "stroke-width": 1.6 }));
      }
    }
    const sub = `calibration error ${r.before ? r.before.ece.toFixed(3) : "–"} before, ${r.after ? r.after.ece.toFixed(3) : "–"} after`;
    return el("figure", {}, root, el("figcaption", {}, r.model, el("span", { class: "sub" }, sub)));
  }));

  // -- failures -----------------------------------------------------------------------------------------------
  const failures = data.failures;
  $("failures-note").textContent = failures.clusters.length
    ? `${failures.model} scores under one half on ${percent(failures.rate, 0)} of the prompts. Prompts that share words, those it fails on most often first:`
    : `${failures.model} scores under one half on ${percent(failures.rate, 0)} of the prompts; they form no groups worth showing.`;
  $("clusters").append(...failures.clusters.map((c) => el("div", { class: "cluster" },
    el("h3", {}, el("span", {}, c.words.join(", ")), el("span", { class: "rate" }, `fails on ${percent(c.rate, 0)} of ${c.prompts}`)),
    el("ul", {}, ...c.examples.map((text) => el("li", {}, text))))));

  // -- certificate --------------------------------------------------------------------------------------------
  if (!certificate) {
    $("sentence").textContent = "This policy has no certificate.";
    for (const id of ["assumptions", "sharper", "sharper-title"]) $(id).hidden = true;
    document.querySelector("#certificate h3").hidden = true;
    return;
  }
  const state = certificate.reached === null ? "" : certificate.reached ? " The bound reaches it." : " The bound does not reach it yet; more prompts or another target would.";
  $("sentence").textContent = certificate.sentence + (certificate.target ? ` Target: ${certificate.target}.${state}` : "");
  const b = certificate;
  table($("bounds"), ["On average", "#Measured", "#Bound", "Which"], [
    ["Quality", percent(b.quality.measured), percent(b.quality.bound), "at least"],
    [`Of ${b.reference}'s quality`, percent(b.relative_quality.measured), percent(b.relative_quality.bound), "at least"],
    [seconds ? "Seconds per query" : "Cost per 1,000 queries", cost(b.cost.measured), cost(b.cost.bound), "at most"],
    [`Of ${b.reference}'s cost`, percent(b.relative_cost.measured), percent(b.relative_cost.bound), "at most"],
  ]);
  $("assumptions").append(...b.assumptions.map((text) => el("li", {}, text)));
  table($("sharper"), ["Held-out prompts", `#Of ${b.reference}'s quality, at least`], [
    [`${b.prompts} (now)`, percent(b.relative_quality.bound)],
    ...b.sharper.map((s) => [s.prompts.toLocaleString("en"), percent(s.bound)]),
  ]);
})();
