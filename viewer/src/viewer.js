// The hand in the browser: a mesh, its skeleton and its cloud, skinned here by 16 bone matrices (Eq. 2), and its depth images.
// A move of a slider costs 768 bytes; vertices and weights come once. Lengths in mm, camera frame (x right, y down, z forward).
import {
  AmbientLight, BufferAttribute, BufferGeometry, Color, DirectionalLight, DoubleSide, Group, LineBasicMaterial,
  LineSegments, Mesh, MeshLambertMaterial, PerspectiveCamera, Points, PointsMaterial, Scene, WebGLRenderer,
} from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
import { JOINTS, shares, skin } from "../../docs/hand_page/method.js";
import { floats, integers } from "./arrays.js";
import { follow } from "./sliders.js";
import { splats } from "./splats.js";

// One hue for each finger's three joints, grey for the wrist: thumb, index, middle, ring, pinky.
const HUES = ["#9aa5b1", "#d55e00", "#56b4e9", "#009e73", "#cc79a7", "#e69f00"];
const PARTS = { mesh: "mesh", skeleton: "skeleton", cloud: "cloud, by weight" };

/** The colour of each point: those of the fingers, mixed by its weights. */
function weightColours(weights) {
  const hues = HUES.map((hue) => new Color(hue));
  const colours = new Float32Array((weights.length / JOINTS) * 3);
  for (let i = 0; i < weights.length / JOINTS; i++) {
    for (let j = 0; j < JOINTS; j++) {
      const hue = hues[j === 0 ? 0 : 1 + Math.floor((j - 1) / 3)];
      const shade = j === 0 ? 1 : 1 - 0.22 * ((j - 1) % 3); // darker towards the tip
      const w = weights[JOINTS * i + j] * shade;
      colours[3 * i] += w * hue.r; colours[3 * i + 1] += w * hue.g; colours[3 * i + 2] += w * hue.b;
    }
  }
  return colours;
}

/** A skinned set of points as a geometry: pose(bones) moves it, `rest` may be replaced by another hand's. */
function skinned(rest, weights) {
  const geometry = new BufferGeometry(), position = new BufferAttribute(new Float32Array(rest), 3), mixed = shares(weights);
  geometry.setAttribute("position", position);
  const part = { rest, geometry };
  part.pose = (bones) => {
    position.array.set(skin(part.rest, mixed, bones));
    position.needsUpdate = true;
  };
  return part;
}

/** Smooth normals of a mesh: the sum of its triangles' around each vertex. The shader gives them their length. */
function setNormals(geometry) {
  const faces = geometry.index.array, at = geometry.attributes.position.array;
  if (!geometry.attributes.normal) geometry.setAttribute("normal", new BufferAttribute(new Float32Array(at.length), 3));
  const normals = geometry.attributes.normal.array.fill(0);
  for (let f = 0; f < faces.length; f += 3) {
    const a = 3 * faces[f], b = 3 * faces[f + 1], c = 3 * faces[f + 2];
    const ux = at[b] - at[a], uy = at[b + 1] - at[a + 1], uz = at[b + 2] - at[a + 2];
    const vx = at[c] - at[a], vy = at[c + 1] - at[a + 1], vz = at[c + 2] - at[a + 2];
    const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
    for (const corner of [a, b, c]) {
      normals[corner] += x; normals[corner + 1] += y; normals[corner + 2] += z;
    }
  }
  geometry.attributes.normal.needsUpdate = true;
}

function render({ model, el }) {
  el.classList.add("hrlib-viewer");
  const size = model.get("size");
  let renderer;
  try {
    renderer = new WebGLRenderer({ antialias: true, alpha: true, preserveDrawingBuffer: true });
  } catch (error) {
    el.innerHTML = '<p role="alert">This browser draws no WebGL: the picture beside shows the same hand.</p>';
    return;
  }
  renderer.setPixelRatio(Math.min(window.devicePixelRatio || 1, 2));
  renderer.setSize(size, size);
  const canvas = renderer.domElement;
  canvas.className = "hrlib-hand";
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", model.get("label"));
  canvas.title = "drag, or arrow keys: turn the view; wheel, or + and -: nearer and farther; 0: back to the camera";

  const scene = new Scene();
  scene.add(new AmbientLight(0xffffff, 1.1));
  const light = new DirectionalLight(0xffffff, 2.2);
  light.position.set(-200, -300, -500);
  scene.add(light);
  const hand = new Group();
  scene.add(hand);

  const mesh = skinned(floats(model.get("vertices")), floats(model.get("weights")));
  mesh.geometry.setIndex(new BufferAttribute(integers(model.get("faces")), 1));
  const skinColour = new MeshLambertMaterial({ color: "#d9a68b", side: DoubleSide });
  const surface = new Mesh(mesh.geometry, skinColour);
  const joints = skinned(floats(model.get("points")), floats(model.get("point_weights")));
  joints.geometry.setIndex(new BufferAttribute(integers(model.get("bones_of_points")), 1));
  const onTop = { depthTest: false, transparent: true };
  const lines = new LineSegments(joints.geometry, new LineBasicMaterial({ color: "#3d6f9e", linewidth: 2, ...onTop }));
  const dots = new Points(joints.geometry, new PointsMaterial({ color: "#c8553d", size: 6, ...onTop }));
  const skeleton = new Group().add(lines, dots);
  skeleton.renderOrder = 2;
  const weights = floats(model.get("cloud_weights"));
  const cloud = skinned(floats(model.get("cloud")), weights);
  cloud.geometry.setAttribute("color", new BufferAttribute(weightColours(weights), 3));
  const points = new Points(cloud.geometry, new PointsMaterial({ size: 3.2, vertexColors: true }));
  hand.add(surface, skeleton, points);
  const parts = { mesh: surface, skeleton, cloud: points };
  for (const part of [surface, lines, dots, points]) part.frustumCulled = false; // it is in sight; no bounds after each move
  const depths = model.get("splat").image_size ? splats(model) : null;

  const camera = new PerspectiveCamera(34, 1, 10, 3000);
  camera.up.set(0, -1, 0); // y points down
  const controls = new OrbitControls(camera, canvas);
  controls.enablePan = false;
  const home = () => {
    camera.position.set(0, 0, -430);
    controls.target.set(0, 0, 0);
    controls.update();
  };

  let asked = false, bones = null, posed = null;
  const poseParts = () => { // those in sight
    if (surface.visible) { mesh.pose(bones); setNormals(mesh.geometry); }
    if (skeleton.visible) joints.pose(bones);
    if (points.visible) cloud.pose(bones);
    depths?.draw(bones);
    posed = bones;
  };
  const draw = () => {
    if (asked) return; // once for all that changes before the next picture
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      if (posed !== bones) poseParts();
      renderer.render(scene, camera);
      canvas.dataset.drawn = 1 + Number(canvas.dataset.drawn || 0);
    });
  };
  const again = () => { posed = null; draw(); };
  const reshape = () => { // another hand, or target
    for (const [part, name] of [[mesh, "vertices"], [joints, "points"], [cloud, "cloud"]]) {
      part.rest = floats(model.get(name));
    }
    depths?.read();
    again();
  };

  const turn = (sideways, upwards) => {
    const offset = camera.position.clone().sub(controls.target);
    offset.applyAxisAngle(camera.up, sideways);
    const right = offset.clone().cross(camera.up).normalize();
    const turned = offset.clone().applyAxisAngle(right, upwards);
    if (Math.abs(turned.clone().normalize().dot(camera.up)) < 0.98) offset.copy(turned);
    camera.position.copy(controls.target).add(offset);
    controls.update();
    draw();
  };
  const nearer = (factor) => {
    const offset = camera.position.clone().sub(controls.target).multiplyScalar(factor).clampLength(150, 1500);
    camera.position.copy(controls.target).add(offset);
    controls.update();
    draw();
  };

  // Where the kernel turns the hand itself, so that all pictures of it turn together: whole degrees to the right and down, and
  // the next ones only after the hand has moved or, at the end of its range, has had its time to.
  const byKernel = model.get("turned_by_kernel");
  let right = 0, down = 0, waiting = null;
  const send = () => {
    const whole = [Math.trunc(right), Math.trunc(down)];
    if (waiting !== null || !(whole[0] || whole[1])) return;
    right -= whole[0]; down -= whole[1];
    model.send({ do: "turn", right_deg: whole[0], down_deg: whole[1] });
    waiting = setTimeout(answered, 150);
  };
  const answered = () => { clearTimeout(waiting); waiting = null; send(); };
  const ask = (moreRight, moreDown) => { right += moreRight; down += moreDown; send(); };
  if (byKernel) {
    controls.enableRotate = false;
    model.on("change:bones", answered);
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) ask((180 / size) * event.movementX, (180 / size) * event.movementY);
    });
  }

  const arrow = (sideways, upwards) => byKernel ? ask(-60 * sideways, -60 * upwards) : turn(sideways, upwards);
  const front = () => { home(); draw(); if (byKernel) model.send({ do: "front" }); };
  const keys = {
    ArrowLeft: () => arrow(0.1, 0), ArrowRight: () => arrow(-0.1, 0), ArrowUp: () => arrow(0, 0.1),
    ArrowDown: () => arrow(0, -0.1), "+": () => nearer(0.9), "-": () => nearer(1.1), 0: front,
  };
  canvas.addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation(); // the notebook has the arrow keys otherwise
    act();
  });
  controls.addEventListener("change", draw);

  el.append(canvas);
  const choices = document.createElement("div");
  choices.className = "hrlib-viewer-parts";
  choices.style.maxWidth = `${size}px`;
  for (const [name, label] of Object.entries(PARTS)) {
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = model.get("shown").includes(name);
    box.addEventListener("change", () => {
      const shown = model.get("shown").filter((other) => other !== name);
      model.set("shown", box.checked ? [...shown, name] : shown);
      model.save_changes();
    });
    model.on("change:shown", () => { box.checked = model.get("shown").includes(name); });
    const around = document.createElement("label");
    around.append(box, ` ${label}`);
    choices.append(around);
  }
  el.append(choices, ...(depths ? [depths.el] : []));
  const show = () => {
    for (const [name, part] of Object.entries(parts)) part.visible = model.get("shown").includes(name);
    skinColour.transparent = parts.skeleton.visible;
    again();
  };
  model.on("change:vertices", reshape);
  model.on("change:target", reshape);
  model.on("change:shown", show);
  const save = () => {
    const link = document.createElement("a");
    link.href = canvas.toDataURL("image/png");
    link.download = "hand.png";
    link.click();
  };
  const messages = {
    save,
    home: () => { home(); draw(); },
    copy: ({ text }) => navigator.clipboard?.writeText(text).catch(() => {}), // the text also stands in the page
  };
  model.on("msg:custom", (message) => messages[message.do]?.(message));
  home();
  follow(model, (next) => { bones = next; draw(); });
  show();
  return () => {
    controls.dispose();
    renderer.dispose();
    for (const part of [mesh, joints, cloud]) part.geometry.dispose();
  };
}

export default { render };
