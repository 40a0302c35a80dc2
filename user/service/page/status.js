"use strict";

const PERIOD_MS = 2000;
const CHART_SECONDS = 120;
const CHART_WIDTH = 600;
const CHART_HEIGHT = 120;

const byId = (id) => document.getElementById(id);

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function setText(id, text) {
  byId(id).textContent = text;
}

function fill(id, rows) {
  byId(id).tBodies[0].replaceChildren(...rows);
}

// Three digits and a prefix of powers of 1000.
function scaled(number) {
  const prefixes = ["", "k", "M", "G", "T", "P"];
  let prefix = 0;
  while (Math.abs(number) >= 999.5 && prefix < prefixes.length - 1) {
    number /= 1000;
    ++prefix;
  }
  const digits = prefix === 0 || number >= 99.95 ? 0 : number >= 9.995 ? 1 : 2;
  return [number.toFixed(digits), prefixes[prefix]];
}

function count(number) {
  return scaled(number).join("\u2009").trim();
}

function bytes(number) {
  const [digits, prefix] = scaled(number);
  return `${digits}\u2009${prefix}B`;
}

function rate(number) {
  return number > 0 && number < 10 ? number.toFixed(1) : count(number);
}

function duration(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)}\u2009s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}\u2009min`;
  if (seconds < 48 * 3600) return `${(seconds / 3600).toFixed(1)}\u2009h`;
  return `${Math.floor(seconds / 86400)}\u2009days`;
}

function percent(part, whole) {
  if (whole === 0 || part === 0) return "0\u2009%";
  const share = (100 * part) / whole;
  return share < 0.01 ? "<\u20090.01\u2009%" : `${share.toFixed(2)}\u2009%`;
}

function setValue(id, text, unit = "") {
  byId(id).replaceChildren(text, unit ? element("span", "unit", unit) : "");
}

// The rate of a counter between each two samples, as points of {age, value}.
function rates(history, counter) {
  return history.slice(1).map((sample, i) => {
    const seconds = Math.max(history[i].age_seconds - sample.age_seconds, 0.001);
    return {age: sample.age_seconds, value: (sample[counter] - history[i][counter]) / seconds};
  });
}

function latest(points) {
  return points.length === 0 ? 0 : points[points.length - 1].value;
}

function peak(points) {
  return points.reduce((most, point) => Math.max(most, point.value), 0);
}

// 1, 2 or 5 times a power of 10, not below the value.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((bound) => bound >= value);
}

function draw(id, label, points, losses = []) {
  const svg = byId(id);
  const top = roundUp(peak(points));
  const shape = (tag, className, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    made.setAttribute("class", className);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const x = (point) => (CHART_WIDTH * (1 - point.age / CHART_SECONDS)).toFixed(1);
  const y = (point) => (CHART_HEIGHT * (1 - point.value / top)).toFixed(1);
  const along = (some) => some.map((point, i) => `${i === 0 ? "M" : "L"}${x(point)} ${y(point)}`);
  const drawn = [0, 0.5, 1].map((share) => shape("line", "grid", {
    x1: 0, x2: CHART_WIDTH, y1: share * CHART_HEIGHT, y2: share * CHART_HEIGHT}));
  if (points.length > 0) {
    const line = along(points).join("");
    const [first, last] = [points[0], points[points.length - 1]];
    drawn.push(shape("path", "area", {
      d: `${line}L${x(last)} ${CHART_HEIGHT}L${x(first)} ${CHART_HEIGHT}Z`}));
    drawn.push(shape("path", "curve", {d: line}));
  }
  if (peak(losses) > 0) drawn.push(shape("path", "loss", {d: along(losses).join("")}));
  svg.replaceChildren(...drawn);
  const [digits, prefix] = scaled(top);
  setText(`${id}-top`, `${Number(digits)}\u2009${prefix}`.trim());
  svg.setAttribute("aria-label", `${label}: now ${rate(latest(points))}, peak ` +
    `${rate(peak(points))} in the last two minutes`);
}

function part(className, share) {
  const made = element("span", className);
  made.style.flex = `0 0 ${100 * share}%`;
  return made;
}

function meter(name, used, limit) {
  const share = limit > 0 ? Math.min(used / limit, 1) : 0;
  const bar = element("div", "bar", part(share > 0.875 ? "lost" : "saved", share));
  bar.setAttribute("role", "meter");
  bar.setAttribute("aria-label", name);
  bar.setAttribute("aria-valuemin", "0");
  bar.setAttribute("aria-valuemax", String(limit));
  bar.setAttribute("aria-valuenow", String(used));
  return element("div", "meter", element("span", "", name), bar,
    element("span", "muted", `${bytes(used)} of ${bytes(limit)}`));
}

function showBooks(books) {
  const present = books.not_saved.filter((entry) => entry.packets > 0)
    .sort((a, b) => b.is_loss - a.is_loss || b.packets - a.packets);
  const leftOut = present.filter((entry) => !entry.is_loss)
    .reduce((sum, entry) => sum + entry.packets, 0);
  const pending = Math.max(books.pending, 0);
  const whole = Math.max(books.seen, 1);
  const bar = byId("books-bar");
  bar.replaceChildren(part("saved", books.saved / whole), part("lost", books.lost / whole),
    part("left-out", leftOut / whole), part("pending", pending / whole));
  bar.setAttribute("aria-label", `of ${count(books.seen)} packets ${percent(books.saved, books.seen)}` +
    ` saved, ${percent(books.lost, books.seen)} lost`);
  const row = (mark, name, meaning, packets, className = "") => element("tr", className,
    element("th", "", mark ? element("span", `mark ${mark}`) : "", name),
    element("td", "meaning", meaning),
    element("td", "number", packets.toLocaleString("en")),
    element("td", "number muted", percent(packets, books.seen)));
  fill("books", [
    row("", "seen", "packets that passed the hooks", books.seen, "sum"),
    row("saved", "saved", "headers are in a published file", books.saved),
    ...present.map((entry) => row(entry.is_loss ? "lost" : "left-out", entry.reason, entry.meaning,
      entry.packets, entry.is_loss ? "bad" : "")),
    row("pending", "pending", "waits in rings, flows and files", books.pending),
  ]);
}

function showInterfaces(status) {
  setText("interface-count", `${status.interfaces_attached} attached, engine ${status.engine}`);
  fill("interfaces", status.interfaces.flatMap((one) => ["ingress", "egress"].map((direction) => {
    const side = one[direction];
    return element("tr", "", element("th", "name", direction === "ingress" ? one.name : ""),
      element("td", "", direction), element("td", "", side.hook),
      element("td", "number", count(side.seen)), element("td", "number", count(side.saved)),
      element("td", side.lost > 0 ? "number bad" : "number", count(side.lost)));
  })));
}

function showFiles(files) {
  setValue("files-published", count(files.published));
  setText("files-more", files.failed > 0 ? `${count(files.failed)} failed` :
    `${bytes(files.stored_bytes)}, ${count(files.waiting)} waiting`);
  fill("files", files.latest.length === 0 ? [empty(4, "none yet")] : files.latest.map((file) =>
    element("tr", "", element("td", "name", file.path),
      element("td", "number", count(file.packets)), element("td", "number", bytes(file.bytes)),
      element("td", "number", `${duration(file.age_seconds)} ago`))));
}

function empty(columns, text) {
  const cell = element("td", "muted", text);
  cell.colSpan = columns;
  return element("tr", "", cell);
}

function showFlows(listing) {
  const end = (address, port) => (address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`);
  fill("flows", listing.flows.length === 0 ? [empty(7, "none is open")] :
    listing.flows.map((flow) => element("tr", "",
      element("td", "name", end(flow.local, flow.local_port)),
      element("td", "name", end(flow.remote, flow.remote_port)),
      element("td", "", flow.state),
      element("td", "number", count(flow.packets)), element("td", "number", bytes(flow.bytes)),
      element("td", "number", duration(flow.age_seconds)),
      element("td", "name muted", flow.uuid ?? "not named yet"))));
}

function show(status) {
  const {books, flows, memory} = status;
  const seen = rates(status.history, "seen");
  const lost = rates(status.history, "lost");
  const begun = rates(status.history, "flows_begun");
  setState(status.state, status.is_ready ? "good" : "bad");
  document.title = `${status.host} \u2013 packet-headers`;
  setText("about", `${status.host}, version ${status.version}, up ${duration(status.uptime_seconds)}`);
  setValue("flows-open", count(flows.capturing));
  setText("flows-more", `${count(flows.embryonic)} attempts, ${count(flows.settled)} settled`);
  setValue("packet-rate", rate(latest(seen)), "/s");
  setText("packets-seen", `${count(books.seen)} in all`);
  setValue("packets-saved", count(books.saved));
  setText("packets-pending", `${count(Math.max(books.pending, 0))} pending`);
  setValue("packets-lost", count(books.lost));
  setText("lost-share", `${percent(books.lost, books.seen)} of those seen`);
  byId("lost-tile").classList.toggle("bad", books.lost > 0);
  setText("packet-peak", `peak ${rate(peak(seen))}${peak(lost) > 0 ? "; red: lost" : ""}`);
  setText("flow-peak", `peak ${rate(peak(begun))}`);
  draw("packet-chart", "Packets per second", seen, lost);
  draw("flow-chart", "New flows per second", begun);
  showBooks(books);
  showInterfaces(status);
  showFiles(status.files);
  byId("memory").replaceChildren(meter("Memory", memory.used_bytes, memory.limit_bytes),
    ...status.rings.map((ring, i) => meter(`Ring ${i}`, ring.used_bytes, ring.size_bytes)));
  byId("content").hidden = false;
}

function setState(text, className) {
  setText("state", text);
  byId("state").className = `pill ${className}`;
}

async function ask(path) {
  const answer = await fetch(path, {cache: "no-store"});
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

async function refresh() {
  if (!document.hidden) {
    const listing = ask("flows?sort=bytes&limit=10").then(showFlows)
      .catch((error) => fill("flows", [empty(7, error.message)]));
    try {
      show(await ask("status"));
      document.body.classList.remove("stale");
    } catch (error) {
      setState("the daemon does not answer", "bad");
      document.body.classList.add("stale");
    }
    await listing;
  }
  setTimeout(refresh, PERIOD_MS);
}

refresh();
