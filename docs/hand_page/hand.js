// The page of the hand in the browser: its pictures and what moves them. The method itself is in method.js, which comes first.
"use strict";

// ---- the pictures ------------------------------------------------------------------------------------------------------

const LIGHT = [-0.43, -0.62, -0.66]; // to the light, from above and the left of the camera
const HALFWAY = Math.sqrt(2 + 2 * 0.66); // length of the way between it and the camera's direction, for the shine
const SKIN = [236, 190, 163], MOVED = [232, 104, 72]; // RGB; the part that the active slider moves

/** 256 opaque pixels of the colours between stops: [place from 0 to 1, red, green, blue]. */
function ramp(stops) {
  const pixels = new Uint8ClampedArray(1024);
  for (let i = 0; i < 256; i++) {
    const after = Math.max(1, stops.findIndex(([place]) => place >= i / 255)), [low, high] = [stops[after - 1], stops[after]];
    const share = (i / 255 - low[0]) / (high[0] - low[0]);
    for (let c = 0; c < 3; c++) pixels[4 * i + c] = low[1 + c] + share * (high[1 + c] - low[1 + c]);
    pixels[4 * i + 3] = 255;
  }
  return new Uint32Array(pixels.buffer);
}

// Depth values 0 to 1; most of a hand lies around 0.5, the middle of the cube, and gets most of the colours.
const DEPTH = ramp([
  [0, 14, 19, 26], [0.2, 40, 42, 96], [0.38, 50, 84, 150], [0.46, 38, 132, 150], [0.54, 70, 178, 130], [0.64, 170, 218, 96],
  [0.8, 253, 236, 150], [1, 255, 255, 255],
]);
// Differences -0.6 to 0.6: the target nearer, blue; the hand nearer, orange.
const SIGNED = ramp([[0, 110, 200, 250], [0.25, 40, 110, 160], [0.5, 14, 19, 26], [0.75, 170, 80, 36], [1, 255, 165, 90]]);

/** Values of an image as pixels of a canvas of its size; a value's place in the colours is `scale(value)`, 0 to 1. */
function paint(canvas, values, colours, scale) {
  const size = Math.sqrt(values.length);
  if (canvas.width !== size) canvas.width = canvas.height = size;
  const context = canvas.getContext("2d"), image = context.createImageData(size, size);
  const out = new Uint32Array(image.data.buffer);
  for (let i = 0; i < values.length; i++) out[i] = colours[Math.max(0, Math.min(255, Math.round(255 * scale(values[i]))))];
  context.putImageData(image, 0, 0);
}

/** Normals of the vertices: the sum of their triangles', which are as long as the triangles are large. */
function vertexNormals(vertices, faces) {
  const normals = new Float32Array(vertices.length);
  for (let f = 0; f < faces.length; f += 3) {
    const a = 3 * faces[f], b = 3 * faces[f + 1], c = 3 * faces[f + 2];
    const ux = vertices[b] - vertices[a], uy = vertices[b + 1] - vertices[a + 1], uz = vertices[b + 2] - vertices[a + 2];
    const vx = vertices[c] - vertices[a], vy = vertices[c + 1] - vertices[a + 1], vz = vertices[c + 2] - vertices[a + 2];
    for (let k = 0; k < 3; k++) {
      const at = 3 * faces[f + k];
      normals[at] += uy * vz - uz * vy; normals[at + 1] += uz * vx - ux * vz; normals[at + 2] += ux * vy - uy * vx;
    }
  }
  return normals;
}

/** A pixel of a surface with this normal (any length), the camera being at -z; moved: 0 to 1. */
function shade(x, y, z, moved) {
  const scale = (z > 0 ? -1 : 1) / (Math.sqrt(x * x + y * y + z * z) || 1); // both sides of a triangle are seen
  const nx = x * scale, ny = y * scale, nz = z * scale;
  const lit = nx * LIGHT[0] + ny * LIGHT[1] + nz * LIGHT[2], half = Math.max(0, lit - nz) / HALFWAY;
  const bright = 0.46 - 0.1 * ny + 0.56 * Math.max(0, lit), rim = (1 + nz) * (1 + nz) * 0.35; // sky above, darker edges
  const shine = 30 * half ** 24, tone = bright * (1 - rim);
  const red = Math.min(255, (SKIN[0] + moved * (MOVED[0] - SKIN[0])) * tone + shine);
  const green = Math.min(255, (SKIN[1] + moved * (MOVED[1] - SKIN[1])) * tone + shine);
  const blue = Math.min(255, (SKIN[2] + moved * (MOVED[2] - SKIN[2])) * tone + shine);
  return (255 << 24) | (blue << 16) | (green << 8) | red;
}

let layer = { size: 0 }; // picture and z-buffer, kept: new memory for each picture costs more than to fill it

/** The posed mesh in a z-buffer, seen as the splat sees it. moved: 0 to 1 for each vertex. Clear where there is no hand. */
function rasterise(hand, M, size, moved) {
  if (layer.size !== size) layer = { size, image: new ImageData(size, size), nearest: new Float32Array(size * size) };
  const { image, nearest } = layer, colours = new Int32Array(image.data.buffer).fill(0);
  nearest.fill(1e9);
  const vertices_mm = skin(hand.vertices_mm, hand.vertex_shares, M), normals = vertexNormals(vertices_mm, hand.faces);
  const mesh = { faces: hand.faces, normals, moved, pixels: toPixels(hand, vertices_mm, size) };
  // the far side, seen through the open wrist only, comes last: what is hidden is not shaded
  for (const front of [true, false]) {
    for (let f = 0; f < hand.faces.length; f += 3) fillTriangle(mesh, f, front, size, nearest, colours);
  }
  return image;
}

/** The pixels of a triangle that no nearer one has, if it faces that way. */
function fillTriangle({ faces, normals: n, moved, pixels: p }, f, front, size, nearest, colours) {
  const i = faces[f], j = faces[f + 1], k = faces[f + 2], a = 3 * i, b = 3 * j, c = 3 * k;
  const ax = p[a], ay = p[a + 1], bx = p[b] - ax, by = p[b + 1] - ay, cx = p[c] - ax, cy = p[c + 1] - ay;
  const area = bx * cy - cx * by;
  if (area === 0 || (area < 0) !== front) return;
  const first = (at, ...ways) => Math.max(0, Math.ceil(at + Math.min(0, ...ways)));
  const last = (at, ...ways) => Math.min(size - 1, Math.floor(at + Math.max(0, ...ways)));
  const [top, bottom, left, right] = [first(ay, by, cy), last(ay, by, cy), first(ax, bx, cx), last(ax, bx, cx)];
  for (let row = top; row <= bottom; row++) {
    for (let column = left; column <= right; column++) {
      const u = column - ax, v = row - ay, wb = (u * cy - cx * v) / area, wc = (bx * v - u * by) / area, wa = 1 - wb - wc;
      if (wa < 0 || wb < 0 || wc < 0) continue;
      const z = wa * p[a + 2] + wb * p[b + 2] + wc * p[c + 2], at = row * size + column;
      if (z >= nearest[at]) continue;
      nearest[at] = z;
      colours[at] = shade(
        wa * n[a] + wb * n[b] + wc * n[c], wa * n[a + 1] + wb * n[b + 1] + wc * n[c + 1],
        wa * n[a + 2] + wb * n[b + 2] + wc * n[c + 2], wa * moved[i] + wb * moved[j] + wc * moved[k],
      );
    }
  }
}

/** How much of each vertex's motion comes from a joint and those after it; nothing for none (-1). */
function movedBy(hand, joint) {
  const after = hand.parents.map(() => false), moved = new Float32Array(hand.weights.length / JOINTS);
  for (let j = 0; j < JOINTS; j++) after[j] = j === joint || (j > 0 && after[hand.parents[j]]);
  for (let i = 0; i < hand.weights.length; i++) if (after[i % JOINTS]) moved[Math.floor(i / JOINTS)] += hand.weights[i];
  return moved;
}

/** The 21 points and the bones between them, over the mesh. */
function drawBones(context, hand, T, size) {
  const at = toPixels(hand, Float32Array.from(jointPositions(hand, T).flat()), size);
  context.lineWidth = size / 160;
  context.strokeStyle = "#14202b";
  context.fillStyle = "#ffd166";
  context.beginPath();
  hand.point_parents.forEach((parent, child) => {
    if (parent < 0) return;
    context.moveTo(at[3 * parent], at[3 * parent + 1]);
    context.lineTo(at[3 * child], at[3 * child + 1]);
  });
  context.stroke();
  for (let i = 0; i < at.length; i += 3) {
    context.beginPath();
    context.arc(at[i], at[i + 1], size / 90, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }
}

/** The cloud P; near points cover far ones. */
function drawPoints(context, hand, points_mm, size) {
  const p = toPixels(hand, points_mm, size), dot = size / 150;
  const order = Array.from({ length: p.length / 3 }, (_, i) => 3 * i).sort((a, b) => p[b + 2] - p[a + 2]);
  for (const i of order) {
    const near = Math.max(0, Math.min(1, (0.75 - p[i + 2]) * 2));
    context.fillStyle = `hsl(${200 - 150 * near} 70% ${28 + 34 * near}%)`;
    context.fillRect(p[i] - dot / 2, p[i + 1] - dot / 2, dot, dot);
  }
}

// ---- the page ----------------------------------------------------------------------------------------------------------

const BEYOND_DEG = 40; // how far sliders go past the limits, if asked
const SAMPLES = 41; // of the loss along a slider
const FAINT_PX = [2, 10]; // radii to compare that curve with
const PATIENCE_MS = 8; // of one piece of that curve's work, so that the page stays quick
const LEG_MS = 1800; // of the way from A to B
const RADII_PX = [1, 2, 5, 10]; // of which the slopes stand beside it
const DESCENT = { steps: 60, degrees: 3 }; // the first step is that long
const NUDGE_DEG = 0.05; // of a central difference: far less than a pixel
const START = { pose: "open", target: "neutral", a: "open", b: "fist", active: "index_base_deviation" };

function startPage() {
  const $ = (id) => document.getElementById(id);
  const hand = readHand(HAND_DATA);
  const sliders = []; // of 45 angles, then of the view
  const title = (finger) => finger[0].toUpperCase() + finger.slice(1);
  const inWords = (i) => {
    if (i >= 45) return hand.view[i - 45].plain;
    const { finger, place, plain } = hand.angles[i];
    return `${title(finger)}, ${place}: ${plain}`;
  };
  const degrees = (value) => `${Math.round(value)}°`.replace("-", "−");
  let state, seen, target, curve = null, asked = false, later = 0, playing = 0;

  const keep = (name) => ({ name, angles: namedAngles(hand, name) });
  const fresh = () => ({
    pose: START.pose, angles: namedAngles(hand, START.pose), view: [0, 0, 0], target: START.target, targetView: [0, 0, 0],
    along: true, beyond: false, bones: false, points: false, radius: hand.radius_px,
    active: hand.angles.findIndex(({ name }) => name === START.active),
    a: keep(START.a), b: keep(START.b), blend: 0,
  });

  // -- what the sliders mean: 45 angles, then the three of the view

  const limits = (i) => i < 45 ? hand.angles[i] : { low: -hand.view[i - 45].most, high: hand.view[i - 45].most };
  const value = (i) => i < 45 ? state.angles[i] : state.view[i - 45];
  const range = (i) => {
    const { low, high } = limits(i), more = i < 45 && state.beyond ? BEYOND_DEG : 0;
    return { low: low - more, high: high + more };
  };
  const lookAt = (i, degreesOfIt, radius) => {
    const angles = Float64Array.from(state.angles), view = [...state.view];
    if (i < 45) angles[i] = degreesOfIt; else view[i - 45] = degreesOfIt;
    return look(hand, angles, view, radius).depth;
  };
  const clamp = (angle, { low, high }) => Math.max(low, Math.min(high, angle));
  const isBeyond = (i) => i < 45 && (value(i) < hand.angles[i].low - 1e-6 || value(i) > hand.angles[i].high + 1e-6);

  function targetAngles() {
    if (state.target === "pose A") return state.a.angles;
    if (state.target === "pose B") return state.b.angles;
    return state.target === "nothing" ? null : namedAngles(hand, state.target);
  }
  const targetDepth = (radius) => {
    const angles = targetAngles();
    return angles ? look(hand, angles, state.targetView, radius).depth : null;
  };

  // -- drawing

  function changed() { // once for all that changes before the next picture
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; draw(); });
  }

  function draw() {
    if (state.along) state.targetView = [...state.view];
    seen = look(hand, state.angles, state.view, state.radius);
    const key = JSON.stringify([state.target, targetAngles() && [...targetAngles()], state.targetView, state.radius]);
    if (!target || target.key !== key) {
      target = { key, depth: targetDepth(state.radius) };
      paint($("target-splat"), target.depth ?? new Float32Array(seen.depth.length), DEPTH, (v) => v);
    }
    drawMesh();
    paint($("splat"), seen.depth, DEPTH, (v) => v);
    const difference = seen.depth.map((v, i) => target.depth ? v - target.depth[i] : 0);
    paint($("difference"), difference, SIGNED, (v) => 0.5 + v / 1.2);
    showNumbers();
    showControls();
    planCurve();
    $("mesh").dataset.drawn = 1 + Number($("mesh").dataset.drawn || 0);
  }

  function drawMesh() {
    const canvas = $("mesh"), shown = canvas.clientWidth || 240;
    const size = Math.min(720, Math.round(shown * Math.max(2, window.devicePixelRatio || 1))); // smoothed by the browser
    if (canvas.width !== size) canvas.width = canvas.height = size;
    const context = canvas.getContext("2d");
    const moved = movedBy(hand, state.active < 45 ? hand.angles[state.active].joint : -1);
    context.putImageData(rasterise(hand, seen.M, size, moved), 0, 0);
    if (state.points) drawPoints(context, hand, seen.points_mm, size);
    if (state.bones) drawBones(context, hand, seen.T, size);
    const turned = state.view.map(degrees).join(", ");
    canvas.setAttribute("aria-label", `the posed hand: ${state.pose ?? "your own pose"}, turned by ${turned}`);
  }

  function losses() {
    const collision = collisionLoss(hand, jointPositions(hand, seen.T)), physical = physicalLoss(hand, state.angles);
    return { ...(target.depth ? imageLosses(seen.depth, target.depth) : {}), collision, physical };
  }

  function showNumbers() {
    const { depth, mse, collision, physical } = losses();
    const texts = { "depth-loss": depth?.toFixed(4) ?? "–", mse: mse?.toFixed(4) ?? "–" };
    Object.assign(texts, { collision: `${collision.toFixed(2)} mm`, physical: `${physical.toFixed(2)} rad` });
    for (const [id, text] of Object.entries(texts)) $(id).textContent = text;
    $("collision").parentElement.classList.toggle("wrong", collision >= 0.005);
    $("physical").parentElement.classList.toggle("wrong", physical >= 0.005);
  }

  function showControls() {
    for (let i = 0; i < sliders.length; i++) {
      const { row, input, output, ends } = sliders[i], { low, high } = range(i), within = limits(i), at = degrees(value(i));
      if (Number(input.max) !== high) {
        [input.min, input.max] = [low, high];
        ends.forEach((end, k) => { end.textContent = degrees([low, high][k]); });
        row.style.setProperty("--low", `${100 * (within.low - low) / (high - low)}%`);
        row.style.setProperty("--high", `${100 * (within.high - low) / (high - low)}%`);
      }
      if (Number(input.value) !== Math.round(value(i))) input.value = value(i);
      if (output.textContent !== at) output.textContent = at;
      input.setAttribute("aria-valuetext", `${Math.round(value(i))} degrees${isBeyond(i) ? ", beyond the limit" : ""}`);
      row.classList.toggle("wrong", isBeyond(i));
      row.classList.toggle("active", i === state.active);
    }
    for (const button of $("poses").children) button.setAttribute("aria-pressed", button.textContent === state.pose);
    for (const name of ["bones", "points", "along", "beyond"]) $(name).checked = state[name];
    $("radius").value = state.radius;
    $("radius-value").textContent = `${state.radius} px`;
    $("radius").setAttribute("aria-valuetext", `${state.radius} pixels`);
    $("target").value = state.target;
    $("blend").value = state.blend;
    $("keep-a").textContent = `A: ${state.a.name}`;
    $("keep-b").textContent = `B: ${state.b.name}`;
    $("play").textContent = playing ? "Pause" : "Play";
    $("descend").disabled = !target.depth || (state.along && !$("panel-view").hidden); // a target that turns along is never met
  }

  // -- the depth loss along the active slider, a piece at a time between pictures

  function planCurve() {
    const others = [...state.angles, ...state.view];
    others[state.active] = null; // along its own slider the curve stays the same
    const key = JSON.stringify([others, target.key, state.active, state.beyond]);
    if (curve?.key !== key) {
      const { low, high } = range(state.active);
      const at = Array.from({ length: SAMPLES }, (_, k) => low + (k / (SAMPLES - 1)) * (high - low));
      const radii = target.depth ? [state.radius, ...FAINT_PX.filter((radius) => radius !== state.radius)] : [];
      curve = { key, at, lines: radii.map((radius) => ({ radius, losses: [] })) };
    }
    const spot = `${value(state.active)} ${state.radius}`;
    if (curve.spot !== spot) [curve.spot, curve.slopes] = [spot, null];
    drawCurve();
    clearTimeout(later);
    later = setTimeout(workOnCurve, 60);
  }

  function workOnCurve() {
    const until = performance.now() + PATIENCE_MS;
    while (performance.now() < until) {
      const line = curve.lines.find(({ losses: known }) => known.length < SAMPLES);
      if (line !== curve.lines[0] && curve.lines.length && !curve.slopes) {
        curve.slopes = slopesHere();
      } else if (line) {
        line.target ??= targetDepth(line.radius);
        line.losses.push(imageLosses(lookAt(state.active, curve.at[line.losses.length], line.radius), line.target).depth);
      } else {
        drawCurve();
        return;
      }
    }
    drawCurve();
    later = setTimeout(workOnCurve, 0);
  }

  /** By radius: what the gradient of Eq. 6 says about the active angle, a degree (central differences). */
  function slopesHere() {
    const radii = [...new Set([...RADII_PX, state.radius])].sort((a, b) => a - b);
    return radii.map((radius) => {
      const compared = targetDepth(radius);
      const [after, before] = [NUDGE_DEG, -NUDGE_DEG].map((way) =>
        imageLosses(lookAt(state.active, value(state.active) + way, radius), compared).depth);
      return { radius, slope: (after - before) / (2 * NUDGE_DEG) };
    });
  }

  function drawCurve() {
    const canvas = $("curve"), scale = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const pixels = [width, height].map((length) => Math.round(length * scale));
    if (canvas.width !== pixels[0] || canvas.height !== pixels[1]) [canvas.width, canvas.height] = pixels;
    const context = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = "11px system-ui, sans-serif";
    const { low, high } = range(state.active), within = limits(state.active);
    const [x0, x1, y0, y1] = [12, width - 12, height - 20, 16];
    const x = (angle) => x0 + ((angle - low) / (high - low)) * (x1 - x0);
    context.fillStyle = colour("ground");
    context.fillRect(x(within.low), y1 - 6, x(within.high) - x(within.low), y0 - y1 + 6);
    context.fillStyle = colour("soft");
    context.textAlign = "right";
    context.fillText(degrees(high), x1, height - 6);
    context.textAlign = "left";
    context.fillText(degrees(low), x0, height - 6);
    const here = target.depth ? imageLosses(seen.depth, target.depth).depth : null;
    const known = [...curve.lines.flatMap((line) => line.losses), here ?? 0];
    const most = Math.max(...known), least = Math.max(0, Math.min(...known) - 0.5 * (most - Math.min(...known)));
    const y = (loss) => y0 - ((loss - least) / Math.max(1e-6, most - least)) * (y0 - y1);
    [...curve.lines].reverse().forEach((line, k) => {
      const main = line.radius === state.radius;
      context.strokeStyle = context.fillStyle = colour(main ? "good" : "soft");
      context.lineWidth = main ? 2.5 : 1.2;
      context.setLineDash(main ? [] : line.radius < state.radius ? [2, 3] : [7, 3]);
      context.beginPath();
      line.losses.forEach((loss, n) => context.lineTo(x(curve.at[n]), y(loss)));
      context.stroke();
      const left = x0 + 8 + 86 * (curve.lines.length - 1 - k); // its name, at the bottom
      context.beginPath();
      context.moveTo(left, y0 - 10);
      context.lineTo(left + 26, y0 - 10);
      context.stroke();
      context.fillText(`r = ${line.radius}`, left + 31, y0 - 6);
    });
    context.setLineDash([]);
    if (here !== null) {
      const at = x(value(state.active));
      context.fillStyle = context.strokeStyle = colour("accent");
      const slope = curve.slopes?.find(({ radius }) => radius === state.radius).slope;
      if (slope !== undefined) { // the tangent
        const reach = 0.09 * (high - low), rise = slope * reach;
        context.lineWidth = 2;
        context.beginPath();
        context.moveTo(x(value(state.active) - reach), y(here - rise));
        context.lineTo(x(value(state.active) + reach), y(here + rise));
        context.stroke();
      }
      context.beginPath();
      context.arc(at, y(here), 5, 0, 2 * Math.PI);
      context.fill();
    }
    sayCurve();
  }

  /** The slopes as bars: full where they lead to the lowest point of the curve, hollow where they lead away. */
  function sayCurve() {
    const i = state.active;
    $("curve-title").textContent = inWords(i);
    $("slopes").hidden = !target.depth;
    $("slopes").classList.toggle("stale", !curve.slopes);
    $("curve-text").textContent = target.depth ? "" : "Choose a target to compare with.";
    if (!curve.slopes) return;
    const losses = curve.lines[0].losses, best = curve.at[losses.indexOf(Math.min(...losses))];
    const steepest = Math.max(1e-9, ...curve.slopes.map(({ slope }) => Math.abs(slope)));
    $("slopes").replaceChildren(...curve.slopes.map(({ radius, slope }) => {
      const astray = slope * (best - value(i)) > 0, text = `${(1000 * slope).toFixed(2)}`.replace("-", "−");
      const bar = element("i", { style: `width: ${100 * Math.abs(slope) / steepest}%`, class: astray ? "astray" : "" });
      const cells = [`r = ${radius}`, bar, text].map((part) => element("span", {}, part));
      const row = element("li", { class: radius === state.radius ? "now" : "" }, ...cells);
      if (astray) row.title = "leads away from the lowest point of the curve";
      return row;
    }));
  }

  // -- changes

  function setPose(name, angles) {
    state.pose = name;
    state.angles = Float64Array.from(angles);
    changed();
  }

  function turn(yaw, pitch, roll = 0) {
    const around = (angle) => ((angle + 540) % 360) - 180, [y, p, r] = state.view;
    state.view = [around(y + yaw), clamp(p + pitch, limits(46)), around(r + roll)];
    changed();
  }

  function setBlend(share) {
    state.blend = share;
    setPose(null, state.a.angles.map((angle, i) => angle + share * (state.b.angles[i] - angle)));
  }

  function play() {
    const began = performance.now() - LEG_MS * state.blend, turnNow = {};
    playing = turnNow;
    const step = () => {
      if (playing !== turnNow) return;
      const legs = Math.max(0, performance.now() - began) / LEG_MS, there = legs % 2;
      setBlend(0.5 - 0.5 * Math.cos(Math.PI * (there > 1 ? 2 - there : there)));
      requestAnimationFrame(step);
    };
    step();
  }
  const pause = () => { playing = 0; changed(); };

  /** Gradient descent on Eq. 6 in the angles of the open tab, by central differences; steps of Adam, which shrink. */
  function descend() {
    const run = playing = {}, chosen = sliders.flatMap(({ row }, i) => row.closest("[hidden]") ? [] : [i]);
    const mean = chosen.map(() => 0), square = chosen.map(() => 0);
    state.pose = null;
    const step = (t) => {
      if (playing !== run || t > DESCENT.steps) return playing === run && pause();
      const loss = (i, way) => imageLosses(lookAt(i, value(i) + way, state.radius), target.depth).depth;
      const slopes = chosen.map((i) => (loss(i, NUDGE_DEG) - loss(i, -NUDGE_DEG)) / (2 * NUDGE_DEG));
      chosen.forEach((i, k) => {
        mean[k] += 0.3 * (slopes[k] - mean[k]);
        square[k] += 0.1 * (slopes[k] ** 2 - square[k]);
        const size = Math.sqrt(square[k] / (1 - 0.9 ** t)) || 1, rate = DESCENT.degrees * (1 - (t - 1) / DESCENT.steps);
        const moved = clamp(value(i) - rate * mean[k] / (1 - 0.7 ** t) / size, range(i));
        if (i < 45) state.angles[i] = moved; else state.view[i - 45] = moved;
      });
      changed();
      return requestAnimationFrame(() => step(t + 1));
    };
    step(1);
  }

  function say(text) {
    $("message").textContent = text;
    $("message").classList.add("shown");
    setTimeout(() => $("message").classList.remove("shown"), 2500);
  }

  async function copy() {
    const text = asPython(hand, state.angles, state.view);
    try {
      await navigator.clipboard.writeText(text);
      say("Copied: paste it into a notebook.");
    } catch { // an old browser, or a page that was not loaded from a safe place
      window.prompt("Copy this:", text);
    }
  }

  function save() {
    const side = 480, strip = 40, sheet = document.createElement("canvas");
    [sheet.width, sheet.height] = [2 * side, 2 * (side + strip) + strip];
    const context = sheet.getContext("2d"), style = getComputedStyle(document.documentElement);
    context.fillStyle = style.getPropertyValue("--card");
    context.fillRect(0, 0, sheet.width, sheet.height);
    context.fillStyle = style.getPropertyValue("--ink");
    context.font = "20px system-ui, sans-serif";
    const parts = {
      mesh: state.pose ?? "own pose", splat: `splat, r = ${state.radius} px`, "target-splat": `target: ${state.target}`,
      difference: "splat − target",
    };
    Object.entries(parts).forEach(([id, text], k) => {
      const [x, y] = [(k % 2) * side, Math.floor(k / 2) * (side + strip)];
      context.fillText(text, x + 12, y + 27);
      context.imageSmoothingEnabled = id === "mesh";
      context.drawImage($(id), x, y + strip, side, side);
    });
    const numbers = [...document.querySelectorAll(".numbers div")].map((part) =>
      part.firstChild.firstChild.data + part.lastChild.textContent);
    context.fillText(numbers.join("    "), 12, sheet.height - 13);
    const link = document.createElement("a");
    [link.download, link.href] = [`hand_${state.pose ?? "own"}.png`, sheet.toDataURL("image/png")];
    link.click();
  }

  // -- controls

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, text] of Object.entries(attributes)) made.setAttribute(name, text);
    made.append(...children);
    return made;
  }

  function addSlider(i, text, name) {
    const id = `angle-${name}`, input = element("input", { id, type: "range", step: 1, "aria-label": inWords(i), title: name });
    const output = element("output", { for: id }), ends = [element("small"), element("small")];
    const row = element("div", { class: "angle" }, element("label", { for: id }, text), ends[0], input, ends[1], output);
    input.addEventListener("input", () => {
      playing = 0;
      if (i < 45) { state.angles[i] = Number(input.value); state.pose = null; } else state.view[i - 45] = Number(input.value);
      state.active = i;
      changed();
    });
    input.addEventListener("focus", () => { state.active = i; changed(); });
    sliders[i] = { row, input, output, ends };
    return row;
  }

  function choose(index) {
    [...$("tabs").children].forEach((tab, k) => {
      tab.setAttribute("aria-selected", k === index);
      tab.tabIndex = k === index ? 0 : -1;
      $("panels").children[k].hidden = k !== index;
    });
    $("descend").textContent = `Descend: ${$("tabs").children[index].textContent}`;
    changed();
  }

  function addPanel(name, groups) {
    const index = $("tabs").children.length, id = `panel-${name}`;
    const tab = element("button", { role: "tab", id: `tab-${name}`, "aria-controls": id }, title(name));
    tab.addEventListener("click", () => choose(index));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const tabs = $("tabs").children, next = (index + step + tabs.length) % tabs.length;
      choose(next);
      tabs[next].focus();
    });
    $("tabs").append(tab);
    const sets = groups.map(({ place, rows }) =>
      element("fieldset", { "aria-label": place }, element("h2", {}, place), element("div", {}, ...rows)));
    $("panels").append(element("div", { role: "tabpanel", id, "aria-labelledby": `tab-${name}` }, ...sets));
  }

  function build() {
    for (const finger of hand.fingers) {
      const groups = [];
      hand.angles.forEach((angle, i) => {
        if (angle.finger !== finger) return;
        if (groups.at(-1)?.place !== angle.place) groups.push({ place: angle.place, rows: [] });
        groups.at(-1).rows.push(addSlider(i, angle.plain, angle.name));
      });
      addPanel(finger, groups);
    }
    addPanel("view", [{ place: "whole hand", rows: hand.view.map(({ name, plain }, k) => addSlider(45 + k, plain, name)) }]);
    for (const name of Object.keys(hand.poses)) {
      const button = element("button", name.length === 1 ? { class: "letter", title: `the letter ${name}, signed` } : {}, name);
      button.addEventListener("click", () => { playing = 0; setPose(name, namedAngles(hand, name)); });
      $("poses").append(button);
    }
    const targets = ["nothing", "pose A", "pose B", ...Object.keys(hand.poses)];
    $("target").append(...targets.map((name) => element("option", {}, name)));
  }

  function connect() {
    const choice = (id, key, read) => $(id).addEventListener("input", () => { state[key] = read($(id)); changed(); });
    choice("radius", "radius", (input) => Number(input.value));
    choice("target", "target", (select) => select.value);
    for (const name of ["bones", "points", "along"]) choice(name, name, (box) => box.checked);
    $("beyond").addEventListener("input", () => {
      state.beyond = $("beyond").checked;
      if (!state.beyond) state.angles = state.angles.map((angle, i) => clamp(angle, limits(i)));
      changed();
    });
    $("blend").addEventListener("input", () => { playing = 0; setBlend(Number($("blend").value)); });
    for (const which of ["a", "b"]) {
      $(`keep-${which}`).addEventListener("click", () => {
        state[which] = { name: state.pose ?? "own", angles: Float64Array.from(state.angles) };
        say(`Kept as ${which.toUpperCase()}.`);
        changed();
      });
    }
    $("play").addEventListener("click", () => (playing ? pause() : play()));
    $("descend").addEventListener("click", descend);
    $("reset").addEventListener("click", reset);
    $("copy").addEventListener("click", copy);
    $("save").addEventListener("click", save);
    let dragged = null;
    $("mesh").addEventListener("pointerdown", (event) => {
      $("mesh").setPointerCapture(event.pointerId);
      dragged = [event.clientX, event.clientY];
    });
    $("mesh").addEventListener("pointermove", (event) => {
      if (!dragged) return;
      turn(-(event.clientX - dragged[0]) * 0.6, (event.clientY - dragged[1]) * 0.6);
      dragged = [event.clientX, event.clientY];
    });
    for (const end of ["pointerup", "pointercancel"]) $("mesh").addEventListener(end, () => { dragged = null; });
    const keys = { ArrowLeft: [5, 0], ArrowRight: [-5, 0], ArrowUp: [0, -5], ArrowDown: [0, 5], q: [0, 0, -5], e: [0, 0, 5] };
    $("mesh").addEventListener("keydown", (event) => {
      if (event.key !== "0" && !keys[event.key]) return;
      event.preventDefault();
      if (event.key === "0") state.view = [0, 0, 0];
      turn(...(keys[event.key] ?? [0, 0]));
    });
    window.addEventListener("resize", changed);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  }

  function reset() {
    playing = 0;
    state = fresh();
    target = null;
    choose(hand.fingers.indexOf(hand.angles[state.active].finger));
    changed();
  }

  build();
  connect();
  reset();
}

if (typeof HAND_DATA === "undefined") {
  document.getElementById("page").innerHTML =
    '<p class="alert">hand_data.js is missing here: run <code>make hand</code> and open build/hand_page/index.html.</p>';
} else {
  startPage();
}
