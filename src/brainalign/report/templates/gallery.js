"use strict";
// The gallery of a report: search, sort, filter, look at one query. Text only ever becomes text nodes.
(() => {
  const PAGE = 24;
  const data = JSON.parse(document.getElementById("gallery-data").textContent);
  const gallery = document.getElementById("gallery");
  const [search, sort, filter] = ["search", "sort", "filter"].map((k) => document.getElementById("gallery-" + k));
  const list = document.getElementById("gallery-list");
  const status = document.getElementById("gallery-status");
  const more = document.getElementById("gallery-more");
  const dialog = document.getElementById("gallery-query");
  const part = (name) => dialog.querySelector("[data-part=" + name + "]");
  const number = (x, digits = 3) => (x === null ? "–" : Number(x.toPrecision(digits)).toString().replace("-", "−"));
  const rankText = (q) => "rank " + number(q.rank, 6) + " of " + data.n_way;
  const nameOf = (q) => data.images[q.image].name;
  const byName = new Intl.Collator("en", { numeric: true });
  let shown = [], limit = PAGE, at = -1, opener = null;

  const make = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };

  const frame = (image, alt) => {
    const source = data.pictures[image];
    if (!source) return make("span", { class: "frame empty" }, make("span", { class: "absent" }, "no picture"));
    return make("span", { class: "frame" }, make("img", { src: source, alt, decoding: "async" }));
  };

  const orders = {
    best: (a, b) => a.rank - b.rank || (b.margin ?? 0) - (a.margin ?? 0),
    worst: (a, b) => b.rank - a.rank || (a.margin ?? 0) - (b.margin ?? 0),
    close: (a, b) => Math.abs(a.margin ?? 0) - Math.abs(b.margin ?? 0),
    name: (a, b) => byName.compare(nameOf(a), nameOf(b)),
  };
  const filters = {
    all: () => true, right: (q) => q.rank === 1, failures: (q) => q.rank > 1, far: (q) => q.rank > 5,
  };

  const select = () => {
    const wanted = search.value.trim().toLowerCase();
    const fits = (q) => {
      const image = data.images[q.image];
      return (image.name + " " + image.id).toLowerCase().includes(wanted);
    };
    shown = data.queries.filter((q) => filters[filter.value](q) && fits(q)).sort(orders[sort.value]);
    limit = PAGE;
    draw();
  };

  const card = (q) => {
    const right = q.rank === 1;
    const button = make("button", { type: "button", class: "card " + (right ? "right" : "miss"), "aria-haspopup": "dialog" },
      frame(q.image, ""), make("span", { class: "name" }, nameOf(q)),
      make("span", { class: "rank" }, (right ? "✓ " : "") + "rank " + number(q.rank, 6)));
    button.addEventListener("click", () => open(q, button));
    return make("li", {}, button);
  };

  const draw = () => {
    list.replaceChildren(...shown.slice(0, limit).map(card));
    more.hidden = shown.length <= limit;
    const count = Math.min(limit, shown.length), all = data.queries.length;
    status.textContent = !shown.length ? "No query fits. Search for another name, or show all queries."
      : "Showing " + count + " of " + shown.length + (shown.length === 1 ? " query" : " queries")
        + (shown.length < all ? " that fit (" + all + " in all)." : ".");
  };

  const open = (q, from) => {
    opener = from ?? opener;
    at = shown.indexOf(q);
    part("title").textContent = nameOf(q) + ", " + rankText(q);
    const image = data.images[q.image];
    part("shown").replaceChildren(frame(q.image, "Shown image: " + image.name),
      make("div", {}, make("span", { class: "name" }, image.name), make("span", { class: "quiet" }, "shown")));
    part("words").textContent = words(q);
    part("near").replaceChildren(...q.near.map((column, place) => neighbour(q, column, place)));
    part("place").textContent = at < 0 ? "" : at + 1 + " of " + shown.length;
    part("previous").disabled = at <= 0;
    part("next").disabled = at < 0 || at >= shown.length - 1;
    signal(q);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  };

  const words = (q) => {
    const first = data.images[q.near[0]].name, lead = Math.abs(q.margin ?? 0);
    if (q.rank === 1) return "The shown image came first, " + number(lead) + " " + data.lead + " ahead of the next.";
    if (q.near[0] === q.image) return "The shown image shares its place: others have the same score.";
    return first + " came first instead, " + number(lead) + " " + data.lead + " ahead of the shown image.";
  };

  const neighbour = (q, column, place) => {
    const image = data.images[column], right = column === q.image;
    const other = right ? null : data.queries.find((one) => one.image === column);
    const body = [frame(column, (right ? "Shown image, retrieved " : "Retrieved ") + (place + 1) + ": " + image.name),
      make("span", { class: "name" }, image.name), make("span", { class: "quiet" }, number(q.scores[place]))];
    if (right) body.push(make("span", { class: "mark" }, " ✓ shown"));
    if (!other) return make("li", { class: "picture" + (right ? " right" : "") }, ...body);
    const button = make("button", { type: "button", class: "card", title: "Look at this image's own query" }, ...body);
    button.addEventListener("click", () => { open(other); part("title").focus(); });
    return make("li", { class: "picture" }, button);
  };

  // The averaged signal of a query: int8 steps of a scale of its own.
  const signals = data.signals;
  const steps = signals ? Int8Array.from(atob(signals.data), (c) => c.charCodeAt(0)) : null;
  const shape = signals ? [signals.channels.length, signals.times.length] : [0, 0];
  const signalOf = (row) => {
    const size = shape[0] * shape[1], scale = signals.scales[row];
    return Array.from({ length: shape[0] }, (_, c) =>
      Array.from({ length: shape[1] }, (_, t) => scale * steps[row * size + c * shape[1] + t]));
  };
  const strength = (values) => signals.times.map((_, t) =>
    Math.sqrt(values.reduce((sum, line) => sum + line[t] * line[t], 0) / values.length));
  let typical = null; // over all queries: strength by time, or mean by channel
  const usual = () => {
    if (typical) return typical;
    const length = shape[1] > 1 ? shape[1] : shape[0];
    typical = new Array(length).fill(0);
    data.queries.forEach((_, row) => {
      const values = signalOf(row), one = shape[1] > 1 ? strength(values) : values.map((line) => line[0]);
      one.forEach((v, i) => { typical[i] += v / data.queries.length; });
    });
    return typical;
  };

  const SVG = "http://www.w3.org/2000/svg";
  const shapeOf = (tag, attributes, text) => {
    const made = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const box = { left: 62, right: 12, top: 12, bottom: 44, width: 640, height: 250 };
  const ticksOf = (low, high, n) => {
    const rough = (high - low) / n, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough);
    const found = [];
    for (let i = Math.ceil(low / step); i * step <= high + 1e-9 * step; i++) found.push(i * step);
    return found;
  };

  const axes = (svg, x, y, xTicks, low, high, xLabel, yLabel) => {
    const { left, right, top, bottom, width, height } = box;
    for (const tick of ticksOf(low, high, 4)) {
      svg.append(shapeOf("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: "grid" }),
        shapeOf("text", { x: left - 7, y: y(tick) + 4, class: "tick end" }, number(tick)));
    }
    for (const [at, label] of xTicks) svg.append(shapeOf("text", { x: at, y: height - bottom + 17, class: "tick middle" }, label));
    svg.append(shapeOf("line", { x1: left, x2: width - right, y1: height - bottom, y2: height - bottom, class: "axis" }),
      shapeOf("text", { x: (left + width - right) / 2, y: height - 6, class: "label middle" }, xLabel),
      shapeOf("text", { x: 0, y: 0, class: "label middle",
        transform: "translate(13," + (top + height - bottom) / 2 + ") rotate(-90)" }, yLabel));
  };

  const signal = (q) => {
    const figure = part("signal");
    figure.hidden = !signals;
    if (!signals) return;
    const values = signalOf(data.queries.indexOf(q));
    const svg = shapeOf("svg", { viewBox: "0 0 " + box.width + " " + box.height, role: "img" });
    const said = shape[1] > 1 ? lines(svg, values) : bars(svg, values);
    svg.setAttribute("aria-label", "Averaged signal of the query " + nameOf(q) + ". " + said);
    part("plot").replaceChildren(svg);
    const link = part("save");
    link.href = "data:text/csv;charset=utf-8," + encodeURIComponent(table(values));
    link.download = "signal-" + nameOf(q).replace(/[^A-Za-z0-9_-]+/g, "-") + ".csv";
  };

  const lines = (svg, values) => {
    const t = signals.times, root = strength(values), mean = usual(), peaks = values.map((l) => Math.max(...l.map(Math.abs)));
    const all = values.flat(), high = 1.05 * Math.max(...all, ...root, ...mean), low = 1.05 * Math.min(...all, 0);
    const x = (ms) => box.left + (ms - t[0]) / (t[t.length - 1] - t[0]) * (box.width - box.left - box.right);
    const y = (v) => box.top + (high - v) / (high - low) * (box.height - box.top - box.bottom);
    axes(svg, x, y, ticksOf(t[0], t[t.length - 1], 8).map((v) => [x(v), number(v, 4)]), low, high,
      "time from stimulus onset (ms)", "signal (" + signals.unit + ")");
    if (t[0] < 0) svg.append(shapeOf("line", { x1: x(0), x2: x(0), y1: box.top, y2: box.height - box.bottom, class: "onset" }));
    const path = (line, kind) => svg.append(shapeOf("path", { class: kind,
      d: line.map((v, i) => (i ? "L" : "M") + x(t[i]).toFixed(1) + " " + y(v).toFixed(1)).join("") }));
    values.forEach((line) => path(line, "channel"));
    path(mean, "usual");
    path(root, "strength");
    const top = root.indexOf(Math.max(...root)), loud = peaks.indexOf(Math.max(...peaks));
    return shape[0] + " channels, " + number(t[0], 4) + " to " + number(t[t.length - 1], 4) + " ms. Root mean square over channels is highest, "
      + number(root[top]) + " " + signals.unit + ", at " + number(t[top], 4) + " ms (usual there: " + number(mean[top])
      + "). Largest channel: " + signals.channels[loud] + ".";
  };

  // What all names begin with, digits left where they tell channels apart.
  const common = (names) => {
    let n = names.length > 1 ? names[0].length : 0;
    for (const name of names) while (!name.startsWith(names[0].slice(0, n))) n--;
    return names[0].slice(0, n).replace(/\d+$/, "");
  };

  const bars = (svg, values) => {
    const own = values.map((line) => line[0]), mean = usual();
    const high = 1.05 * Math.max(0, ...own, ...mean), low = 1.05 * Math.min(0, ...own, ...mean);
    const step = (box.width - box.left - box.right) / own.length, x = (i) => box.left + (i + 0.5) * step;
    const y = (v) => box.top + (high - v) / ((high - low) || 1) * (box.height - box.top - box.bottom);
    const alike = common(signals.channels), short = signals.channels.map((name) => name.slice(alike.length, alike.length + 8));
    const every = Math.ceil(own.length * (Math.max(...short.map((name) => name.length)) + 1.5) / 55);
    const names = short.map((name, i) => [x(i), name]).filter((_, i) => i % every === 0);
    axes(svg, x, y, names, low, high, "channel" + (alike ? " (" + alike + "…)" : ""), "signal (" + signals.unit + ")");
    own.forEach((v, i) => {
      svg.append(shapeOf("rect", { x: x(i) - 0.38 * step, width: 0.76 * step, y: Math.min(y(v), y(0)),
        height: Math.abs(y(v) - y(0)), class: "bar" }));
      svg.append(shapeOf("line", { x1: x(i) - 0.46 * step, x2: x(i) + 0.46 * step, y1: y(mean[i]), y2: y(mean[i]), class: "mean" }));
    });
    svg.append(shapeOf("line", { x1: box.left, x2: box.width - box.right, y1: y(0), y2: y(0), class: "axis" }));
    const gap = own.map((v, i) => v - mean[i]), loud = gap.map(Math.abs).indexOf(Math.max(...gap.map(Math.abs)));
    return own.length + " channels. Farthest from the mean over queries: " + signals.channels[loud] + ", " + number(own[loud]) + " "
      + signals.unit + " against " + number(mean[loud]) + ".";
  };

  const table = (values) => {
    // Names come from files of others: text that a spreadsheet would compute gets a ' in front, numbers stay.
    const plain = (text) => (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? "'" + text : text);
    const cell = (text) => '"' + plain(String(text)).replaceAll('"', '""') + '"';
    const head = shape[1] > 1 ? ["time_ms", ...signals.channels.map(cell)] : ["channel", "value", "mean_over_queries"];
    const rows = shape[1] > 1
      ? signals.times.map((t, i) => [t, ...values.map((line) => line[i].toPrecision(4))])
      : values.map((line, c) => [cell(signals.channels[c]), line[0].toPrecision(4), usual()[c].toPrecision(4)]);
    return [head, ...rows].map((row) => row.join(",")).join("\n") + "\n";
  };

  const move = (by) => { if (shown[at + by]) open(shown[at + by]); };
  part("previous").addEventListener("click", () => move(-1));
  part("next").addEventListener("click", () => move(1));
  part("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => { if (opener && opener.isConnected) opener.focus(); });
  search.addEventListener("input", select);
  [sort, filter].forEach((control) => control.addEventListener("change", select));
  more.addEventListener("click", () => {
    const before = limit;
    limit += PAGE;
    draw();
    list.children[before]?.querySelector("button").focus();
  });
  gallery.addEventListener("submit", (event) => event.preventDefault());
  select();
  gallery.hidden = false;
})();
