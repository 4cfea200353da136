"use strict";
// The page: takes the server's states as they come and draws the newest. Names out of the topics
// are only ever set as text, never as markup.

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const count = (value) => whole.format(value);
const cents = (value) => (value == null ? "–" : money.format(value / 100));
const brief = (value) => (value >= 1e6 ? `${(value / 1e6).toFixed(2)}M` : count(value));
const share = (value) => `${(value * 100).toFixed(0)} %`;
const clock = (ms) => new Date(ms).toISOString().slice(11, 19);
const stamp = (ms) => new Date(ms).toISOString().replace("T", " ").slice(0, 19);
const horizonName = () => $("horizon").selectedOptions[0].textContent;

let source = null;      // the EventSource
let latest = null;      // the newest state
let service = null;     // whose capacity is shown
let waiting = false;    // a frame is asked for

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function listen() {
  if (source) source.close();
  const query = new URLSearchParams({ horizon_ms: $("horizon").value });
  const sku = selected();
  if (sku) query.set("sku", sku);
  source = new EventSource(`/v1/stream?${query}`);
  source.onmessage = (event) => {
    latest = JSON.parse(event.data);
    if (!waiting) {
      waiting = true;
      requestAnimationFrame(() => { waiting = false; show(latest); });
    }
  };
  source.onerror = () => {
    showLink({ state: "unreachable", detail: "", missing: [], behind: 0 }, "dashboard offline");
    notice("The dashboard itself does not answer: is `flashcast dashboard` running? Trying again.", "bad");
  };
}

function selected() {
  return new URLSearchParams(location.hash.slice(1)).get("sku");
}

function select(sku) {
  location.hash = sku ? new URLSearchParams({ sku }).toString() : "";
}

function notice(text, kind = "warn") {
  $("notice").hidden = !text;
  $("notice").textContent = text;
  $("notice").dataset.kind = kind;
}

function showLink(link, words) {
  $("link").dataset.state = link.state;
  const behind = link.state === "live" && link.behind > 1000 ? ` · ${count(link.behind)} to read` : "";
  $("link").textContent = (words ?? { live: "live", connecting: "connecting", waiting: "waiting for topics",
    unreachable: "broker unreachable" }[link.state]) + behind;
}

function show(state) {
  const { link, overview, selection } = state;
  showLink(link);
  if (link.state === "unreachable") {
    notice(`${link.detail}. What is shown is as of the last contact; trying again.`, "bad");
  } else if (link.state === "connecting") {
    notice("Connecting to the broker.");
  } else if (link.missing.length) {
    notice(`Not on the broker yet, or not for this user to see: ${link.missing.join(", ")}. `
      + "`flashcast topics create` makes them.");
  } else if (!overview.totals.windows) {
    notice("Connected. No bucket has closed yet: figures come as soon as a worker reads events.");
  } else if (selection.known === false) {
    notice(`No detail is kept of ${selection.sku}: either no record names it, or it came after the first `
      + `${count(overview.skus_max)} SKUs.`);
  } else {
    notice("");
  }
  $("clock").textContent = overview.front_ms ? `${stamp(overview.front_ms)} UTC` : "no bucket closed yet";
  tiles(overview.totals);
  showSelection(selection, overview);
  showCapacity(overview);
  tables(overview, selection.sku);
  footer(overview);
}

function tiles(totals) {
  const list = [
    ["Units sold", brief(totals.units), "units"], ["Revenue", brief(totals.revenue_cents / 100), "revenue"],
    ["Orders", brief(totals.orders), "orders"], ["Clicks", brief(totals.clicks), "clicks"],
    ["Orders per click", totals.clicks ? `${(100 * totals.orders / totals.clicks).toFixed(1)} %` : "–", "conversion"],
    ["Forecasts", brief(totals.forecasts), "forecasts"],
    ["Restocks", brief(totals.restocks), "restocks"], ["Units restocked", brief(totals.restock_units), "restock_units"],
    ["Price changes", brief(totals.price_changes), "price_changes"],
    ["Late events", brief(totals.late), "late", totals.late ? "warn" : ""],
    ["Dead letters", brief(totals.dead_letters), "dead_letters", totals.dead_letters ? "bad" : ""],
  ];
  $("tiles").replaceChildren(...list.map(([name, value, id, kind]) => {
    const tile = element("div", undefined, `tile ${kind ?? ""}`);
    tile.dataset.tile = id;
    tile.append(element("b", value), element("span", name));
    return tile;
  }));
}

function showSelection(selection, overview) {
  const sku = selection.sku;
  const known = selection.known;
  const name = sku ?? "all SKUs";
  $("all").hidden = !sku;
  $("demand-title").textContent = `Units within ${horizonName()}: forecast against actual, ${name}`;
  $("sales-title").textContent = `Sales by ${known && selection.cell_ms > 60000 ? "bucket" : "minute"}, ${name}`;
  const facts = selection.facts;
  $("facts").hidden = !facts;
  if (facts) $("facts").textContent = factLine(facts);
  const demand = known ? selection.demand : null;
  $("score").textContent = demand?.score
    ? `WAPE ${share(demand.score.wape)} · ${share(demand.score.coverage)} inside the interval · ${demand.score.count} points`
    : "";
  $("score").title = sku ? "" : "The interval of the total takes SKUs to be independent of each other.";
  const { line, colour } = Charts;
  Charts.draw("demand", demand && [demand.x, demand.low, demand.high, demand.mean, demand.actual],
    known ? `Nothing to compare yet: the first point is ${horizonName()} after the first bucket.` : "No detail of this SKU.", {
      marks: known ? marks(selection) : [], signature: name,
      series: () => [line("--accent", 0), line("--accent", 0), line("--accent"), line("--actual", 2)],
      bands: () => [{ series: [2, 1], fill: colour("--band") }],
      tip: ([x, low, high, mean, actual]) => `${clock(x * 1000)} sold ${actual ?? "–"}, forecast ${mean?.toFixed(1) ?? "–"}`
        + (low == null ? "" : ` (${low.toFixed(0)} to ${high.toFixed(0)})`),
    });
  const sales = known ? selection.sales : null;
  Charts.draw("sales", sales && [sales.x, sales.units, sales.clicks], "No bucket has closed yet.", {
    signature: name, right: "clicks",
    scales: { ...Charts.fromZero, clicks: Charts.fromZero.y },
    series: () => [{ fill: colour("--bar"), stroke: colour("--bar"), width: 0, points: { show: false },
      paths: uPlot.paths.bars({ size: [.8, 40], align: 1 }) }, line("--clicks", 1.4, { scale: "clicks" })],
    tip: ([x, units, clicks]) => `${clock(x * 1000)}: ${units} units, ${clicks} clicks`,
  });
  const priced = sku && sales;
  $("price-note").textContent = priced && facts ? `now ${cents(facts.price_cents)}, competitor ${cents(facts.competitor_price_cents)}` : "";
  Charts.draw("price", priced && [sales.x, sales.price_cents, sales.competitor_price_cents],
    sku ? "No price seen yet." : "Choose a SKU to see its price and its competitor's.", {
      signature: name, format: cents, marks: priced ? marks(selection, "price") : [],
      scales: { y: { range: (_, low, high) => [low * .95, high * 1.05] } },
      series: () => [line("--price", 2, { paths: uPlot.paths.stepped({ align: 1 }) }),
        line("--clicks", 1.4, { dash: [5, 4] })],
      tip: ([x, price, other]) => `${clock(x * 1000)}: ${cents(price)}, competitor ${cents(other)}`,
    });
}

function factLine(facts) {
  const parts = [`${count(facts.units)} units, ${cents(facts.revenue_cents)} revenue`, `price ${cents(facts.price_cents)}`];
  if (facts.competitor_price_cents) parts.push(`competitor ${cents(facts.competitor_price_cents)}`);
  parts.push(`in stock ${share(facts.in_stock_share)} of the last bucket`, `${count(facts.ordered_units)} units restocked`);
  const end = facts.to_the_end;
  if (end) parts.push(`until ${clock(end.until_ms)}: ${end.mean.toFixed(1)} more (${end.low} to ${end.high})`);
  if (facts.fallback) parts.push(`plain forecast: ${facts.fallback}`);
  return parts.join(" · ");
}

function marks(selection, only) {
  const restocks = only === "price" ? [] : (selection.restocks ?? []).map((one) =>
    ({ x: one.origin_ms / 1000, label: `+${one.order_quantity}`, colour: "--good" }));
  const prices = (selection.prices ?? []).map((one) =>
    ({ x: one.effective_at_ms / 1000, label: cents(one.new_price_cents), colour: "--price" }));
  return [...restocks, ...prices];
}

function showCapacity(overview) {
  const names = Object.keys(overview.capacity).sort();
  if (!names.includes(service)) service = names[0] ?? null;
  $("services").replaceChildren(...(names.length < 2 ? [] : names.map((name) => {
    const button = element("button", name);
    button.type = "button";
    button.setAttribute("aria-pressed", String(name === service));
    button.onclick = () => { service = name; showCapacity(latest.overview); };
    return button;
  })));
  const found = service === null ? null : overview.capacity[service];
  $("replicas").replaceChildren();
  if (found) {
    const { desired_replicas: wanted, horizon_s: ahead, observed_rps: now, valid_until_ms: until } = found.latest;
    for (const level of ["p50", "p90", "p95"]) {
      const item = element("span", `${level} `);
      item.append(element("b", String(wanted[level])));
      $("replicas").append(item);
    }
    $("replicas").append(element("span", `replicas of ${service} in ${ahead} s; now ${now.toFixed(1)} requests a second`, "note"));
    if (overview.front_ms > until) $("replicas").append(element("span", `stale since ${clock(until)}`, "stale"));
  }
  const { line, colour } = Charts;
  Charts.draw("capacity", found && [found.x, found.p50, found.p95, found.observed],
    "No capacity forecast yet.", {
      signature: service ?? "",
      series: () => [line("--accent"), line("--accent", 0), line("--actual", 2)],
      bands: () => [{ series: [2, 1], fill: colour("--band") }],
      tip: ([x, p50, p95, observed]) => `${clock(x * 1000)}: observed ${observed?.toFixed(1) ?? "–"}, `
        + `predicted ${p50?.toFixed(1) ?? "–"} to ${p95?.toFixed(1) ?? "–"}`,
    });
}

function fill(id, rows, empty) {
  const body = $(id).tBodies[0];
  if (rows.length) { body.replaceChildren(...rows); return; }
  const cell = element("td", empty, "none");
  cell.colSpan = $(id).tHead.rows[0].cells.length;
  const row = element("tr");
  row.append(cell);
  body.replaceChildren(row);
}

function row(sku, cells, chosen) {
  const made = element("tr", undefined, sku === null ? "" : "pick");
  for (const [text, kind] of cells) {
    const cell = text instanceof Node ? element("td", undefined, kind) : element("td", text, kind);
    if (text instanceof Node) cell.append(text);
    made.append(cell);
  }
  if (sku !== null) {
    made.tabIndex = 0;
    made.setAttribute("aria-selected", String(sku === chosen));
    made.onclick = () => select(sku);
    made.onkeydown = (event) => { if (event.key === "Enter") select(sku); };
  }
  return made;
}

function tables(overview, chosen) {
  $("sku-count").textContent = `${count(overview.skus)} SKUs`;
  fill("top", overview.top.map((one) => row(one.sku, [
    [one.sku, "sku"], [count(one.units), "n"], [brief(one.revenue_cents / 100), "n"], [cents(one.price_cents), "n"],
    [share(one.in_stock_share), one.in_stock_share < 1 ? "n down" : "n"],
    [one.to_the_end ? `${count(one.to_the_end.mean)} (${one.to_the_end.low}–${one.to_the_end.high})` : "–", "n"],
  ], chosen)), "No SKU has sold yet.");
  $("restock-note").textContent = overview.totals.restocks ? `the last of ${count(overview.totals.restocks)}` : "";
  fill("restocks", overview.restocks.map((one) => row(one.sku, [
    [clock(one.origin_ms), "time"], [one.sku, "sku"], [count(one.order_quantity), "n"], [count(one.inventory_position), "n"],
    [count(one.reorder_point), "n"], [one.critical_ratio.toFixed(2), "n"], [one.reason, "words"],
  ], chosen)), "No restock has been needed yet.");
  $("prices-note").textContent = overview.totals.price_changes ? `the last of ${count(overview.totals.price_changes)}` : "";
  fill("prices", overview.prices.map((one) => {
    const change = one.old_price_cents ? one.new_price_cents / one.old_price_cents - 1 : 0;
    const chips = element("span");
    chips.append(...one.clamps.map((clamp) => element("span", clamp, "chip")));
    return row(one.sku, [
      [clock(one.effective_at_ms), "time"], [one.sku, "sku"],
      [`${cents(one.old_price_cents)} → ${cents(one.new_price_cents)}`, "n"],
      [`${change > 0 ? "+" : ""}${(change * 100).toFixed(1)} %`, change < 0 ? "n down" : "n up"],
      [chips, ""], [one.reason, "words"],
    ], chosen);
  }), "No price has been moved yet.");
  const reasons = [...Object.entries(overview.dead_by_reason), ...Object.entries(overview.late_by_topic)
    .map(([topic, number]) => [`late in ${topic}`, number])];
  $("refused-note").textContent = reasons.map(([reason, number]) => `${reason} ${count(number)}`).join(" · ");
  fill("refused", overview.refused.map((one) => row(null, [
    [one.verdict, ""], [`${one.topic}-${one.partition} @ ${one.offset}`, "time"], [one.reason, ""], [one.detail, "words"],
  ])), "None: every event was on time and readable.");
}

function footer(overview) {
  const { totals } = overview;
  const parts = [`${count(totals.windows)} window records`, `${count(totals.fallbacks)} plain forecasts`];
  if (totals.repeats) parts.push(`${count(totals.repeats)} repeats dropped`);
  if (totals.unreadable) parts.push(`${count(totals.unreadable)} records could not be read`);
  if (totals.without_detail) {
    parts.push(`detail is kept for the first ${count(overview.skus_max)} SKUs; ${count(totals.without_detail)} records of others count in the totals alone`);
  }
  $("footer").textContent = `${parts.join(" · ")}. Times are event time, UTC.`;
}

let typing = 0;
$("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(async () => {
    const text = $("search").value.trim();
    const found = await (await fetch(`/v1/skus?${new URLSearchParams({ q: text })}`)).json();
    $("found").replaceChildren(...found.map((one) => {
      const option = element("option", `${count(one.units)} units`);
      option.value = one.sku;
      return option;
    }));
    if (found.some((one) => one.sku === text)) select(text);
  }, 150);
});
$("search").addEventListener("change", () => select($("search").value.trim()));
$("horizon").addEventListener("change", listen);
$("all").addEventListener("click", () => select(null));
addEventListener("hashchange", () => { $("search").value = selected() ?? ""; listen(); });
addEventListener("resize", () => Charts.resize());

function theme(name) {
  document.documentElement.dataset.theme = name;
  Charts.forget();
  if (latest) show(latest);
}
$("theme").addEventListener("click", () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", next);
  theme(next);
});
theme(localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
$("search").value = selected() ?? "";
listen();
