// A slider moved by hand poses the hand at once, here; the kernel's answer comes later and says the same.
import { forwardKinematics, JOINTS, poseRotations, skinningTransforms } from "../../docs/hand_page/method.js";
import { floats } from "./arrays.js";

const ANGLES = 45, VIEW = 3;
const SAME = 0.01; // of two matrices' entries, mm and ratios; a degree or a millimetre changes more
const SETTLED_MS = 1000;
const near = (a, b) => a.every((value, i) => Math.abs(value - b[i]) < SAME);

/** The bone matrices of slider values: 45 angles and 3 of the view in degrees, 3 of the place in mm. */
function bonesOf(model, values) {
  const frames = floats(model.get("frames"));
  const hand = {
    parents: model.get("parents"), T_parent_neutral: frames.subarray(0, 12 * JOINTS),
    T_rest_wrist: frames.subarray(12 * JOINTS, 24 * JOINTS), anchor_mm: frames.subarray(24 * JOINTS),
  };
  const theta = poseRotations(values.slice(0, ANGLES), values.slice(ANGLES, ANGLES + VIEW));
  return Float32Array.from(skinningTransforms(hand, forwardKinematics(hand, theta, values.slice(ANGLES + VIEW))));
}

/**
 * Whose bones to show, by `pose(bones)`: those of sliders moved by hand at once, those of the kernel when they say something
 * else. Its answers to earlier moves are late, not news; but some moves get no answer, so in the end the kernel is right.
 */
export async function follow(model, pose) {
  let foretold = [], shown = null, settling = null;
  const show = (bones) => { shown = bones; pose(bones); };
  const told = () => {
    const bones = floats(model.get("bones")), at = foretold.findIndex((other) => near(other, bones));
    foretold = at < 0 ? [] : foretold.slice(at + 1);
    if (at < 0) show(bones);
    clearTimeout(settling);
    settling = setTimeout(() => {
      foretold = [];
      if (!near(shown, bones)) show(bones);
    }, SETTLED_MS);
  };
  model.on("change:bones", told);
  show(floats(model.get("bones")));
  const names = model.get("sliders");
  if (!names.length || !model.widget_manager?.get_model) return;
  const sliders = await Promise.all(names.map((name) => model.widget_manager.get_model(name.replace("IPY_MODEL_", ""))));
  for (const slider of sliders) {
    slider.on("change:value", (_, __, options) => {
      if (!options?.updated_view) return; // the kernel set it, and sends the bones, too
      clearTimeout(settling);
      foretold.push(bonesOf(model, sliders.map((other) => other.get("value"))));
      show(foretold.at(-1));
    });
  }
}
