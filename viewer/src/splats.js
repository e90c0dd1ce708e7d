// The three depth images below the hand: its own (Eq. 3-5), the target's, and their difference. They are drawn here from the
// posed cloud, so that a move sends no picture.
import { shares, skin, splat, toPixels } from "../../docs/hand_page/method.js";
import { floats } from "./arrays.js";

const BRIGHTEST = 0.9; // depth value drawn white, as in Python
const TITLES = { splat: "splat, Eq. 3-5", target: "target", difference: "difference" };

/** Grey pixels of depth values [size, size]; `data-drawn` counts the pictures. */
function paint(canvas, depth) {
  const context = canvas.getContext("2d"), picture = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(picture.data.buffer);
  for (let i = 0; i < pixels.length; i++) {
    const grey = Math.min(255, Math.round((depth[i] / BRIGHTEST) * 255));
    pixels[i] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  context.putImageData(picture, 0, 0);
  canvas.dataset.drawn = 1 + Number(canvas.dataset.drawn || 0);
}

/** The images as an element, and what draws them of a pose: `draw(bones)`; after another hand or target, call it again. */
export function splats(model) {
  const { image_size: size, cube_mm, radius_px, shown_px } = model.get("splat");
  const el = document.createElement("div"), canvases = {};
  el.className = "hrlib-splats";
  for (const [name, title] of Object.entries(TITLES)) {
    const canvas = (canvases[name] = document.createElement("canvas")), figure = document.createElement("div");
    canvas.width = canvas.height = size;
    canvas.style.width = canvas.style.height = `${shown_px}px`;
    canvas.className = `hrlib-splat hrlib-splat-${name}`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `depth image: ${title}`);
    figure.append(Object.assign(document.createElement("b"), { textContent: title }), canvas);
    el.append(figure);
  }
  const weights = shares(floats(model.get("cloud_weights")));
  let rest = null, target = null;
  const read = () => {
    rest = floats(model.get("cloud"));
    const bytes = model.get("target");
    target = bytes.byteLength ? floats(bytes) : null;
    paint(canvases.target, target ?? new Float32Array(size * size));
  };
  read();
  const draw = (bones) => {
    const depth = splat(toPixels({ cube_mm }, skin(rest, weights, bones), size), radius_px, size);
    paint(canvases.splat, depth);
    paint(canvases.difference, target ? depth.map((value, i) => Math.abs(value - target[i])) : new Float32Array(size * size));
  };
  return { el, read, draw };
}
