// The method in the browser, without a library, as in Python: kinematics, skinning (Eq. 2), the splat (Eq. 3-5) and the losses
// (Eq. 6-8). Millimetres, radians and quaternions xyzw, degrees for people; camera axes (x right, y down, z away). The page of
// the hand and the notebook's viewer (viewer/src) share it; tests/test_hand_page.py compares it with Python.
"use strict";

const JOINTS = 16;
const RADIANS = Math.PI / 180;

/** Bytes of a base64 text as a typed array. */
function decode(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

/** The data of write.py with their arrays decoded. */
function readHand(data) {
  const hand = { ...data, faces: decode(data.faces, Uint16Array) };
  for (const [name, text] of Object.entries(data.arrays)) hand[name] = decode(text, Float32Array);
  hand.cloud_shares = shares(hand.cloud_weights);
  hand.vertex_shares = shares(hand.weights);
  return hand;
}

/** The joints that move each point, and how much: weights [N, 16] without their zeros. Point i has those from start[i] on. */
function shares(weights) {
  const count = weights.length / JOINTS, start = new Uint32Array(count + 1), joint = [], weight = [];
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < JOINTS; j++) {
      if (weights[JOINTS * i + j] !== 0) { joint.push(j); weight.push(weights[JOINTS * i + j]); }
    }
    start[i + 1] = joint.length;
  }
  return { start, joint: Uint8Array.from(joint), weight: Float32Array.from(weight) };
}

/** R_x(flexion) R_z(deviation) R_y(twist) as a quaternion. */
function fromEuler(flexion, deviation, twist) {
  const [sa, sb, sc] = [flexion, deviation, twist].map((angle) => Math.sin(angle / 2));
  const [ca, cb, cc] = [flexion, deviation, twist].map((angle) => Math.cos(angle / 2));
  return [sa * cb * cc - ca * sb * sc, ca * cb * sc - sa * sb * cc, sa * cb * sc + ca * sb * cc, ca * cb * cc + sa * sb * sc];
}

function multiply([ax, ay, az, aw], [bx, by, bz, bw]) {
  return [
    aw * bx + ax * bw + ay * bz - az * by, aw * by - ax * bz + ay * bw + az * bx,
    aw * bz + ax * by - ay * bx + az * bw, aw * bw - ax * bx - ay * by - az * bz,
  ];
}

/** The wrist of a raised hand, from degrees: zero angles show the palm, fingers up. */
function viewRotation([yaw, pitch, roll]) {
  const about = (axis, degrees) => {
    const q = [0, 0, 0, Math.cos(degrees * RADIANS / 2)];
    q[axis] = Math.sin(degrees * RADIANS / 2);
    return q;
  };
  return [about(2, roll), about(0, pitch), about(1, yaw), [1, 0, 0, 0]].reduce(multiply);
}

/** theta: 16 quaternions, the view's and those of 45 joint angles in degrees. */
function poseRotations(angles, view) {
  const theta = [viewRotation(view)];
  for (let i = 0; i < angles.length; i += 3) {
    theta.push(fromEuler(angles[i] * RADIANS, angles[i + 1] * RADIANS, angles[i + 2] * RADIANS));
  }
  return theta;
}

/** Rows of a rotation matrix, with a last column of zeros: [3, 4]. */
function rotationMatrix([x, y, z, w]) {
  return [
    1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y), 0,
    2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x), 0,
    2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y), 0,
  ];
}

/** A B of two rigid motions [3, 4], each read from its offset, into `out` at `at`. */
function compose(a, atA, b, atB, out, at) {
  for (let r = 0; r < 3; r++) {
    const x = a[atA + 4 * r], y = a[atA + 4 * r + 1], z = a[atA + 4 * r + 2];
    for (let c = 0; c < 4; c++) out[at + 4 * r + c] = x * b[atB + c] + y * b[atB + 4 + c] + z * b[atB + 8 + c];
    out[at + 4 * r + 3] += a[atA + 4 * r + 3];
  }
}

/** Joint frames [16, 3, 4] in mm: along a chain T_joint = T_parent [R_neutral | bone] [R(q) | 0]. `place_mm`: off the middle. */
function forwardKinematics(hand, theta, place_mm = [0, 0, 0]) {
  const T = new Float64Array(12 * JOINTS), neutral = new Float64Array(12);
  const R = rotationMatrix(theta[0]), [x, y, z] = hand.anchor_mm;
  // the wrist is where the middle finger's base comes to lie in its place: by default the origin, the middle of the cube
  for (let r = 0; r < 3; r++) R[4 * r + 3] = place_mm[r] - (R[4 * r] * x + R[4 * r + 1] * y + R[4 * r + 2] * z);
  T.set(R);
  for (let j = 1; j < JOINTS; j++) {
    compose(T, 12 * hand.parents[j], hand.T_parent_neutral, 12 * j, neutral, 0);
    compose(neutral, 0, rotationMatrix(theta[j]), 0, T, 12 * j);
  }
  return T;
}

/** The matrices M of Eq. 2, [16, 3, 4]: from the model's rest pose to the posed hand. */
function skinningTransforms(hand, T) {
  const M = new Float64Array(12 * JOINTS);
  for (let j = 0; j < JOINTS; j++) compose(T, 12 * j, hand.T_rest_wrist, 12 * j, M, 12 * j);
  return M;
}

/** Eq. 2: posed points in mm, p' = sum_j w_j M_j p. */
function skin(rest, { start, joint, weight }, M) {
  const posed = new Float32Array(rest.length);
  for (let i = 0; 3 * i < rest.length; i++) {
    const x = rest[3 * i], y = rest[3 * i + 1], z = rest[3 * i + 2];
    for (let k = start[i]; k < start[i + 1]; k++) {
      const w = weight[k], m = 12 * joint[k];
      posed[3 * i] += w * (M[m] * x + M[m + 1] * y + M[m + 2] * z + M[m + 3]);
      posed[3 * i + 1] += w * (M[m + 4] * x + M[m + 5] * y + M[m + 6] * z + M[m + 7]);
      posed[3 * i + 2] += w * (M[m + 8] * x + M[m + 9] * y + M[m + 10] * z + M[m + 11]);
    }
  }
  return posed;
}

/** Points in mm to (u px, v px, z in the cube) of a picture `size` wide: orthographic, the first pixel's centre at 0. */
function toPixels(hand, points_mm, size) {
  const pixels = new Float32Array(points_mm.length);
  for (let i = 0; i < pixels.length; i += 3) {
    pixels[i] = (points_mm[i] / hand.cube_mm + 0.5) * size - 0.5;
    pixels[i + 1] = (points_mm[i + 1] / hand.cube_mm + 0.5) * size - 0.5;
    pixels[i + 2] = points_mm[i + 2] / hand.cube_mm + 0.5;
  }
  return pixels;
}

/** Eq. 3-5: each point is a bump (1 - z) (1 - (d / r)^2)^2 within r; a pixel takes the largest, 0 where there is none. */
function splat(points, radius, size) {
  const depth = new Float32Array(size * size), squared = radius * radius;
  for (let i = 0; i < points.length; i += 3) {
    const u = points[i], v = points[i + 1], near = 1 - points[i + 2];
    const last = Math.min(size - 1, Math.floor(v + radius));
    for (let row = Math.max(0, Math.ceil(v - radius)); row <= last; row++) {
      const rest = squared - (row - v) * (row - v); // what is left of r^2 for the columns
      if (rest <= 0) continue;
      const half = Math.sqrt(rest), end = Math.min(size - 1, Math.floor(u + half));
      for (let column = Math.max(0, Math.ceil(u - half)); column <= end; column++) {
        const inside = (rest - (column - u) * (column - u)) / squared; // 1 - (d / r)^2
        const value = near * inside * inside;
        if (value > depth[row * size + column]) depth[row * size + column] = value;
      }
    }
  }
  return depth;
}

/** A pose's frames, matrices and depth image. */
function look(hand, angles, view, radius) {
  const T = forwardKinematics(hand, poseRotations(angles, view));
  const M = skinningTransforms(hand, T);
  const points_mm = skin(hand.cloud_mm, hand.cloud_shares, M);
  return { T, M, points_mm, depth: splat(toPixels(hand, points_mm, hand.image_size), radius, hand.image_size) };
}

/** Eq. 6 and the measure of Fig. 7: mean absolute and mean squared difference of two depth images. */
function imageLosses(rendered, target) {
  let absolute = 0, square = 0;
  for (let i = 0; i < rendered.length; i++) {
    const difference = rendered[i] - target[i];
    absolute += Math.abs(difference);
    square += difference * difference;
  }
  return { depth: absolute / rendered.length, mse: square / rendered.length };
}

/** The 21 points: each finger's three joints, then its tip. [21][3] in mm. */
function jointPositions(hand, T) {
  const points = [];
  for (let j = 0; j < JOINTS; j++) points.push([T[12 * j + 3], T[12 * j + 7], T[12 * j + 11]]);
  hand.tip_parents.forEach((j, finger) => {
    const [x, y, z] = hand.tip_bones_mm.subarray(3 * finger, 3 * finger + 3);
    points.push([0, 4, 8].map((r) => T[12 * j + r] * x + T[12 * j + r + 1] * y + T[12 * j + r + 2] * z + T[12 * j + r + 3]));
  });
  return hand.point_order.map((place) => points[place]);
}

/** Eq. 7: how deep points lie in the cylinders around other bones, in mm. */
function collisionLoss(hand, joints_mm) {
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  let sum = 0;
  hand.point_parents.forEach((parent, child) => {
    if (parent < 0) return;
    const a = joints_mm[child], axis = joints_mm[parent].map((x, k) => x - a[k]), length = Math.sqrt(dot(axis, axis));
    joints_mm.forEach((point, index) => {
      if (index === child || index === parent) return;
      const away = point.map((x, k) => x - a[k]), along = dot(away, axis) / length;
      const distance = Math.sqrt(Math.max(0, dot(away, away) - along * along));
      sum += Math.max(0, Math.min(along, length - along, hand.finger_radius_mm - distance));
    });
  });
  return sum / joints_mm.length;
}

/** Eq. 8: by how much angles in degrees leave their range, summed, in rad. (The sliders' angles are Euler angles already.) */
function physicalLoss(hand, angles) {
  const outside = hand.angles.map(({ low, high }, i) => Math.max(0, low - angles[i], angles[i] - high));
  return outside.reduce((a, b) => a + b, 0) * RADIANS;
}

/** A named pose as 45 angles in degrees. */
const namedAngles = (hand, name) => Float64Array.from(hand.angles, (angle) => hand.poses[name][angle.name] ?? 0);

/** Python that makes this pose and its depth image. */
function asPython(hand, angles, view) {
  const number = (value) => String(Math.round(value * 100) / 100);
  const listed = (pairs) => {
    const moved = pairs.filter(([, degrees]) => number(degrees) !== "0");
    return `{${moved.map(([name, degrees]) => `"${name}": ${number(degrees)}`).join(", ")}}`;
  };
  const pose = listed(hand.angles.map((angle, i) => [angle.name, angles[i]]));
  const turned = listed(hand.view.map((part, i) => [part.name, view[i]]));
  return `from hrlib.companion.hand_explorer import look
from hrlib.hand.named_poses import pose
from hrlib.hand.rig import load_hand

angles_deg = ${pose}
rotations = pose(angles_deg, ${turned}${physicalLoss(hand, angles) > 0 ? ", within_limits=False" : ""})  # [1, 16, 4], xyzw
depth = look(load_hand(), rotations).depth  # [120, 120]
`;
}

if (typeof module !== "undefined") {
  module.exports = {
    JOINTS, readHand, shares, look, poseRotations, forwardKinematics, skinningTransforms, skin, toPixels, splat, imageLosses,
    jointPositions, collisionLoss, physicalLoss, namedAngles, asPython,
  };
}
