// Packing as in reference/packing.py: the same rows, for the page beside this file. No framework, no dependency.
"use strict";

/** The paper's greedy packing: each image goes into the first of `window` open rows that has space for it. */
function firstFit(lengths, rowTokens, rowImages, window, misfits = 0) {
  return fitInOrder(lengths, rowTokens, rowImages, window, misfits, () => 0);
}

/** Like firstFit, but into the open row with the least free space that suffices. */
function bestFit(lengths, rowTokens, rowImages, window, misfits = 0) {
  return fitInOrder(lengths, rowTokens, rowImages, window, misfits, free => free);
}

function fitInOrder(lengths, rowTokens, rowImages, window, misfits, prefer) {
  const closed = [];
  let rows = [], free = [], queued = [];
  function place(i) {
    let best = -1;
    for (let r = 0; r < rows.length; r++) {
      const fits = free[r] >= lengths[i] && rows[r].length < rowImages;
      if (fits && (best < 0 || prefer(free[r]) < prefer(free[best]))) best = r;
    }
    if (best < 0) {
      if (rows.length === window) return false;
      best = rows.length;
      rows.push([]);
      free.push(rowTokens);
    }
    rows[best].push(i);
    free[best] -= lengths[i];
    return true;
  }
  for (let i = 0; i < lengths.length; i++) {
    if (!place(i)) queued.push(i);
    while (queued.length && (queued.length > misfits || i === lengths.length - 1)) {
      closed.push(...rows);
      rows = [];
      free = [];
      queued = queued.filter(k => !place(k));
    }
  }
  return [...closed, ...rows];
}

/** The oldest image, and the subset of the next `window` that fills its row best. */
function exactFit(lengths, rowTokens, rowImages, window) {
  let queue = lengths.map((_, i) => i);
  const rows = [];
  while (queue.length) {
    const ahead = queue.slice(0, window);
    const row = fullestRow(ahead.map(i => lengths[i]), rowTokens, rowImages).map(k => ahead[k]);
    const taken = new Set(row);
    rows.push(row);
    queue = queue.filter(i => !taken.has(i));
  }
  return rows;
}

/** Indices of at most rowImages lengths, the first included, with the largest sum within rowTokens. */
function fullestRow(lengths, rowTokens, rowImages) {
  const fewest = new Map([[lengths[0], [0]]]);
  for (let k = 1; k < lengths.length && !fewest.has(rowTokens); k++) {
    for (const [total, chosen] of [...fewest]) {
      const larger = total + lengths[k], known = fewest.get(larger);
      const better = known === undefined || chosen.length + 1 < known.length;
      if (larger <= rowTokens && chosen.length < rowImages && better) fewest.set(larger, [...chosen, k]);
    }
  }
  return fewest.get(Math.max(...fewest.keys()));
}

/** Share of token places without a token. */
function padding(lengths, rows, rowTokens) {
  const real = rows.flat().reduce((sum, i) => sum + lengths[i], 0);
  return 1 - real / (rows.length * rowTokens);
}

/** Share of the pairs of tokens of all rows that attend to each other: the blocks on the diagonals. */
function attentionArea(lengths, rows, rowTokens) {
  const pairs = rows.flat().reduce((sum, i) => sum + lengths[i] ** 2, 0);
  return pairs / (rows.length * rowTokens ** 2);
}

/** Tokens kept of an image: max(1, ⌊s (1 − d)⌋). */
function keptTokens(tokens, rate) {
  return Math.max(1, Math.floor(tokens * (1 - rate) + 1e-9));
}

const PACKINGS = { first_fit: firstFit, best_fit: bestFit, exact_fit: exactFit };

if (typeof module !== "undefined") module.exports = { PACKINGS, padding, attentionArea, keptTokens, fullestRow };
