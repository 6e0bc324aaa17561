// A QR code (ISO/IEC 18004) of at most 213 bytes: always of version 10, with error correction M and the first mask. Readers
// take any, and an address for an authenticator needs about that much.

import { svg } from "../core/dom.js";

const WIDTH = 57;
const CENTRES = [6, 28, 50];
// codewords of data, in how many blocks, and those for the correction of each block
const [ROOM, BLOCKS, CHECK] = [216, 5, 26];
// say M and the first mask, and version 10
const [FORMAT, VERSION] = [0x5412, 0xa4d3];

const range = (length) => [...Array(length).keys()];
const bit = (number, index) => ((number >> index) & 1) === 1;
const binary = (number, length = 8) => number.toString(2).padStart(length, "0");

// in GF(256)
function times(a, b) {
  return range(8).reduce((product, index) => (product << 1) ^ (bit(product, 7) && 0x11d) ^ (bit(b, 7 - index) && a), 0);
}

// Reed-Solomon
function correction(block) {
  let [divisor, root] = [[1], 1];
  for (; divisor.length <= CHECK; root = times(root, 2)) {
    divisor = [...divisor, 0].map((each, index) => each ^ times(divisor[index - 1], root));
  }
  return block.reduce(([first, ...rest], byte) => [...rest, 0].map((each, index) => each ^ times(divisor[index + 1], byte ^ first)),
    range(CHECK).fill(0));
}

const interleaved = (blocks) => range(blocks.at(-1).length).flatMap((index) => blocks.flatMap((block) => block[index] ?? []));

// The bits of all codewords.
function encode(bytes) {
  const bits = `0100${binary(bytes.length, 16)}${bytes.map((byte) => binary(byte)).join("")}0000`;
  const data = bits.match(/.{8}/g).map((each) => parseInt(each, 2));
  data.push(...range(ROOM - data.length).map((each) => (each % 2 ? 0x11 : 0xec)));
  // the last one is longer by one
  const blocks = range(BLOCKS).map((block) => data.splice(0, Math.floor((ROOM + block) / BLOCKS)));
  return [...interleaved(blocks), ...interleaved(blocks.map(correction))].map((byte) => binary(byte)).join("");
}

// Rows of modules, true for dark, null where data goes.
function frame() {
  const rows = range(WIDTH).map(() => Array(WIDTH).fill(null));
  const square = (x, y, reach, light) => range(WIDTH).forEach((row) => range(WIDTH).forEach((column) => {
    const ring = Math.max(Math.abs(row - y), Math.abs(column - x));
    rows[row][column] ??= ring > reach ? null : !light.includes(ring);
  }));
  [[3, 3], [3, WIDTH - 4], [WIDTH - 4, 3]].forEach(([x, y]) => square(x, y, 4, [2, 4]));
  CENTRES.forEach((x) => CENTRES.forEach((y) => rows[y][x] ?? square(x, y, 2, [1])));
  range(WIDTH).forEach((each) => { rows[6][each] = rows[each][6] ??= each % 2 === 0; });
  range(15).forEach((index) => {
    const row = index < 6 ? index : index < 8 ? index + 1 : WIDTH - 15 + index;
    rows[row][8] = rows[8][index < 8 ? WIDTH - 1 - index : index < 9 ? 7 : 14 - index] = bit(FORMAT, index);
  });
  rows[WIDTH - 8][8] = true;
  range(18).forEach((index) => {
    const [far, near] = [WIDTH - 11 + (index % 3), Math.floor(index / 3)];
    rows[far][near] = rows[near][far] = bit(VERSION, index);
  });
  return rows;
}

function fill(rows, bits) {
  const down = range(WIDTH);
  let next = 0;
  for (let right = WIDTH - 1; right > 0; right -= right === 8 ? 3 : 2) {
    for (const y of down.reverse()) {
      for (const x of [right, right - 1]) {
        rows[y][x] ??= (bits[next++] === "1") !== ((x + y) % 2 === 0);
      }
    }
  }
}

// Black on white in every theme, as readers expect it; nothing for a text that is too long.
export function qrCode(text, label) {
  const bytes = [...new TextEncoder().encode(text)];
  if (bytes.length > ROOM - 3) {
    return "";
  }
  const rows = frame();
  fill(rows, encode(bytes));
  const [edge, size] = [-4, WIDTH + 8];
  const d = rows.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : ""))).join("");
  return svg("svg", { class: "qr", viewBox: `${edge} ${edge} ${size} ${size}`, role: "img", "aria-label": label, "shape-rendering": "crispEdges" },
    svg("rect", { x: edge, y: edge, width: size, height: size, fill: "#fff" }), svg("path", { d }));
}
