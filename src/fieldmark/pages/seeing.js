"use strict";
// What the network sees of a photograph: the same steps as fieldmark.data.decode and fieldmark.data.square, with Pillow's
// way of resizing. Decoders differ in the last digits.

const FILTERS = {
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => {
    const a = -0.5, t = Math.abs(x);
    if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
    return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
  }],
  lanczos: [3, (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0)],
};
const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

/** For each of `count` new pixels, the first old one that it is made of and their weights. */
function weightsOf(length, from, to, count, interpolation) {
  const [support, filter] = FILTERS[interpolation], scale = (to - from) / count, wide = Math.max(1, scale);
  return Array.from({ length: count }, (_, i) => {
    const centre = from + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support * wide + 0.5));
    const last = Math.min(length, Math.trunc(centre + support * wide + 0.5));
    const weights = Array.from({ length: last - first }, (_, k) => filter((first + k - centre + 0.5) / wide));
    const total = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((one) => one / total) };
  });
}

/** A box (left, top, right, bottom) of pixels {data: RGBA, width, height} in another size; antialiased. */
function resized(pixels, box, width, height, interpolation) {
  const across = weightsOf(pixels.width, box[0], box[2], width, interpolation);
  const down = weightsOf(pixels.height, box[1], box[3], height, interpolation);
  const top = down[0].first, bottom = Math.max(...down.map((one) => one.first + one.weights.length));
  const rows = new Uint8ClampedArray((bottom - top) * width * 4), found = new Uint8ClampedArray(width * height * 4);
  for (let y = top; y < bottom; y++) {
    for (let x = 0; x < width; x++) {
      const { first, weights } = across[x], at = ((y - top) * width + x) * 4;
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * pixels.data[(y * pixels.width + first + k) * 4 + c];
        rows[at + c] = sum;
      }
    }
  }
  for (let y = 0; y < height; y++) {
    const { first, weights } = down[y];
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * rows[((first - top + k) * width + x) * 4 + c];
        found[(y * width + x) * 4 + c] = sum;
      }
    }
  }
  return { data: found, width, height };
}

/** Every `factor` × `factor` pixels as their mean. */
function reduced(pixels, factor) {
  const width = Math.ceil(pixels.width / factor), height = Math.ceil(pixels.height / factor);
  const data = new Uint8ClampedArray(width * height * 4);
  for (let y = 0; y < height; y++) {
    const bottom = Math.min(pixels.height, (y + 1) * factor);
    for (let x = 0; x < width; x++) {
      const right = Math.min(pixels.width, (x + 1) * factor), sums = [0, 0, 0];
      for (let row = y * factor; row < bottom; row++) {
        for (let at = (row * pixels.width + x * factor) * 4; at < (row * pixels.width + right) * 4; at += 4) {
          sums[0] += pixels.data[at]; sums[1] += pixels.data[at + 1]; sums[2] += pixels.data[at + 2];
        }
      }
      const number = (bottom - y * factor) * (right - x * factor), at = (y * width + x) * 4;
      for (let c = 0; c < 3; c++) data[at + c] = Math.floor(sums[c] / number + 0.5);
    }
  }
  return { data, width, height };
}

/** To the nearest whole number, and from the middle between two to the even one, as Python does it. */
function rounded(value) {
  const below = Math.floor(value), rest = value - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

/** The square view (3 · S · S, channels first) of pixels, by the `view` of the rules. */
function viewOf(pixels, view, isJpeg) {
  const scale = Math.min(1, view.short_side / Math.min(pixels.width, pixels.height));
  const [width, height] = [pixels.width, pixels.height].map((side) => Math.max(1, rounded(side * scale)));
  if (scale < 1) { // JPEG files are decoded at 1/2, 1/4 or 1/8, others are reduced where that leaves three times as much
    const factor = isJpeg
      ? [8, 4, 2].find((one) => pixels.width >= 2 * width * one && pixels.height >= 2 * height * one)
      : Math.trunc(Math.min(pixels.width / width, pixels.height / height) / 3);
    if (factor > 1) pixels = reduced(pixels, factor);
  }
  if (pixels.width !== width || pixels.height !== height) {
    pixels = resized(pixels, [0, 0, pixels.width, pixels.height], width, height, "bicubic");
  }
  const side = view.crop * Math.min(width, height), [wide, high] = view.whole ? [width, height] : [side, side];
  const left = (width - wide) / 2, top = (height - high) / 2, size = view.size;
  const square = resized(pixels, [left, top, left + wide, top + high], size, size, view.interpolation);
  const found = new Uint8Array(3 * size * size);
  for (let i = 0; i < size * size; i++) for (let c = 0; c < 3; c++) found[c * size * size + i] = square.data[4 * i + c];
  return found;
}

/** Whether a file is a PNG of 16-bit greyscale, by what its header says of bits and colours. Fieldmark scales it by the
    bits in use; browsers take the upper eight, which are nearly black where a camera measures 12. With transparency both
    take the upper eight. */
async function isDeepGrey(blob) {
  const head = new Uint8Array(await blob.slice(0, 26).arrayBuffer());
  return [0x89, 0x50, 0x4e, 0x47].every((byte, k) => head[k] === byte) && head[24] === 16 && head[25] === 0;
}

/** The pixels of a picture that a browser can read, upright and on white. */
async function pixelsOf(blob) {
  if (await isDeepGrey(blob)) throw new Error("it is grey with 16 bits, which browsers show too dark: save it with 8");
  const bitmap = await createImageBitmap(blob);
  const most = 40e6;
  if (bitmap.width * bitmap.height > most) throw new Error(`it has more than ${most / 1e6} million pixels`);
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, context.canvas.width, context.canvas.height);
}
