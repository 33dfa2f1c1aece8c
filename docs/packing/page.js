// The page of packing: sizes of images from sliders or from own pictures, rows drawn as bars.
"use strict";

const NAMES = ["count", "least", "most", "patch", "tokens", "slots", "window", "drop"];
const ROW = 12, GAP = 3, WIDTH = 512;
const at = id => document.getElementById(id);
let seed = 1, own = [];

/** Numbers in [0, 1) from a seed, the same on every machine: mulberry32. */
function chance(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Height and width of every image. */
function sizes(now) {
  if (own.length) return own;
  const random = chance(seed), [lo, hi] = [Math.min(now.least, now.most), Math.max(now.least, now.most)];
  const side = () => lo + Math.floor(random() * (hi - lo + 1));
  return Array.from({ length: now.count }, () => [side(), side()]);
}

function draw() {
  const now = Object.fromEntries(NAMES.map(name => [name, Number(at(name).value)]));
  for (const name of NAMES) document.querySelector(`output[for=${name}]`).textContent = now[name];
  const all = sizes(now).map(([h, w]) => {
    const tokens = Math.max(1, Math.floor(h / now.patch)) * Math.max(1, Math.floor(w / now.patch));
    return keptTokens(tokens, now.drop / 100);
  });
  const lengths = all.filter(n => n <= now.tokens);
  const rule = at("rule");
  at("left-title").textContent = rule.selectedOptions[0].textContent.replace(/^./, c => c.toUpperCase());
  show("left", PACKINGS[rule.value](lengths, now.tokens, now.slots, now.window), lengths, now.tokens);
  show("right", exactFit(lengths, now.tokens, now.slots, now.window), lengths, now.tokens);
  const mean = lengths.length ? lengths.reduce((a, b) => a + b, 0) / lengths.length : 0;
  const out = all.length - lengths.length;
  at("notes").textContent =
    `${all.length} images, ${mean.toFixed(1)} tokens each` + (out ? `; ${out} are longer than a row and are left out` : "");
}

/** Bars for rows, and the numbers above them. */
function show(side, rows, lengths, rowTokens) {
  const picture = at(side), height = Math.max(1, rows.length) * (ROW + GAP);
  picture.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  picture.replaceChildren(...rows.flatMap((row, r) => {
    let left = 0;
    return row.map(i => {
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const wide = (lengths[i] / rowTokens) * WIDTH;
      const fill = `hsl(${(i * 137.5) % 360} 60% 52%)`;
      for (const [key, value] of Object.entries({ x: left, y: r * (ROW + GAP), width: Math.max(0.5, wide - 1), height: ROW, fill }))
        bar.setAttribute(key, value);
      left += wide;
      return bar;
    });
  }));
  at(`${side}-said`).textContent = rows.length
    ? `${rows.length} rows, padding ${(100 * padding(lengths, rows, rowTokens)).toFixed(1)} %, ` +
      `attention area ${(100 * attentionArea(lengths, rows, rowTokens)).toFixed(1)} %`
    : "no image fits a row";
}

/** Sizes of pictures that were chosen or dropped; others are left out. */
async function read(files) {
  const found = await Promise.all([...files].map(file => createImageBitmap(file).then(b => [b.height, b.width], () => null)));
  own = found.filter(Boolean);
  draw();
}

for (const name of [...NAMES, "rule"]) at(name).addEventListener("input", draw);
for (const name of ["count", "least", "most"]) at(name).addEventListener("input", () => { own = []; draw(); });
at("again").addEventListener("click", () => { own = []; seed += 1; draw(); });
at("files").addEventListener("change", event => read(event.target.files));
const zone = at("drop-zone");
zone.addEventListener("dragover", event => { event.preventDefault(); zone.classList.add("over"); });
zone.addEventListener("dragleave", () => zone.classList.remove("over"));
zone.addEventListener("drop", event => { event.preventDefault(); zone.classList.remove("over"); read(event.dataTransfer.files); });
draw();
